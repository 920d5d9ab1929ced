"""What pipelines share: the base classes, reading inputs, batches and softmax."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, Dict, Iterable, List, Mapping, Optional, Protocol, Sequence, Tuple

import numpy as np

from obert_edge.bundle.manifest import Manifest, TaskFacts
from obert_edge.device.pipelines.modules import Modules
from obert_edge.device.tokenizers.tokenizer import Encoding, Tokenizer, Windows
from obert_edge.errors import InputError, UsageError

#: Prompts that every model has, whatever its files say.
EMPTY_PROMPTS = ("query", "document")
#: Texts run through the engine at once. It skips padding, so a larger batch only takes more memory.
BATCH = 16


class Model(Protocol):
    """Runs tokenized texts through a model; a session is one."""

    def run_encodings(self, encodings: Sequence[Encoding]) -> Mapping[str, np.ndarray]:
        """Results of the padded batch of ``encodings``, by name; see ``Session.run``."""
        ...

    @property
    def modules(self) -> Modules:
        """The modules behind the model's program; asked for only where the manifest lists some."""
        ...


@dataclass(frozen=True)
class Prediction:
    """What a pipeline makes of one input: a small record that turns into JSON."""

    def to_dict(self) -> Dict[str, Any]:
        """The answer as plain Python values, ready for ``json.dumps``."""
        plain = _plain(dataclasses.asdict(self))
        assert isinstance(plain, dict)
        return plain


@dataclass(frozen=True)
class Pipeline:
    """Turns texts into predictions, for one type of task; subclasses add their options as fields.

    Args:
        manifest: of the bundle.
        tokenizer: of the bundle.
        model: what runs the tokenized texts.
    """

    manifest: Manifest
    tokenizer: Tokenizer
    model: Model

    #: The keys that an input given as a dict has: of the first text, and of the second.
    KEYS: ClassVar[Tuple[str, str]] = ("text", "text_pair")
    #: Whether the second text must be there (True), may be (None) or must not (False).
    PAIR: ClassVar[Optional[bool]] = None
    #: Whether two texts side by side are by default one input, a pair, where the task takes both.
    SIDE_BY_SIDE: ClassVar[bool] = True

    @classmethod
    def texts_stand_alone(cls) -> bool:
        """Whether each of the texts of a command line is an input of its own, and two are no pair."""
        return cls.PAIR is False or not cls.SIDE_BY_SIDE

    @classmethod
    def without_effect(cls, manifest: Manifest) -> Tuple[str, ...]:
        """Names of options that change nothing for this bundle, and are refused."""
        return ()

    def predict(self, texts: Sequence[Tuple[str, Optional[str]]]) -> List[Prediction]:
        """One prediction per text (or pair).

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
        if isinstance(item, str):
            text = item
        elif isinstance(item, Mapping):
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
        for part in (text,) if pair is None else (text, pair):
            if not isinstance(part, str):
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

    def encode(self, texts: Iterable[Tuple[str, Optional[str]]], prompt: str = "") -> List[Encoding]:
        """Each text (or pair), behind a prompt, cut to what the model takes."""
        limit = self.manifest.model.max_length
        return [self.tokenizer.encode(prompt + text, pair, max_length=limit) for text, pair in texts]

    def count_tokens(self, text: str, pair: Optional[str], enough: int) -> int:
        """How many tokens are run for a text (or pair), special ones included.

        Args:
            text: the text.
            pair: the second text.
            enough: from here on any number may be given, so that a text need not be cut to its end.
        """
        return len(self.encode([(text, pair)])[0])

    def answer_characters(self, text: str, pair: Optional[str]) -> int:
        """How many characters of texts the answer for a text (or pair) may hold: about so many, at most."""
        return len(text) + len(pair or "")


@dataclass(frozen=True)
class WindowedPipeline(Pipeline):
    """A pipeline that reads a text which is too long in overlapping windows."""

    @property
    def window_length(self) -> int:
        """Tokens of a window, at most."""
        return self.manifest.model.max_length

    def windows(self, text: str, pair: Optional[str]) -> Windows:
        """The windows of a text or a pair.

        Raises:
            InputError: nothing of the long text fits beside the first.
        """
        raise NotImplementedError

    def count_tokens(self, text: str, pair: Optional[str], enough: int) -> int:
        """How many tokens are run for a text (or pair): those of every window, which share some."""
        if len(text) + len(pair or "") > enough:  # else cutting all of it costs little
            beginning = self.tokenizer.encode(text, pair, max_length=max(enough, self.window_length))
            if len(beginning) >= enough:
                return len(beginning)
        return self.windows(text, pair).tokens


def find_prompt(task: TaskFacts, prompt_name: Optional[str], prompt: Optional[str]) -> str:
    """The text to put before every input.

    Args:
        task: from the manifest.
        prompt_name: one of its prompts; ``query`` and ``document`` are empty where the model has none so
            called, as they are in sentence-transformers.
        prompt: the text itself, which counts more than a name.

    Raises:
        UsageError: there is no prompt of that name, or the text is none.
    """
    if prompt is not None:
        if not isinstance(prompt, str):
            raise UsageError(f"prompt is {type(prompt).__name__}; expected str", hint="pass a text")
        return prompt
    if prompt_name is not None and prompt_name not in {*task.prompts, *EMPTY_PROMPTS}:
        known = ", ".join(map(repr, task.prompts)) or "none"
        hint = "name one of its prompts, or pass" if task.prompts else "leave the name out, or pass"
        raise UsageError(
            f"this bundle has no prompt {prompt_name!r}; it has {known}",
            hint=f"{hint} the text itself as the prompt",
        )
    name = task.default_prompt_name if prompt_name is None else prompt_name
    return task.prompts.get(name, "")


def batches(items: Sequence[Any]) -> Iterable[Sequence[Any]]:
    """Cut a list into parts of at most ``BATCH`` items."""
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


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
