from __future__ import annotations

import json

import numpy as np
import pytest

from obert_edge.errors import DataError, UsageError
from obert_edge.host.data import load_task


def answers(*classes, count=2):
    return [{"logits": np.eye(count, dtype=np.float32)[c]} for c in classes]


@pytest.fixture
def sst2(tmp_path):
    (tmp_path / "train.tsv").write_text("sentence\tlabel\na good film\t1\na bad film\t0\nit was bad\t0\n")
    (tmp_path / "dev.tsv").write_text("sentence\tlabel\ngood\t1\nbad\t0\n")
    (tmp_path / "test.tsv").write_text("index\tsentence\n0\tgood\n")
    return tmp_path


def test_a_glue_task_has_its_splits_labels_and_features(sst2, tokenizer):
    task = load_task("sst2", sst2)
    assert task.splits == ("train", "dev", "test")
    assert task.labels == ("negative", "positive")
    first = task.features("train", tokenizer)[0]
    assert first["input_ids"] == tokenizer.encode("a good film").ids
    assert first["labels"] == 1
    assert task.model_options()["id2label"] == {0: "negative", 1: "positive"}


def test_scores_and_predictions_come_from_the_largest_logit(sst2, tokenizer):
    task = load_task("sst2", sst2)
    features = task.features("dev", tokenizer)
    assert task.score("dev", features, answers(1, 1)) == {"accuracy": 50.0}
    assert [label for _, label in task.predictions("dev", features, answers(1, 0))] == [
        "positive",
        "negative",
    ]


def test_a_split_without_labels_can_be_predicted_but_not_scored(sst2, tokenizer):
    task = load_task("sst2", sst2)
    features = task.features("test", tokenizer)
    assert "labels" not in features[0]
    with pytest.raises(DataError, match="without a label"):
        task.score("test", features, answers(1))
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


@pytest.mark.parametrize(
    ("name", "train", "texts", "label"),
    [
        ("cola", "gj04\t1\t\tThe cat.\ngj04\t0\t*\tCat the.\n", ("The cat.",), 1),
        ("mrpc", "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t7\t8\tx\ty\n", ("x", "y"), 1),
        ("rte", "index\tsentence1\tsentence2\tlabel\n0\tx\ty\tnot_entailment\n", ("x", "y"), 1),
        ("qnli", "index\tquestion\tsentence\tlabel\n0\tx\ty\tentailment\n", ("x", "y"), 0),
        ("mnli", "index\tsentence1\tsentence2\tlabel1\tgold_label\n0\tx\ty\tz\tneutral\n", ("x", "y"), 1),
        ("qqp", "id\tquestion1\tquestion2\tis_duplicate\n0\tx\ty\t1\n", ("x", "y"), 1),
        ("stsb", "index\tgenre\tsentence1\tsentence2\tscore\n0\tg\tx\ty\t3.8\n", ("x", "y"), 3.8),
    ],
)
def test_every_glue_task_knows_its_columns(tmp_path, name, train, texts, label):
    (tmp_path / "train.tsv").write_text(train, encoding="utf-8")
    example = load_task(name, tmp_path).examples("train")[0]
    assert (example.texts, example.label) == (texts, label)


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


def test_a_users_table_needs_only_texts_and_labels(tmp_path, tokenizer):
    rows = [{"body": f"text {i}", "kind": ["sport", "news", "art"][i % 3]} for i in range(30)]
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    task = load_task("text", path, text_columns=["body"], label_column="kind")
    assert task.labels == ("art", "news", "sport")
    assert task.splits == ("train", "dev")
    assert len(task.examples("dev")) == 3
    assert task.score("dev", *scored(task, tokenizer))["accuracy"] == 100.0


def scored(task, tokenizer):
    features = task.features("dev", tokenizer)
    return features, answers(*(feature["labels"] for feature in features), count=len(task.labels))


def test_whole_number_labels_are_ordered_by_value(tmp_path):
    (tmp_path / "train.csv").write_text("text,label\na,10\nb,9\nc,-1\n")
    (tmp_path / "dev.csv").write_text("text,label\na,9\n")
    assert load_task("text", tmp_path).labels == ("-1", "9", "10")


@pytest.mark.parametrize(
    ("dev", "message"),
    [
        ("text,label\nfine,x\noh,z\n", "line 3: unknown label 'z'; known are x, y"),
        ("text,tag\nfine,x\n", "line 2: there is no column 'label'; there are text, tag"),
        ("sentence,label\nfine,x\n", "line 2: there is no column 'text'"),
        ("text,label\n", "holds no rows"),
    ],
)
def test_wrong_user_data_is_refused_with_file_and_line(tmp_path, dev, message):
    (tmp_path / "train.csv").write_text("text,label\na,x\nb,y\n")
    (tmp_path / "dev.csv").write_text(dev)
    with pytest.raises(DataError, match=message) as error:
        load_task("text", tmp_path)
    assert error.value.exit_code == 1


def test_one_label_is_not_a_task(tmp_path):
    (tmp_path / "train.csv").write_text("text,label\na,x\nb,x\n")
    with pytest.raises(DataError, match="1 distinct labels"):
        load_task("text", tmp_path)


def test_an_unknown_task_is_answered_with_the_nearest_name(tmp_path):
    with pytest.raises(UsageError, match="no task 'sst-2'") as error:
        load_task("sst-2", tmp_path)
    assert "sst2" in error.value.hint


def test_a_hub_set_without_the_datasets_library_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(UsageError, match="not installed") as error:
        load_task("sst2", "hub:")
    assert "pip install" in error.value.hint
