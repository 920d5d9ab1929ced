"""Texts with a label each: features, scores, predictions, and rows held out."""

from __future__ import annotations

import numpy as np
import pytest

from obert_edge.errors import DataError, UsageError
from obert_edge.host.data import load_task
from tests.host.data.answers import one_hot_answers


def test_scores_and_predictions_come_from_the_largest_logit(sst2, tokenizer):
    task = load_task("sst2", sst2)
    features = task.features("dev", tokenizer)
    assert task.score("dev", features, one_hot_answers(1, 1)) == {"accuracy": 50.0}
    assert [label for _, label in task.predictions("dev", features, one_hot_answers(1, 0))] == [
        "positive",
        "negative",
    ]


def test_a_split_without_labels_can_be_predicted_but_not_scored(sst2, tokenizer):
    task = load_task("sst2", sst2)
    features = task.features("test", tokenizer)
    assert "labels" not in features[0]
    with pytest.raises(DataError, match="without a label"):
        task.score("test", features, one_hot_answers(1))
    with pytest.raises(UsageError, match="no split 'tune'"):
        task.features("tune", tokenizer)


def test_rows_held_out_for_tuning_leave_train_with_all_their_duplicates(sst2):
    (sst2 / "train.tsv").write_text(
        "sentence\tlabel\n" + "".join(f"text {i % 10}\t{i % 2}\n" for i in range(40))
    )
    task = load_task("sst2", sst2, tune=8)
    train = {example.texts for example in task.examples("train")}
    tune = {example.texts for example in task.examples("tune")}
    assert tune
    assert not train & tune
    assert len(task.examples("train")) + len(task.examples("tune")) == 40
    with pytest.raises(UsageError, match="cannot be held out"):
        load_task("sst2", sst2, tune=40)


def test_texts_are_cut_to_the_maximum_length_with_their_special_tokens(sst2, tokenizer):
    ids = load_task("sst2", sst2).features("train", tokenizer, max_length=3)[0]["input_ids"]
    assert len(ids) == 3
    assert ids[-1] == tokenizer.token_to_id("[SEP]")


def test_regression_is_scored_by_correlation(tmp_path, tokenizer):
    rows = "".join(f"{i}\tx\ty\t{i / 2}\n" for i in range(5))
    (tmp_path / "dev.tsv").write_text("index\tsentence1\tsentence2\tscore\n" + rows)
    task = load_task("stsb", tmp_path)
    features = task.features("dev", tokenizer)
    given = [{"logits": np.array([float(i) ** 3], np.float32)} for i in range(5)]
    scores = task.score("dev", features, given)
    assert scores["spearman"] == pytest.approx(100.0)
    assert 80 < scores["pearson"] < 100
    assert task.model_options()["problem_type"] == "regression"


def test_a_model_with_its_classes_in_another_order_is_trained_and_scored_by_name(sst2, tokenizer):
    task = load_task("sst2", sst2).for_head(["positive", "mixed", "negative"])
    features = task.features("dev", tokenizer)
    assert [feature["labels"] for feature in features] == [0, 2]
    answers = one_hot_answers(0, 1, count=3)
    assert task.predictions("dev", features, answers)[1][1] == "mixed"
    assert task.score("dev", features, answers) == {"accuracy": 50.0}
    assert task.score("dev", features, one_hot_answers(0, 2, count=3)) == {"accuracy": 100.0}


def test_the_positive_class_of_f1_is_the_tasks_whatever_the_models_order(tmp_path, tokenizer):
    rows = "".join(f"{label}\tx\ty\n" for label in (1, 1, 0, 0))
    (tmp_path / "dev.tsv").write_text("Quality\t#1 String\t#2 String\n" + rows)
    task = load_task("mrpc", tmp_path)
    straight = task.score("dev", task.features("dev", tokenizer), one_hot_answers(1, 0, 0, 0))
    turned = task.for_head(["equivalent", "not_equivalent"])
    assert turned.score("dev", turned.features("dev", tokenizer), one_hot_answers(0, 1, 1, 1)) == straight
    assert straight["f1"] == pytest.approx(200 / 3)


def test_answers_of_another_number_of_classes_are_refused(sst2, tokenizer):
    task = load_task("sst2", sst2)
    with pytest.raises(DataError, match="answers with 3 classes, task 'sst2' has 2"):
        task.score("dev", task.features("dev", tokenizer), one_hot_answers(0, 1, count=3))
