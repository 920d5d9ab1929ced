"""What a model's classes mean in the words of a task: by name, and never by position in silence."""

from __future__ import annotations

import pytest

from obert_edge.errors import CheckpointError, UsageError
from obert_edge.host.data.labels import match_labels, names_of

MNLI = ("entailment", "neutral", "contradiction")


@pytest.mark.parametrize(
    ("names", "labels", "classes"),
    [
        (["contradiction", "neutral", "entailment"], MNLI, ("contradiction", "neutral", "entailment")),
        (["CONTRADICTION", "Neutral", "ENTAILMENT"], MNLI, ("contradiction", "neutral", "entailment")),
        (
            ["NOT_ENTAILMENT", "Entailment"],
            ["entailment", "not entailment"],
            ("not entailment", "entailment"),
        ),
        (
            ["not-entailment", "entailment"],
            ["entailment", "not_entailment"],
            ("not_entailment", "entailment"),
        ),
        (["b-per", "o"], ["O", "B-PER"], ("B-PER", "O")),
        (["1", "-1"], ["-1", "1"], ("1", "-1")),
        (["STRASSE", "weg"], ["weg", "straße"], ("straße", "weg")),
    ],
)
def test_rows_are_matched_by_name_whatever_the_order_case_and_separators(names, labels, classes):
    rows = match_labels(names, labels)
    assert rows.classes == classes
    assert rows.note == ""


def test_names_that_differ_in_case_alone_are_two_classes_where_both_lists_have_both():
    assert match_labels(["us", "US"], ["US", "us"]).classes == ("us", "US")
    with pytest.raises(CheckpointError, match="none of the model's is Us"):
        match_labels(["us", "US"], ["Us", "US"])


def test_a_number_below_zero_is_not_the_number_above_it():
    with pytest.raises(CheckpointError, match="none of the model's is -1, 1"):
        match_labels(["a", "b"], ["-1", "1"])
    with pytest.raises(CheckpointError, match="none of the model's is -1"):
        match_labels(["1", "2"], ["-1", "2"])


def test_a_model_may_have_classes_that_the_data_lack():
    assert match_labels(
        ["neutral", "contradiction", "entailment"], ["entailment", "contradiction"]
    ).classes == (
        "neutral",
        "contradiction",
        "entailment",
    )


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["pos", "neg"], ["negative", "positive"]),
        (["negative", "positive"], ["0", "1"]),
        (["a", "b"], ["a", "b", "c"]),
        (["LABEL_0", "LABEL_1", "LABEL_2"], ["bad", "good"]),
        (["LABEL_0", "LABEL_1"], ["1", "2", "3"]),
        (["LABEL_0", "other"], ["bad", "good"]),
    ],
)
def test_what_cannot_be_matched_is_refused_with_both_lists(names, labels):
    with pytest.raises(CheckpointError) as error:
        match_labels(names, labels, model="runs/m", task="text")
    ours, theirs = (f"{len(some)} ({', '.join(some)})" for some in (names, labels))
    assert f"runs/m has a head of {ours.replace(' (', ' labels (')}; task 'text' has {theirs}" in str(
        error.value
    )
    assert ("--label-map" in error.value.hint) == (len(labels) <= len(names))


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["negative", "neutral", "positive"], ("negative", "neutral", "positive")),
        (["1", "2", "3"], ("1", "2", "3")),
        (["0", "2"], ("0", "LABEL_1", "2")),
        (["2", "1", "0"], ("0", "1", "2")),
    ],
)
def test_unnamed_classes_take_the_datas_ids_or_the_tasks_order_and_it_is_said(labels, classes):
    rows = match_labels(["LABEL_0", "LABEL_1", "LABEL_2"], labels, model="runs/m")
    assert rows.classes == classes
    assert rows.note.startswith(f"runs/m does not name its classes: LABEL_0 is {classes[0]}, ")
    assert "--label-map" in rows.note


def test_a_map_says_which_class_is_which():
    rows = match_labels(["pos", "neg"], ["negative", "positive"], label_map=["pos=positive", "neg=negative"])
    assert rows.classes == ("positive", "negative")
    assert rows.note == ""


def test_a_map_may_use_ids_and_goes_before_names():
    assert match_labels(
        ["LABEL_0", "LABEL_1"], ["negative", "positive"], label_map=["0=positive", "1=negative"]
    ).classes == ("positive", "negative")
    assert match_labels(["a", "b"], ["a", "b"], label_map=["a=b", "b=a"]).classes == ("b", "a")


def test_names_with_an_equals_sign_can_be_mapped():
    assert match_labels(["a=b", "c"], ["x=y", "z"], label_map=["a=b=x=y", "c=z"]).classes == ("x=y", "z")


def test_two_classes_of_a_model_may_be_one_of_the_data():
    rows = match_labels(
        MNLI,
        ["entailment", "not_entailment"],
        label_map=["neutral=not_entailment", "contradiction=not_entailment"],
    )
    assert rows.classes == ("entailment", "not_entailment", "not_entailment")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (["pos"], "is no pair"),
        (["pos=good"], "is no pair .*pos, neg.*negative, positive"),
        (["up=positive"], "is no pair"),
        (["2=positive"], "is no pair"),
        (["pos=positive", "pos=negative"], "both 'positive' and 'negative'"),
    ],
)
def test_a_map_that_names_no_class_is_refused(entries, message):
    with pytest.raises(UsageError, match=message):
        match_labels(["pos", "neg"], ["negative", "positive"], label_map=entries)


def test_ids_of_a_model_with_names_are_taken_where_the_user_says_so():
    with pytest.raises(CheckpointError) as error:
        match_labels(["negative", "positive"], ["0", "1"])
    assert "--label-map 0=0 --label-map 1=1" in error.value.hint
    rows = match_labels(["negative", "positive"], ["0", "1"], label_map=["0=0", "1=1"])
    assert rows.classes == ("0", "1")


def test_half_a_map_is_not_filled_up_by_position():
    with pytest.raises(CheckpointError, match="none of the model's is negative"):
        match_labels(["LABEL_0", "LABEL_1"], ["negative", "positive"], label_map=["0=positive"])


def test_a_config_without_names_has_those_of_transformers():
    assert names_of({"id2label": {"1": "b", "0": "a"}}) == ("a", "b")
    assert names_of({"id2label": {str(i): f"c{i}" for i in range(11)}})[-1] == "c10"
    assert names_of({}) == ("LABEL_0", "LABEL_1")
    assert names_of({"num_labels": 1}) == ("LABEL_0",)
    for broken in ({"1": "a", "2": "b"}, {"x": "a"}):
        with pytest.raises(CheckpointError, match="id2label"):
            names_of({"id2label": broken})


def test_the_map_that_is_proposed_names_a_class_that_has_no_label_yet():
    with pytest.raises(CheckpointError) as caught:
        match_labels(["a", "b"], ["bad", "good"], label_map=["a=bad"])
    assert "'b=good'" in caught.value.hint
