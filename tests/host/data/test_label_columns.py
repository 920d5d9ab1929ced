"""What a column of labels holds is decided by its values, said, and refused where it is two things."""

from __future__ import annotations

import json

import numpy as np
import pytest

from obert_edge.errors import DataError, UsageError
from obert_edge.host.data import load_task


def write(folder, labels, name="train.jsonl", column="label"):
    rows = [json.dumps({"text": f"text {i}", column: label}) for i, label in enumerate(labels)]
    (folder / name).write_text("\n".join(rows))


def load(folder, values, /, **options):
    write(folder, values)
    write(folder, values, "dev.jsonl")
    return load_task("text", folder, **options)


@pytest.mark.parametrize(
    ("labels", "problem", "names", "said"),
    [
        (["b", "a"], "single_label", ("a", "b"), "text: 2 classes (a, b)"),
        (
            [1, 0, 2],
            "single_label",
            ("0", "1", "2"),
            "text: 3 classes (0, 1, 2): whole numbers are class ids",
        ),
        (["10", "9"], "single_label", ("9", "10"), "whole numbers are class ids"),
        ([0.0, 1.0], "single_label", ("0", "1"), "whole numbers are class ids"),
        (
            [0.5, 4.5, 1.0],
            "regression",
            ("label",),
            "text: regression, column 'label' holds numbers 0.5 to 4.5",
        ),
        (["-1.5", "2e1"], "regression", ("label",), "numbers -1.5 to 20"),
        ([100.0 * i for i in range(30)], "regression", ("label",), "numbers 0 to 2900"),
        ([True, False], "single_label", ("False", "True"), "2 classes"),
        ([["b", "a"], [], ["c"]], "multi_label", ("a", "b", "c"), "text: multi-label, 3 classes (a, b, c)"),
        ([[10], [9]], "multi_label", ("9", "10"), "multi-label, 2 classes (9, 10)"),
        (["['x', 'y']", "[]", ""], "multi_label", ("x", "y"), "multi-label"),
        (['["x"]', '["y", "x"]'], "multi_label", ("x", "y"), "multi-label"),
        ([[0, 1, 1], [1, 0, 0]], "multi_label", ("0", "1", "2"), "multi-label, 3 classes"),
        (["[sic]", "plain"], "single_label", ("[sic]", "plain"), "2 classes"),
    ],
)
def test_the_values_decide_and_it_is_said(tmp_path, labels, problem, names, said):
    task = load(tmp_path, labels)
    assert (task.problem_type, task.labels) == (problem, names)
    assert said in task.describe()


def test_many_whole_numbers_without_a_point_stay_classes(tmp_path):
    assert load(tmp_path, list(range(30))).problem_type == "single_label"


@pytest.mark.parametrize(
    ("labels", "options", "problem", "names"),
    [
        ([1, 2, 3], {"problem_type": "regression"}, "regression", ("label",)),
        ([0.5, 1.5], {"problem_type": "single_label"}, "single_label", ("0.5", "1.5")),
        (["a", "b"], {"problem_type": "multi_label"}, "multi_label", ("a", "b")),
        (["a; b", "", "b"], {"label_separator": ";"}, "multi_label", ("a", "b")),
        ([[1, 0], [1, 1]], {"labels": ["x", "y"]}, "multi_label", ("x", "y")),
        (["a", "b"], {"labels": ["b", "c", "a"]}, "single_label", ("b", "c", "a")),
    ],
)
def test_the_user_may_say_otherwise(tmp_path, labels, options, problem, names):
    task = load(tmp_path, labels, **options)
    assert (task.problem_type, task.labels) == (problem, names)


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ([0.5, "n/a", 1.5], {}, "line 2: column 'label' holds 'n/a' here, and a number in 4 other rows"),
        ([["a"], "b"], {}, "line 2: column 'label' holds 'b' here, and a list in 2 other rows"),
        ([["a"], ["b"]], {"problem_type": "single_label"}, "line 1: .* holds .*; expected one class"),
        (["a", "b"], {"problem_type": "regression"}, "line 1: 'a' in column 'label' is not a number"),
        ([0.5, float("nan")], {}, "line 2: column 'label' holds NaN"),
        (["1.5", "inf"], {}, "line 2: column 'label' holds 'inf'"),
        (["a", " ", "b"], {}, "line 2: column 'label' is empty"),
        ([{"a": 1}, {"b": 2}], {}, "line 1: column 'label' holds .*; expected one class"),
        ([["a"], [["b"]]], {}, "line 2: .* is no class"),
        (
            [[0, 0, 1], [1, 0, 0], [1, 0, 2]],
            {"problem_type": "multi_label", "labels": "abc"},
            "unknown label",
        ),
        (["a", "b"], {"labels": ["a", "c"]}, "unknown label 'b'; known are a, c"),
    ],
)
def test_what_is_two_things_is_refused_with_its_line(tmp_path, labels, options, message):
    with pytest.raises(DataError, match=message):
        load(tmp_path, labels, **options)


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (["a", "b"], {"label_separator": ";", "problem_type": "regression"}, "--label-separator"),
        (["a", "b"], {"labels": ["a", "b", "a"]}, "names a class twice"),
        ([0.5, 1.5], {"labels": ["a", "b"]}, "names 2 classes, and column 'label' holds numbers"),
        ([[0, 0], [1, 0]], {"labels": ["a"]}, "names 1 classes, and column 'label' has marks for 2"),
    ],
)
def test_options_that_contradict_the_data_are_refused(tmp_path, labels, options, message):
    with pytest.raises(UsageError, match=message):
        load(tmp_path, labels, **options)


