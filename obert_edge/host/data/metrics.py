"""Metrics of GLUE and SQuAD, in numpy and plain Python.

The SQuAD functions follow the official evaluation script of SQuAD v1.1 (Rajpurkar et al., 2016) word for
word: answers are lower-cased, stripped of punctuation and the articles *a*, *an*, *the*, and white space is
collapsed; a prediction scores its best match over all reference answers.
"""

from __future__ import annotations

import collections
import re
import string
from typing import Callable, Dict, Sequence

import numpy as np
from numpy.typing import NDArray

from obert_edge.errors import DataError

_ARTICLES = re.compile(r"\b(a|an|the)\b", re.UNICODE)
_PUNCTUATION = frozenset(string.punctuation)


def accuracy(predictions: NDArray[np.generic], labels: NDArray[np.generic]) -> float:
    """Share of equal entries, in percent."""
    _same_length(predictions, labels)
    return 100.0 * float(np.mean(predictions == labels))


def f1(predictions: NDArray[np.generic], labels: NDArray[np.generic], positive: int = 1) -> float:
    """Binary F1 of class ``positive``, in percent (0 when nothing is predicted or true)."""
    _same_length(predictions, labels)
    hits = float(np.sum((predictions == positive) & (labels == positive)))
    total = float(np.sum(predictions == positive) + np.sum(labels == positive))
    return 100.0 * 2 * hits / total if total else 0.0


def macro_f1(predictions: NDArray[np.generic], labels: NDArray[np.generic]) -> float:
    """Mean of the F1 of every class that occurs in ``labels``, in percent."""
    return float(np.mean([f1(predictions, labels, positive=int(c)) for c in np.unique(labels)]))


def matthews(predictions: NDArray[np.generic], labels: NDArray[np.generic]) -> float:
    """Matthews correlation for any number of classes, in percent (0 when undefined)."""
    _same_length(predictions, labels)
    classes = np.unique(np.concatenate([predictions, labels]))
    p = (predictions[:, None] == classes).astype(np.float64)
    t = (labels[:, None] == classes).astype(np.float64)
    p -= p.mean(axis=0)
    t -= t.mean(axis=0)
    spread = float((p * p).sum() * (t * t).sum())
    return 100.0 * float((p * t).sum()) / spread**0.5 if spread > 0 else 0.0


def micro_f1_of_sets(predictions: NDArray[np.generic], labels: NDArray[np.generic]) -> float:
    """F1 over all pairs of an example and a class, in percent (0 when nothing is predicted or true).

    Args:
        predictions: bool [examples, classes].
        labels: the same of the truth.
    """
    return f1(predictions, labels)


def macro_f1_of_sets(predictions: NDArray[np.generic], labels: NDArray[np.generic]) -> float:
    """Mean of the F1 of every class that some example has in ``labels``, in percent; see above."""
    _same_length(predictions, labels)
    occurring = np.flatnonzero(labels.any(axis=0))
    scores = [f1(predictions[:, c], labels[:, c]) for c in occurring]
    return float(np.mean(scores)) if scores else 0.0


def subset_accuracy(predictions: NDArray[np.generic], labels: NDArray[np.generic]) -> float:
    """Share of examples with exactly the right classes, in percent; see above."""
    _same_length(predictions, labels)
    return 100.0 * float((predictions == labels).all(axis=1).mean())


def pearson(predictions: NDArray[np.generic], labels: NDArray[np.generic]) -> float:
    """Pearson correlation, in percent (0 when either side is constant)."""
    _same_length(predictions, labels)
    x = predictions.astype(np.float64) - np.mean(predictions.astype(np.float64))
    y = labels.astype(np.float64) - np.mean(labels.astype(np.float64))
    spread = float((x * x).sum() * (y * y).sum())
    return 100.0 * float((x * y).sum()) / spread**0.5 if spread > 0 else 0.0


def spearman(predictions: NDArray[np.generic], labels: NDArray[np.generic]) -> float:
    """Pearson correlation of the ranks, ties at their mean rank, in percent."""
    return pearson(_ranks(predictions), _ranks(labels))


def normalize_answer(text: str) -> str:
    """SQuAD's normal form of an answer."""
    bare = "".join(character for character in text.lower() if character not in _PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def exact_match(prediction: str, answer: str) -> float:
    """1.0 when both have the same normal form, else 0.0."""
    return float(normalize_answer(prediction) == normalize_answer(answer))


def token_f1(prediction: str, answer: str) -> float:
    """Harmonic mean of precision and recall over the bags of normalized words."""
    predicted = normalize_answer(prediction).split()
    expected = normalize_answer(answer).split()
    common = sum((collections.Counter(predicted) & collections.Counter(expected)).values())
    if common == 0:
        return 0.0
    precision, recall = common / len(predicted), common / len(expected)
    return 2 * precision * recall / (precision + recall)


def squad(predictions: Dict[str, str], references: Dict[str, Sequence[str]]) -> Dict[str, float]:
    """Official SQuAD v1.1 ``exact_match`` and ``f1``, in percent.

    Args:
        predictions: answer text by question id; a question without one scores 0.
        references: the accepted answer texts by question id.
    """
    if not references:
        raise DataError("there is no question to score", hint="pass a split that holds questions")

    def best(score: Callable[[str, str], float], key: str) -> float:
        if key not in predictions:
            return 0.0
        return max(score(predictions[key], answer) for answer in references[key])

    count = len(references)
    return {
        "exact_match": 100.0 * sum(best(exact_match, key) for key in references) / count,
        "f1": 100.0 * sum(best(token_f1, key) for key in references) / count,
    }


def _ranks(values: NDArray[np.generic]) -> NDArray[np.float64]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: NDArray[np.float64] = (last - (counts - 1) / 2.0)[inverse]
    return ranks


def _same_length(predictions: NDArray[np.generic], labels: NDArray[np.generic]) -> None:
    if predictions.shape != labels.shape or predictions.size == 0:
        raise DataError(
            f"{predictions.shape} predictions cannot be scored against {labels.shape} labels",
            hint="evaluate a split that has rows, with one label for each",
        )
