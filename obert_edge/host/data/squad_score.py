"""The scores of SQuAD 2 (Rajpurkar et al. 2018), which asks questions that the context does not answer.

An answer of such a question is right when it is empty. The functions follow the official evaluation script of
SQuAD 2.0; that of 1.1 is :func:`obert_edge.host.data.metrics.squad`.
"""

from __future__ import annotations

import math
from typing import Callable, Dict, Mapping, Sequence, Tuple

from obert_edge.errors import DataError
from obert_edge.host.data.metrics import exact_match, normalize_answer, token_f1


def squad2(
    predictions: Mapping[str, str], references: Mapping[str, Sequence[str]], null_odds: Mapping[str, float]
) -> Dict[str, float]:
    """``exact`` and ``f1`` over all questions, over those with an answer, and over those without.

    Args:
        predictions: the best answer text by question id, whether or not it is better than none.
        references: the accepted texts by question id; none for an impossible question.
        null_odds: by question id how much better no answer is than the best; SQuAD 2's "null score
            difference". Above 0 the question counts as unanswered.

    Returns:
        In percent ``exact``, ``f1``, and the same with ``HasAns_`` and ``NoAns_`` in front, where there are
        such questions; ``best_exact`` and ``best_f1`` are what these very rows would give at the best
        threshold for ``null_odds``, which is in ``best_exact_thresh`` and ``best_f1_thresh``.
    """
    if not references:
        raise DataError("there is no question to score", hint="pass a split that holds questions")
    given = {key: text if null_odds[key] <= 0 else "" for key, text in predictions.items()}
    rules: Dict[str, Callable[[str, str], float]] = {"exact": exact_match, "f1": answer_f1}
    scores = {name: _scores(rule, given, references) for name, rule in rules.items()}
    groups = {
        "": list(references),
        "HasAns_": [key for key in references if references[key]],
        "NoAns_": [key for key in references if not references[key]],
    }
    result = {
        group + name: 100.0 * sum(values[key] for key in keys) / len(keys)
        for group, keys in groups.items()
        if keys
        for name, values in scores.items()
    }
    for name, rule in rules.items():
        best, threshold = _best_threshold(_scores(rule, predictions, references), references, null_odds)
        result[f"best_{name}"], result[f"best_{name}_thresh"] = best, threshold
    return result


def answer_f1(prediction: str, answer: str) -> float:
    """F1 of words; an empty answer, after normalization, is right where the other is empty too."""
    if not normalize_answer(prediction) or not normalize_answer(answer):
        return exact_match(prediction, answer)
    return token_f1(prediction, answer)


def _scores(
    rule: Callable[[str, str], float], predictions: Mapping[str, str], references: Mapping[str, Sequence[str]]
) -> Dict[str, float]:
    """By question the best score over the accepted texts, those left out that normalization makes empty."""
    accepted = {key: [text for text in texts if normalize_answer(text)] for key, texts in references.items()}
    return {
        key: max(rule(predictions.get(key, ""), text) for text in texts or [""])
        for key, texts in accepted.items()
    }


def _best_threshold(
    scores: Mapping[str, float], references: Mapping[str, Sequence[str]], null_odds: Mapping[str, float]
) -> Tuple[float, float]:
    """The best mean score, in percent, over all thresholds up to which a question counts as answered.

    Args:
        scores: of the best answer by question.
        references: the accepted texts by question.
        null_odds: by question; infinite where there is no answer to give.
    """
    current = best = float(sum(not references[key] for key in references))
    ranked = sorted((null_odds[key], key) for key in references if math.isfinite(null_odds[key]))
    threshold = ranked[0][0] - 1.0 if ranked else 0.0  # below all odds: no question is answered
    for place, (odds, key) in enumerate(ranked):
        current += scores[key] - (0.0 if references[key] else 1.0)
        last_of_its_odds = place + 1 == len(ranked) or ranked[place + 1][0] > odds
        if last_of_its_odds and current > best:
            best, threshold = current, odds
    return 100.0 * best / len(references), threshold
