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
