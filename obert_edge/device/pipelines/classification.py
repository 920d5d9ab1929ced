"""Sequence classification: one label, several labels, or a number."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np

from obert_edge.bundle.manifest import Manifest
from obert_edge.device.pipelines.base import Pipeline, Prediction, batches, find_prompt, label_names, softmax
from obert_edge.device.pipelines.modules import sigmoid


@dataclass(frozen=True)
class Classification(Prediction):
    """One class out of several.

    Args:
        label: name of the likeliest class.
        score: its probability, 0..1.
        scores: the probability of every class by name; they add up to 1.
        logits: what the model gives for every class, by name.
    """

    label: str
    score: float
    scores: Dict[str, float]
    logits: Dict[str, float]


@dataclass(frozen=True)
class MultiLabel(Prediction):
    """Any number of classes.

    Args:
        labels: names of the classes at or above the threshold, the likeliest first.
        scores: the probability of every class by name, each 0..1 on its own.
        logits: what the model gives for every class, by name.
    """

    labels: List[str]
    scores: Dict[str, float]
    logits: Dict[str, float]


@dataclass(frozen=True)
class Regression(Prediction):
    """A number (or several) instead of a class.

    Args:
        values: the model's answers by name, in the units it was trained on; of a reranker whose checkpoint
            puts a function behind the logits, such as the sigmoid, what that gives.
        logits: the model's outputs by name, before any function.
    """

    values: Dict[str, float]
    logits: Dict[str, float]

    @property
    def value(self) -> float:
        """The first, usually the only, value."""
        return next(iter(self.values.values()))


@dataclass(frozen=True)
class Classifier(Pipeline):
    """Texts or pairs of texts to labels with scores; longer texts are cut.

    Args:
        threshold: multi-label only: the probability from which on a label counts.
        prompt_name: name of the prompt to put before every first text; ``None``: the model's default, if any.
        prompt: a text to put before every first text, in place of a named one.
    """

    threshold: float = field(default=0.5, metadata={"minimum": 0, "maximum": 1})
    prompt_name: Optional[str] = None
    prompt: Optional[str] = None

    @classmethod
    def without_effect(cls, manifest: Manifest) -> Tuple[str, ...]:
        """The threshold, unless any number of labels may count."""
        return () if manifest.task.problem_type == "multi_label" else ("threshold",)

    def predict(self, texts: Sequence[Tuple[str, Optional[str]]]) -> List[Prediction]:
        """One answer per text."""
        prompt = find_prompt(self.manifest.task, self.prompt_name, self.prompt)
        results: List[Prediction] = []
        for batch in batches(self.encode(texts, prompt)):
            logits = self.model.run_encodings(batch)["logits"]
            results += [self.read_row(row) for row in logits]
        return results

    def read_row(self, logits: np.ndarray) -> Prediction:
        """The answer for a text, of its logits: float32 ``[classes]``."""
        names = label_names(self.manifest, logits.shape[-1])
        problem = self.manifest.task.problem_type
        plain = dict(zip(names, map(float, logits)))
        if problem == "regression" or (not problem and len(logits) == 1):
            values = self._scores(logits, "identity")
            return Regression(dict(zip(names, map(float, values))), plain)
        if problem == "multi_label":
            scores = self._scores(logits, "sigmoid")
            order = np.argsort(-scores, kind="stable")
            chosen = [names[i] for i in order if scores[i] >= self.threshold]
            return MultiLabel(chosen, dict(zip(names, map(float, scores))), plain)
        probabilities = self._scores(logits, "softmax")
        best = int(probabilities.argmax())
        return Classification(
            names[best], float(probabilities[best]), dict(zip(names, map(float, probabilities))), plain
        )

    def _scores(self, logits: np.ndarray, usual: str) -> np.ndarray:
        """The function that the manifest names, or the usual one of a type of problem, of logits."""
        return _FUNCTIONS[self.manifest.task.function or usual](logits)


#: Score functions of the manifest, of the logits of a text.
_FUNCTIONS: Dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "identity": lambda logits: logits,
    "sigmoid": sigmoid,
    "softmax": softmax,
    "tanh": lambda logits: np.tanh(logits.astype(np.float64)),
}
