"""Metrics equal their definitions, scipy, and SQuAD's official script."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats

from obert_edge.errors import DataError
from obert_edge.host.data import metrics

CLASSES = arrays.arrays(np.int64, st.integers(2, 30), elements=st.integers(0, 2))


def test_accuracy_is_the_share_of_equal_entries_in_percent():
    assert metrics.accuracy(np.array([0, 1, 1, 0]), np.array([0, 1, 0, 0])) == 75.0


def test_f1_balances_precision_and_recall_of_the_positive_class():
    predicted, true = np.array([1, 1, 1, 0]), np.array([1, 0, 0, 1])  # precision 1/3, recall 1/2
    assert metrics.f1(predicted, true) == pytest.approx(40.0)


def test_macro_f1_weighs_every_class_alike():
    predicted, true = np.array([0, 0, 0, 1]), np.array([0, 0, 0, 0])
    assert metrics.macro_f1(predicted, true) == metrics.f1(predicted, true, positive=0)


@given(CLASSES)
def test_matthews_equals_the_closed_form_for_two_classes(values):
    predicted, true = (values > 0).astype(int), (np.roll(values, 1) > 0).astype(int)
    tp, tn = np.sum(predicted & true), np.sum((1 - predicted) & (1 - true))
    fp, fn = np.sum(predicted & (1 - true)), np.sum((1 - predicted) & true)
    spread = float((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)) ** 0.5
    expected = 100 * float(tp * tn - fp * fn) / spread if spread else 0.0
    assert metrics.matthews(predicted, true) == pytest.approx(expected, abs=1e-6)


@given(arrays.arrays(np.float64, st.integers(3, 20), elements=st.integers(-3, 3).map(float)))
def test_spearman_and_pearson_equal_scipys(values):
    other = np.arange(len(values)) % 4 * 1.0
    if len(set(values)) < 2:
        assert metrics.pearson(values, other) == 0.0
        return
    assert metrics.pearson(values, other) == pytest.approx(100 * stats.pearsonr(values, other)[0], abs=1e-6)
    assert metrics.spearman(values, other) == pytest.approx(100 * stats.spearmanr(values, other)[0], abs=1e-6)


def test_an_empty_split_cannot_be_scored():
    with pytest.raises(DataError, match="cannot be scored"):
        metrics.accuracy(np.array([]), np.array([]))


@pytest.mark.parametrize(
    ("prediction", "answer", "em", "f1"),
    [
        ("The Eiffel Tower!", "eiffel tower", 1.0, 1.0),
        ("in the  year 1999", "1999", 0.0, 0.5),
        ("a cat and a cat", "cat", 0.0, 0.5),
        ("dog", "cat", 0.0, 0.0),
        ("", "cat", 0.0, 0.0),
        ("U.S.", "us", 1.0, 1.0),
    ],
)
def test_squad_scores_follow_the_official_normalization(prediction, answer, em, f1):
    assert metrics.exact_match(prediction, answer) == em
    assert metrics.token_f1(prediction, answer) == pytest.approx(f1)


def test_squad_takes_the_best_of_all_references_and_0_for_unanswered_questions():
    references = {"a": ["x", "the right one"], "b": ["y"]}
    assert metrics.squad({"a": "right one"}, references) == {"exact_match": 50.0, "f1": 50.0}


def test_metrics_of_several_labels_are_those_of_scikit_learn():
    from sklearn.metrics import accuracy_score, f1_score

    chance = np.random.default_rng(0)
    predicted, labels = chance.random((2, 50, 4)) < 0.4
    assert labels.any(axis=0).all()
    assert metrics.micro_f1_of_sets(predicted, labels) == pytest.approx(
        100 * f1_score(labels, predicted, average="micro")
    )
    assert metrics.macro_f1_of_sets(predicted, labels) == pytest.approx(
        100 * f1_score(labels, predicted, average="macro")
    )
    assert metrics.subset_accuracy(predicted, labels) == pytest.approx(
        100 * accuracy_score(labels, predicted)
    )


def test_a_class_that_no_example_has_does_not_count_in_the_mean_over_classes():
    labels = np.array([[True, False], [True, False]])
    assert metrics.macro_f1_of_sets(labels, labels) == 100.0
    assert metrics.macro_f1_of_sets(~labels, ~labels & False) == 0.0
