"""Sequence classification: one label, several labels, or a number."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np

from obert_edge.bundle.manifest import Manifest
from obert_edge.device.pipelines.base import Pipeline, Prediction, batches, label_names, softmax


@dataclass(frozen=True)
class Classification(Prediction):
    """One class out of several.

    Args:
        label: name of the likeliest class.
        score: its probability, 0..1.
        scores: the probability of every class by name; they add up to 1.
    """

    label: str
    score: float
    scores: Dict[str, float]


@dataclass(frozen=True)
class MultiLabel(Prediction):
    """Any number of classes.

    Args:
        labels: names of the classes at or above the threshold, the likeliest first.
        scores: the probability of every class by name, each 0..1 on its own.
    """

    labels: List[str]
    scores: Dict[str, float]


@dataclass(frozen=True)
class Regression(Prediction):
    """A number (or several) instead of a class.

    Args:
        values: the model's outputs by name, in the units it was trained on.
    """

    values: Dict[str, float]

    @property
    def value(self) -> float:
        """The first, usually the only, value."""
        return next(iter(self.values.values()))


@dataclass(frozen=True)
class Classifier(Pipeline):
    """Texts or pairs of texts to labels with scores; longer texts are cut.

    Args:
        threshold: multi-label only: the probability from which on a label counts.
    """

    threshold: float = field(default=0.5, metadata={"minimum": 0, "maximum": 1})

    @classmethod
    def without_effect(cls, manifest: Manifest) -> Tuple[str, ...]:
        """The threshold, unless any number of labels may count."""
        return () if manifest.task.problem_type == "multi_label" else ("threshold",)

    def predict(self, texts: Sequence[Tuple[str, Optional[str]]]) -> List[Prediction]:
        """One answer per text."""
        results: List[Prediction] = []
        for batch in batches(self.encode(texts)):
            logits = self.model.run_encodings(batch)["logits"]
            results += [self._read_row(row) for row in logits]
        return results

    def _read_row(self, logits: np.ndarray) -> Prediction:
        names = label_names(self.manifest, logits.shape[-1])
        problem = self.manifest.task.problem_type
        if problem == "regression" or (not problem and len(logits) == 1):
            return Regression(dict(zip(names, map(float, logits))))
        if problem == "multi_label":
            scores = 1.0 / (1.0 + np.exp(-logits.astype(np.float64)))
            order = np.argsort(-scores, kind="stable")
            chosen = [names[i] for i in order if scores[i] >= self.threshold]
            return MultiLabel(chosen, dict(zip(names, map(float, scores))))
        probabilities = softmax(logits)
        best = int(probabilities.argmax())
        return Classification(
            names[best], float(probabilities[best]), dict(zip(names, map(float, probabilities)))
        )
