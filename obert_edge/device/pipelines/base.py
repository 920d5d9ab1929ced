"""What the predictors share: reading inputs, softmax, and the table of task types."""

from __future__ import annotations

import dataclasses
import importlib
from dataclasses import dataclass
from typing import Any, ClassVar, Dict, Iterable, List, Mapping, Optional, Protocol, Sequence, Tuple

import numpy as np

from obert_edge.bundle.manifest import Manifest
from obert_edge.device.pipelines.results import Prediction
from obert_edge.device.tokenizers.tokenizer import Encoding, Tokenizer
from obert_edge.errors import BundleError, InputError, UsageError

#: Texts run through the engine at once. It packs them, so a larger batch only takes more memory.
BATCH = 16


class Runner(Protocol):
    """Runs encodings through the model (a session)."""

    def run_encodings(self, encodings: Sequence[Encoding]) -> Dict[str, np.ndarray]:
        """Results of the padded batch of ``encodings``, by name."""
        ...


@dataclass(frozen=True)
class Predictor:
    """Turns texts into answers; subclasses add their options as fields.

    Args:
        manifest: of the bundle.
        tokenizer: of the bundle.
        runner: the model.
    """

    manifest: Manifest
    tokenizer: Tokenizer
    runner: Runner

    #: Names of the keys a dict input may have: the first text and the second.
    KEYS: ClassVar[Tuple[str, str]] = ("text", "text_pair")
    #: Whether the second text must be there (True), may be (None) or must not (False).
    PAIR: ClassVar[Optional[bool]] = None

    def predict(self, texts: Sequence[Tuple[str, Optional[str]]]) -> List[Prediction]:
        """One answer per text (or pair).

        Raises:
            InputError: a text does not fit the task.
        """
        raise NotImplementedError

    def read(self, item: Any) -> Tuple[str, Optional[str]]:
        """A text, a pair or a dict as ``(text, second text or None)``.

        Raises:
            InputError: it is none of these, or has one text too few or too many.
        """
        first, second = self.KEYS
        text: Any
        pair: Any = None
        if isinstance(item, Mapping):
            unknown = [key for key in item if key not in self.KEYS]
            if first not in item or unknown:
                raise InputError(
                    f"an input has the keys {sorted(map(str, item))}; expected {first!r} and, for a pair, "
                    f"{second!r}",
                    hint=f'pass {{"{first}": ...}}',
                )
            text, pair = item[first], item.get(second)
        elif isinstance(item, tuple) and len(item) == 2:
            text, pair = item
        else:
            text = item
        for part in (text, pair):
            if not isinstance(part, str) and not (part is pair and part is None):
                raise InputError(
                    f"an input holds {type(part).__name__}; expected str",
                    hint="pass a text, a tuple of two texts, or a dict of texts",
                )
        if (self.PAIR is True) != (pair is not None) and self.PAIR is not None:
            expected = f"a pair ({first}, {second})" if self.PAIR else "one text"
            raise InputError(
                f"this bundle's task, {self.manifest.task.type}, takes {expected}",
                hint=f"pass {expected} for each input",
            )
        return text, pair

    def encode(self, texts: Iterable[Tuple[str, Optional[str]]]) -> List[Encoding]:
        """Each text (or pair) cut to what the model takes."""
        limit = self.manifest.model.max_length
        return [self.tokenizer.encode(text, pair, max_length=limit) for text, pair in texts]


#: Task type of the manifest -> module and class of its predictor.
_PREDICTORS = {
    "sequence-classification": ("classification", "Classifier"),
    "question-answering": ("question_answering", "QuestionAnswerer"),
    "token-classification": ("token_classification", "EntityFinder"),
    "masked-lm": ("fill_mask", "MaskFiller"),
    "encoder": ("feature_extraction", "Embedder"),
}


def create_predictor(
    manifest: Manifest, tokenizer: Tokenizer, runner: Runner, options: Mapping[str, Any]
) -> Predictor:
    """The predictor of the bundle's task.

    Args:
        manifest: of the bundle.
        tokenizer: of the bundle.
        runner: the model.
        options: the predictor's own fields, by name.

    Raises:
        UsageError: an option this task does not have.
        BundleError: a task type this runtime does not know.
    """
    if manifest.task.type not in _PREDICTORS:
        raise BundleError(
            f"the bundle's task is {manifest.task.type!r}; predict() knows {', '.join(_PREDICTORS)}",
            hint="use `Session.run` with token ids, or a newer obert-edge",
        )
    module, name = _PREDICTORS[manifest.task.type]
    predictor = getattr(importlib.import_module(f"obert_edge.device.pipelines.{module}"), name)
    own = {f.name for f in dataclasses.fields(predictor)} - {f.name for f in dataclasses.fields(Predictor)}
    unknown = sorted(set(options) - own)
    if unknown:
        raise UsageError(
            f"predict() of a {manifest.task.type} bundle has no option {unknown[0]!r}",
            hint=f"its options are {', '.join(sorted(own)) or 'none'}",
        )
    created = predictor(manifest, tokenizer, runner, **options)
    assert isinstance(created, Predictor)
    return created


def batches(items: Sequence[Any]) -> Iterable[Sequence[Any]]:
    """Cut a list into runs of at most ``BATCH``."""
    return (items[at : at + BATCH] for at in range(0, len(items), BATCH))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities along the last axis, float64."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    result: np.ndarray = shifted / shifted.sum(axis=-1, keepdims=True)
    return result


def label_names(manifest: Manifest, channels: int) -> List[str]:
    """Names of the classes; ``LABEL_i`` where the manifest has none, as transformers names them."""
    labels = list(manifest.task.labels)
    return labels + [f"LABEL_{index}" for index in range(len(labels), channels)]
