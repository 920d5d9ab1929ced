"""The official scores of SQuAD for one answer, written out: what ours are held against."""

from __future__ import annotations

from collections import Counter

from obert_edge.host.data.metrics import normalize_answer


def exact(prediction: str, answer: str) -> float:
    """1 where both are the same words, else 0."""
    return float(normalize_answer(prediction) == normalize_answer(answer))


def f1(prediction: str, answer: str) -> float:
    """The harmonic mean of precision and recall of the words."""
    ours, theirs = normalize_answer(prediction).split(), normalize_answer(answer).split()
    if not ours or not theirs:
        return float(ours == theirs)
    same = sum((Counter(ours) & Counter(theirs)).values())
    return 2 * same / (len(ours) + len(theirs))