def test_a_number_of_dev_need_not_be_in_train(tmp_path):
    write(tmp_path, [0.5, 1.5])
    write(tmp_path, [2.125], "dev.jsonl")
    task = load_task("text", tmp_path)
    assert [example.label for example in task.examples("dev")] == [2.125]


def test_whole_numbers_in_train_are_numbers_where_dev_has_others(tmp_path):
    write(tmp_path, [1, 2, 3])
    write(tmp_path, [2.5], "dev.jsonl")
    assert load_task("text", tmp_path).problem_type == "regression"


def test_a_split_to_be_scored_may_have_one_class_alone(tmp_path):
    write(tmp_path, ["a", "a"], "dev.jsonl")
    assert load_task("text", tmp_path).labels == ("a",)
    write(tmp_path, ["a", "a"])
    with pytest.raises(DataError, match="1 distinct label;"):
        load_task("text", tmp_path)


def test_a_text_of_no_class_in_a_test_split_is_labeled_where_there_are_several_labels(tmp_path):
    for split in ("train", "test"):
        (tmp_path / f"{split}.csv").write_text("text,label\none,a;b\ntwo,\n")
    task = load_task("text", tmp_path, label_separator=";")
    assert [example.label for example in task.examples("test")] == [(0, 1), ()]
    (tmp_path / "train.csv").write_text("text,label\none,a\ntwo,b\n")
    (tmp_path / "test.csv").write_text("text,label\none,a\ntwo,\n")
    assert [example.label for example in load_task("text", tmp_path).examples("test")] == [None, None]


def test_several_labels_are_trained_as_zeros_and_ones_in_the_order_of_the_head(tmp_path, tokenizer):
    task = load(tmp_path, [["b", "a"], [], ["c"]])
    assert [f["labels"] for f in task.features("dev", tokenizer)] == [
        (1.0, 1.0, 0.0),
        (0.0, 0.0, 0.0),
        (0.0, 0.0, 1.0),
    ]
    fitted = task.for_head(["c", "other", "b", "a"])
    assert [f["labels"] for f in fitted.features("dev", tokenizer)] == [
        (0.0, 0.0, 1.0, 1.0),
        (0.0, 0.0, 0.0, 0.0),
        (1.0, 0.0, 0.0, 0.0),
    ]
    assert task.model_options()["problem_type"] == "multi_label_classification"


def test_several_labels_are_scored_from_a_probability_of_a_half(tmp_path, tokenizer):
    task = load(tmp_path, [["b", "a"], [], ["c"]]).for_head(["c", "other", "b", "a"])
    features = task.features("dev", tokenizer)
    logits = [[-1, -1, 0, 2], [-3, 0.5, -1, -1], [-0.1, -1, -1, -1]]
    answers = [{"logits": np.array(row, np.float32)} for row in logits]
    names = [names for _, names in task.predictions("dev", features, answers)]
    assert names == [["a", "b"], ["other"], []]
    scores = task.score("dev", features, answers)
    assert scores["micro_f1"] == pytest.approx(100 * 2 * 2 / (3 + 3))
    assert scores["macro_f1"] == pytest.approx(100 * 2 / 3)
    assert scores["subset_accuracy"] == pytest.approx(100 / 3)
    assert task.metric == "micro_f1"
