"""Tables are read row by row, and a row that does not fit is named by file and line."""

from __future__ import annotations

import gzip

import pytest

from obert_edge.errors import DataError
from obert_edge.host.data.tables import column, find_splits, read_rows


def test_tsv_quotes_are_text_and_lines_are_counted_from_1(tmp_path):
    path = tmp_path / "train.tsv"
    path.write_text('sentence\tlabel\n"so good\t1\nhe said "no"\t0\n', encoding="utf-8")
    assert list(read_rows(path)) == [
        (2, {"sentence": '"so good', "label": "1"}),
        (3, {"sentence": 'he said "no"', "label": "0"}),
    ]


def test_a_byte_order_mark_and_windows_line_ends_are_not_part_of_the_data(tmp_path):
    path = tmp_path / "train.tsv.gz"
    path.write_bytes(gzip.compress("\ufeffQuality\tx\r\n1\ty\r\n".encode()))
    assert list(read_rows(path)) == [(2, {"Quality": "1", "x": "y"})]


def test_csv_may_quote_commas_and_line_breaks(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('text,label\n"one, two\nthree",x\n', encoding="utf-8")
    assert list(read_rows(path)) == [(3, {"text": "one, two\nthree", "label": "x"})]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tsv", "x\ty\n1\n", "line 2: 1 columns where the header has 2"),
        ("a.csv", "x,y\n1,2\n1\n", "line 3: 1 columns"),
        ("a.csv", "", "is empty"),
        ("a.jsonl", '{"a": 1}\n{"a"\n', "line 2: not a JSON object"),
        ("a.jsonl", "[1]\n", "line 1: a JSON list"),
        ("a.parquet", "", "unknown suffix"),
    ],
)
def test_a_row_that_does_not_fit_names_file_and_line(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message) as error:
        list(read_rows(path))
    assert str(path) in error.value.message
    assert error.value.hint


def test_a_missing_and_a_binary_file_are_explained(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        list(read_rows(tmp_path / "a.csv"))
    (tmp_path / "b.tsv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(DataError, match="UTF-8"):
        list(read_rows(tmp_path / "b.tsv"))
    (tmp_path / "c.tsv.gz").write_bytes(b"not gzip")
    with pytest.raises(DataError, match="UTF-8"):
        list(read_rows(tmp_path / "c.tsv.gz"))


def test_splits_are_found_by_their_usual_names(tmp_path):
    (tmp_path / "train.csv").touch()
    (tmp_path / "validation.jsonl").touch()
    found = find_splits(tmp_path, (".csv", ".jsonl"))
    assert {split: path.name for split, path in found.items()} == {
        "train": "train.csv",
        "dev": "validation.jsonl",
    }
    with pytest.raises(DataError, match="holds none"):
        find_splits(tmp_path, (".tsv",))
    with pytest.raises(DataError, match="does not exist"):
        find_splits(tmp_path / "nowhere", (".tsv",))


def test_a_missing_column_is_named_with_the_columns_there_are():
    with pytest.raises(DataError, match="line 7: there is no column 'text'; there are sentence, label"):
        column((7, {"sentence": "x", "label": "y"}), "text", "file.csv")
