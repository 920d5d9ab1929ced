"""Texts without labels."""

from __future__ import annotations

import pytest

from obert_edge.errors import DataError
from obert_edge.host.data import load_task


@pytest.mark.parametrize(
    ("name", "content", "columns"),
    [
        ("t.txt", "one text\n\n another \n", ()),
        ("t.csv", "text\none text\nanother\n", ()),
        ("t.jsonl", '{"body": "one text", "n": 1}\n{"body": "another"}\n', ("body",)),
        ("t.tsv", "text\ttag\none text\tx\nanother\ty\n", ()),
    ],
)
def test_a_file_of_texts_is_a_train_split_without_labels(tmp_path, name, content, columns):
    (tmp_path / name).write_text(content)
    task = load_task("text", tmp_path / name, text_columns=columns, needs_labels=False)
    assert [example.texts for example in task.examples("train")] == [("one text",), ("another",)]
    assert not task.labeled and task.splits == ("train",)


def test_a_folder_may_have_texts_beside_tables(tmp_path):
    (tmp_path / "train.txt").write_text("one\n")
    (tmp_path / "dev.csv").write_text("text\ntwo\n")
    assert load_task("text", tmp_path, needs_labels=False).splits == ("train", "dev")


def test_rows_with_labels_keep_them(tmp_path):
    rows = [f"text {number},{'ab'[number % 2]}\n" for number in range(20)]
    (tmp_path / "t.csv").write_text("text,label\n" + "".join(rows))
    assert load_task("text", tmp_path / "t.csv", needs_labels=False).labels == ("a", "b")


def test_a_column_of_labels_is_missed_where_they_are_needed(tmp_path):
    (tmp_path / "t.csv").write_text("text\none\n")
    with pytest.raises(DataError, match="no column 'label'"):
        load_task("text", tmp_path / "t.csv")


@pytest.mark.parametrize(
    "said", [{"labels": ("a", "b")}, {"problem_type": "multi_label"}, {"label_separator": ";"}]
)
def test_who_says_what_the_labels_are_needs_them(tmp_path, said):
    (tmp_path / "t.csv").write_text("text\none\n")
    with pytest.raises(DataError, match="no column 'label'"):
        load_task("text", tmp_path / "t.csv", needs_labels=False, **said)


def test_the_line_about_the_task_says_that_there_are_no_labels(tmp_path):
    (tmp_path / "t.txt").write_text("one\n")
    assert (
        load_task("text", tmp_path / "t.txt", needs_labels=False).describe() == "text: texts without labels"
    )


def test_a_column_of_text_is_always_missed(tmp_path):
    (tmp_path / "t.csv").write_text("sentence\none\n")
    with pytest.raises(DataError, match="no column 'text'"):
        load_task("text", tmp_path / "t.csv", needs_labels=False)


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "t.txt").write_text("\n\n")
    with pytest.raises(DataError, match="holds no text"):
        load_task("text", tmp_path / "t.txt", needs_labels=False)
