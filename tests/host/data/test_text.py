"""A user's own table of texts and labels becomes a task, or the line that is wrong is named."""

from __future__ import annotations

import gzip
import json

import pytest

from obert_edge.errors import DataError
from obert_edge.host.data import load_task
from tests.host.data.answers import one_hot_answers


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
    return features, one_hot_answers(*(feature["labels"] for feature in features), count=len(task.labels))


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
    with pytest.raises(DataError, match="1 distinct label;"):
        load_task("text", tmp_path)


@pytest.mark.parametrize("number", ["1" + "0" * 400, "-1" + "0" * 400])
def test_a_number_larger_than_any_is_no_label_and_no_text(tmp_path, number):
    for row in (f'{{"text": "a", "label": {number}}}', f'{{"text": {number}, "label": 1}}'):
        (tmp_path / "train.jsonl").write_text(f'{{"text": "b", "label": 2.5}}\n{row}\n')
        with pytest.raises(DataError, match="line 2"):
            load_task("text", tmp_path)


def test_texts_that_are_all_empty_are_refused(tmp_path):
    (tmp_path / "train.csv").write_text("text,label\n,good\n ,bad\n")
    with pytest.raises(DataError, match="'text' is empty in every row"):
        load_task("text", tmp_path)


def test_classes_that_differ_in_case_alone_are_said(tmp_path):
    (tmp_path / "train.csv").write_text("text,label\nx,Good\ny,good\nz,bad\n")
    assert load_task("text", tmp_path).describe().endswith("of which 'Good' and 'good' differ in case alone")


def test_a_packed_file_that_is_neither_text_nor_whole_is_refused(tmp_path):
    packed = bytearray(gzip.compress(b"text,label\n\xff\xfe,1\n" + bytes(range(256)) * 2000))
    packed[-8] ^= 1  # its checksum
    (tmp_path / "train.csv.gz").write_bytes(packed)
    with pytest.raises(DataError, match="train"):
        load_task("text", tmp_path)
