"""Scores of entities beside seqeval's, in its default and its strict mode, for each scheme."""

from __future__ import annotations

import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval import metrics, scheme
from sklearn.exceptions import UndefinedMetricWarning

from obert_edge.device.pipelines.tagging import Tagging
from obert_edge.host.data.entity_score import STRICT, scheme_of, score_entities

KINDS = ("PER", "WORK-OF-ART", "X")
#: Our name, the prefixes, seqeval's scheme, and what letters are to its default mode, which lacks some.
SCHEMES = [
    ("IOB2", "BI", scheme.IOB2, {}),
    ("IOB1", "BI", scheme.IOB1, {}),
    ("BIOES", "BIES", scheme.IOBES, {}),
    ("BILOU", "BILU", scheme.BILOU, {"L": "E", "U": "S"}),
    ("BMES", "BMES", None, {"M": "I"}),
]


def labels_of(prefixes):
    return ["O", *(f"{prefix}-{kind}" for prefix in prefixes for kind in KINDS)]


def sentences(prefixes):
    """Pairs of label sequences of one length, most of them not as the scheme wants them."""
    word = st.sampled_from(labels_of(prefixes))
    return st.lists(st.lists(st.tuples(word, word), min_size=1, max_size=8), min_size=1, max_size=4)


def theirs(predicted, expected, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        return {
            name: 100 * float(function(expected, predicted, **options))
            for name, function in (
                ("f1", metrics.f1_score),
                ("precision", metrics.precision_score),
                ("recall", metrics.recall_score),
            )
        }


def translated(sequences, letters):
    return [[letters.get(label[0], label[0]) + label[1:] for label in labels] for labels in sequences]


@pytest.mark.parametrize(
    ("name", "prefixes", "their_scheme", "letters"), SCHEMES, ids=lambda value: str(value)
)
@settings(deadline=None)
@given(st.data())
def test_scores_are_those_of_seqeval(name, prefixes, their_scheme, letters, data):
    drawn = data.draw(sentences(prefixes))
    predicted = [[ours for ours, _ in sentence] for sentence in drawn]
    expected = [[right for _, right in sentence] for sentence in drawn]
    tagging = Tagging.of(labels_of(prefixes))
    lenient = score_entities(predicted, expected, tagging)
    assert lenient == pytest.approx(theirs(translated(predicted, letters), translated(expected, letters)))
    if their_scheme is not None:
        strict = score_entities(predicted, expected, tagging, STRICT[name])
        assert strict == pytest.approx(theirs(predicted, expected, mode="strict", scheme=their_scheme))


@settings(deadline=None)
@given(
    st.lists(st.lists(st.tuples(*[st.sampled_from(["O", *KINDS])] * 2), min_size=1, max_size=8), min_size=1)
)
def test_plain_labels_score_as_if_all_were_inside(drawn):
    """seqeval takes the first letter of a plain label for a prefix: ORG is outside for it, and EVENT ends."""
    predicted = [[ours for ours, _ in sentence] for sentence in drawn]
    expected = [[right for _, right in sentence] for sentence in drawn]
    inside = [
        [["O" if label == "O" else f"I-{label}" for label in labels] for labels in sequences]
        for sequences in (predicted, expected)
    ]
    assert score_entities(predicted, expected, Tagging.of(["O", *KINDS])) == pytest.approx(theirs(*inside))


@settings(deadline=None)
@given(sentences("BI"))
def test_other_names_of_outside_and_lower_case_change_nothing(drawn):
    predicted = [[ours for ours, _ in sentence] for sentence in drawn]
    expected = [[right for _, right in sentence] for sentence in drawn]
    wanted = theirs(predicted, expected)
    for change in (
        lambda label: "OUT" if label == "O" else label,
        lambda label: "_" if label == "O" else label,
        lambda label: label[:2].lower() + label[2:],
        lambda label: label if label == "O" else f"{label[2:]}-{label[0]}",
    ):
        changed = [[[change(label) for label in labels] for labels in side] for side in (predicted, expected)]
        tagging = Tagging.of([change(label) for label in labels_of("BI")])
        assert score_entities(*changed, tagging) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([["B-X", "I-X", "O", "B-Y"]], "IOB2"),
        ([["I-X", "I-X", "B-X", "O", "I-Y"]], "IOB1"),
        ([["I-X", "O", "B-Y"]], "IOB"),
        ([["B-X", "I-X", "E-X", "S-Y"]], "BIOES"),
        ([["U-X", "B-X", "L-X"]], "BILOU"),
        ([["NN", "VB"]], "plain"),
    ],
)
def test_the_scheme_is_told_from_the_data(labels, expected):
    tagging = Tagging.of([label for sentence in labels for label in sentence])
    assert scheme_of(tagging, labels) == expected
