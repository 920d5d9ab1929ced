"""SQuAD 2's scores: the official rule, written out a second time from its definition."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obert_edge.errors import DataError
from obert_edge.host.data.squad_score import squad2
from tests.host.data.squad import exact, f1


def score(rule, prediction, answers):
    return max(rule(prediction, answer) for answer in answers or [""])


def mean(rule, predictions, references, keys):
    return 100.0 * sum(score(rule, predictions[key], references[key]) for key in keys) / len(keys)


TEXTS = st.sampled_from(["the red cat", "red cat", "cat", "a dog", "dog", "blue"])
QUESTIONS = st.lists(
    st.tuples(TEXTS, st.lists(TEXTS, max_size=2), st.sampled_from([-2.0, -0.5, 0.0, 0.5, 2.0, math.inf])),
    min_size=1,
    max_size=12,
)


@settings(deadline=None)
@given(QUESTIONS)
def test_the_scores_are_those_of_the_definition(questions):
    references = {str(i): answers for i, (_, answers, _) in enumerate(questions)}
    odds = {str(i): null for i, (_, _, null) in enumerate(questions)}
    texts = {str(i): "" if math.isinf(null) else text for i, (text, _, null) in enumerate(questions)}
    scores = squad2(texts, references, odds)
    answered = {key: texts[key] if odds[key] <= 0 else "" for key in texts}
    groups = {
        "": list(references),
        "HasAns_": [key for key in references if references[key]],
        "NoAns_": [key for key in references if not references[key]],
    }
    for name, rule in (("exact", exact), ("f1", f1)):
        for group, keys in groups.items():
            assert (group + name in scores) == bool(keys)
            if keys:
                assert scores[group + name] == pytest.approx(mean(rule, answered, references, keys))
        # The best of all thresholds: each gives an answer to the questions up to it.
        tried = {
            threshold: mean(
                rule,
                {key: texts[key] if odds[key] <= threshold else "" for key in texts},
                references,
                groups[""],
            )
            for threshold in (-math.inf, *filter(math.isfinite, odds.values()))
        }
        assert scores[f"best_{name}"] == pytest.approx(max(tried.values()))
        threshold = scores[f"best_{name}_thresh"]
        reached = {key: texts[key] if odds[key] <= threshold else "" for key in texts}
        assert mean(rule, reached, references, groups[""]) == pytest.approx(scores[f"best_{name}"])
        assert math.isfinite(threshold)


def test_an_answer_of_an_article_alone_is_an_empty_one():
    scores = squad2({"a": "the"}, {"a": ["A", "The"]}, {"a": -1.0})
    assert (scores["exact"], scores["f1"]) == (100.0, 100.0)


def test_no_questions_are_no_score():
    with pytest.raises(DataError, match="no question to score"):
        squad2({}, {}, {})
