"""The GLUE tasks: columns, labels and splits of the original TSV files."""

from __future__ import annotations

import pytest

from obert_edge.host.data import load_task


def test_a_glue_task_has_its_splits_labels_and_features(sst2, tokenizer):
    task = load_task("sst2", sst2)
    assert task.splits == ("train", "dev", "test")
    assert task.labels == ("negative", "positive")
    first = task.features("train", tokenizer)[0]
    assert first["input_ids"] == tokenizer.encode("a good film").ids
    assert first["labels"] == 1
    assert task.model_options()["id2label"] == {0: "negative", 1: "positive"}


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
