"""Tables are read row by row, and a row that does not fit is named by file and line."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import pytest

from obert_edge.errors import DataError
from obert_edge.host.data import load_task
from obert_edge.host.data.tables import column, find_splits, read_json, read_rows, text_of


def rows_of(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return list(read_rows(path))


def test_tsv_quotes_are_text_and_lines_are_counted_from_1(tmp_path):
    assert rows_of(tmp_path / "train.tsv", 'sentence\tlabel\n"so good\t1\nhe said "no"\t0\n') == [
        (2, {"sentence": '"so good', "label": "1"}),
        (3, {"sentence": 'he said "no"', "label": "0"}),
    ]


def test_a_byte_order_mark_and_windows_line_ends_are_not_part_of_the_data(tmp_path):
    content = "\ufeffQuality\tx\r\n1\ty\r\n".encode()
    assert rows_of(tmp_path / "train.tsv.gz", gzip.compress(content)) == [(2, {"Quality": "1", "x": "y"})]


def test_csv_may_quote_commas_and_line_breaks(tmp_path):
    assert rows_of(tmp_path / "a.csv", 'text,label\n"one, two\nthree",x\n') == [
        (3, {"text": "one, two\nthree", "label": "x"})
    ]


@pytest.mark.parametrize("length", [131_072, 131_073, 1_000_000])
def test_a_field_may_be_as_long_as_it_likes_and_the_limit_of_the_process_stays(tmp_path, length):
    before = csv.field_size_limit()
    ((_, row),) = rows_of(tmp_path / "a.csv", f"text,label\n{'x' * length},a\n")
    assert len(row["text"]) == length
    assert csv.field_size_limit() == before


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "text,label\rone,a\rtwo,b\r"),
        ("a.tsv", "text\tlabel\rone\ta\rtwo\tb\r"),
        ("a.jsonl", '{"text": "one", "label": "a"}\r{"text": "two", "label": "b"}'),
    ],
)
def test_lines_may_end_with_a_carriage_return_alone(tmp_path, name, content):
    assert [row for _, row in rows_of(tmp_path / name, content)] == [
        {"text": "one", "label": "a"},
        {"text": "two", "label": "b"},
    ]


def test_a_carriage_return_within_a_line_of_a_tsv_is_text(tmp_path):
    assert rows_of(tmp_path / "a.tsv", "text\tlabel\none\rtwo\ta\n") == [
        (2, {"text": "one\rtwo", "label": "a"})
    ]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_blank_lines_are_passed_over_before_the_header_too(tmp_path, name):
    separator = "," if name.endswith("csv") else "\t"
    content = "\n  \ntext,label\n\none,a\n \n".replace(",", separator)
    assert rows_of(tmp_path / name, content) == [(5, {"text": "one", "label": "a"})]


def test_spaces_around_the_names_of_columns_are_no_part_of_them(tmp_path):
    assert rows_of(tmp_path / "a.csv", "text, label \none,a\n") == [(2, {"text": "one", "label": "a"})]


def test_where_spaces_follow_the_commas_of_the_header_a_quote_after_one_opens_a_text(tmp_path):
    ((_, row),) = rows_of(tmp_path / "a.csv", '\ufefftext, label, x\n"one, two", "a b", c\n')
    assert row == {"text": "one, two", "label": "a b", "x": "c"}


@pytest.mark.parametrize("name", ["a.json", "a.json.gz"])
def test_json_is_a_list_of_objects_and_each_is_named_by_its_line(tmp_path, name):
    content = b'\n[{"a": "]"},\n\n {"a":\n 2}, {"a": 3}\n]\n'
    content = gzip.compress(content) if name.endswith("gz") else content
    assert rows_of(tmp_path / name, content) == [(2, {"a": "]"}), (4, {"a": 2}), (5, {"a": 3})]


def test_json_may_be_json_lines_as_datasets_writes_it(tmp_path):
    assert rows_of(tmp_path / "a.json", '{"a": 1}\n{"a": 2}\n') == [(1, {"a": 1}), (2, {"a": 2})]


def test_the_separators_of_lines_that_unicode_knows_are_text(tmp_path):
    text = "one\u2028two\u0085three"
    assert rows_of(tmp_path / "a.jsonl", json.dumps({"a": text}, ensure_ascii=False)) == [(1, {"a": text})]
    assert rows_of(tmp_path / "a.tsv", f"a\tb\n{text}\tc\n") == [(2, {"a": text, "b": "c"})]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tsv", "x\ty\n1\n", "line 2: 1 columns where the header has 2"),
        ("a.tsv", "x\ty\n1\t2\t3\n", "line 2: 3 columns where the header has 2"),
        ("a.tsv", "", "is empty"),
        ("a.tsv", "x\ty\tx\n1\t2\t3\n", "line 1: the header names the column 'x' twice"),
        ("a.csv", "x,y\n1,2\n1\n", "line 3: 1 columns"),
        ("a.csv", "x,y\n1,2,3\n", "line 2: 3 columns where the header has 2"),
        ("a.csv", "", "is empty"),
        ("a.csv", "\n\n", "is empty"),
        ("a.csv", "x,y\n", "holds no rows"),
        ("a.csv", 'x,y\n1,2\n"cut off,', "line 3: a quote opens that is never closed"),
        ("a.csv", 'x,y\n"he" said,2\n', "line 2: not CSV"),
        ("a.csv", b"x\0,\0y\0\n\0", "header holds NUL bytes"),
        ("a.jsonl", '{"a": 1}\n{"a"\n', "line 2: not a JSON object"),
        ("a.jsonl", "[1]\n", "line 1: a JSON list"),
        ("a.jsonl", '{"a": 1, "a": 2}\n', "line 1: an object has the key 'a' twice"),
        ("a.jsonl", "[" * 100_000, "line 1: JSON that cannot be read: nested too deeply"),
        ("a.jsonl", '{"a": ' + "1" * 5000 + "}", "line 1: JSON that cannot be read"),
        ("a.jsonl", "", "holds no rows"),
        ("a.json", '[{"a": 1},\n 2]', "line 2: a JSON int"),
        ("a.json", '[{"a": 1},\n {"a": 1', "line 2: not JSON"),
        ("a.json", "[]", "holds no rows"),
        ("a.parquet", "", "unknown suffix"),
        (
            "a.csv",
            "x,y\nä,1\ncafé,2\n".encode().replace(b"\xc3\xa9", b"\xe9"),
            "line 3: the byte 0xe9",
        ),
        ("a.csv", "x,y\n1,2\n".encode("utf-16"), "is UTF-16"),
        ("a.csv", b"PK\x03\x04\x14\0\xff", "is a ZIP archive"),
        ("a.csv", gzip.compress(b"x,y\n1,2\n", mtime=0), "compressed by gzip, which its name does not say"),
        ("a.csv.gz", gzip.compress(b"x,y\n1,2\n" * 1000, mtime=0)[:-9], "cannot be unpacked"),
        ("a.csv.gz", b"x,y\n1,2\n", "cannot be unpacked"),
    ],
)
def test_a_file_that_does_not_fit_is_named_with_its_line_and_what_to_do(tmp_path, name, content, message):
    with pytest.raises(DataError, match=message) as error:
        rows_of(tmp_path / name, content)
    assert str(tmp_path / name) in error.value.message
    assert error.value.hint


def test_a_damaged_archive_is_an_error_and_not_fewer_rows(tmp_path):
    content = "a,b\n" + "".join(f"{i},{i * 7919}\n" for i in range(3000))
    packed = bytearray(gzip.compress(content.encode()))
    packed[len(packed) // 2] ^= 0xFF
    with pytest.raises(DataError, match="cannot be unpacked|not UTF-8|columns"):
        rows_of(tmp_path / "a.csv.gz", bytes(packed))


def test_a_missing_file_and_a_folder_are_explained(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        list(read_rows(tmp_path / "a.csv"))
    (tmp_path / "b.csv").mkdir()
    with pytest.raises(DataError, match="is a folder"):
        list(read_rows(tmp_path / "b.csv"))


def test_splits_are_found_by_their_usual_names(tmp_path):
    (tmp_path / "train.csv").touch()
    (tmp_path / "validation.jsonl").touch()
    found = find_splits(tmp_path, (".csv", ".jsonl"))
    assert {split: path.name for split, path in found.items()} == {
        "train": "train.csv",
        "dev": "validation.jsonl",
    }
    with pytest.raises(DataError, match="holds none .* it holds train.csv, validation.jsonl"):
        find_splits(tmp_path, (".tsv",))
    with pytest.raises(DataError, match="does not exist"):
        find_splits(tmp_path / "nowhere", (".tsv",))
    with pytest.raises(DataError, match="train.csv is a file; a folder with a file for each split"):
        find_splits(tmp_path / "train.csv", (".csv",))


@pytest.mark.parametrize("second", ["train.jsonl", "training.csv"])
def test_two_files_of_one_split_are_not_chosen_from(tmp_path, second):
    (tmp_path / "train.csv").touch()
    (tmp_path / second).touch()
    with pytest.raises(
        DataError, match=f"(train.csv and {second}|{second} and train.csv), and split 'train'"
    ):
        find_splits(tmp_path, (".csv", ".jsonl"))


def test_a_folder_called_as_a_file_is_no_split(tmp_path):
    (tmp_path / "train.csv").mkdir()
    with pytest.raises(DataError, match="train.csv is a folder"):
        find_splits(tmp_path, (".csv",))


def test_a_missing_column_is_named_with_the_columns_there_are():
    with pytest.raises(
        DataError, match="line 7: there is no column 'text'; there are sentence, label"
    ) as error:
        column((7, {"sentence": "x", "label": "y"}), "text", Path("file.csv"))
    assert "the first line of a table must name its columns" in error.value.hint


@pytest.mark.parametrize("name", ["a.jsonl", "a.json.gz"])
def test_a_missing_key_of_an_object_is_not_called_a_column_of_a_header(name):
    with pytest.raises(DataError, match="line 7: the object has no key 'label'; it has text") as error:
        column((7, {"text": "x"}), "label", Path(name))
    assert "first line" not in error.value.hint
    assert "the key 'label'" in error.value.hint


def test_a_missing_column_of_a_set_on_the_hub_is_not_one_of_a_header():
    with pytest.raises(DataError, match="there is no column 'label'; there are text") as error:
        column((7, {"text": "x"}), "label", "owner/set train")
    assert "first line" not in error.value.hint


def test_a_null_is_not_a_missing_column():
    with pytest.raises(DataError, match="line 7: column 'text' is null"):
        column((7, {"text": None}), "text", "file.jsonl")


def test_another_separator_is_recognized():
    with pytest.raises(DataError, match="text;label") as error:
        column((2, {"text;label": "one;a"}), "text", "file.csv")
    assert "semicolons" in error.value.hint


def test_a_text_is_a_text_or_a_number():
    assert text_of((1, {"text": 1.5}), "text", "file") == "1.5"
    for value in (["a"], {"a": 1}, True, float("nan")):
        with pytest.raises(DataError, match="line 1: column 'text' holds .*; expected a text"):
            text_of((1, {"text": value}), "text", "file")


def test_half_a_character_is_refused():
    row = read_json('{"text": "bad \\ud83d here"}', "file")
    with pytest.raises(DataError, match=r"line 3: column 'text' holds half a character, '\\ud83d', at 4"):
        text_of((3, row), "text", "file")


def test_texts_of_a_task_are_checked_while_it_is_loaded(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text('{"text": "x", "label": "a"}\n{"text": ["y"], "label": "b"}\n')
    with pytest.raises(DataError, match="line 2: column 'text' holds"):
        load_task("text", path)
