"""Calibration texts are read from files, and become batches of similar length."""

from __future__ import annotations

import gzip
import json

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from obert_edge.calibration import calibration_batches, read_texts
from obert_edge.errors import DataError


@pytest.fixture(scope="module")
def tokenizer():
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "c"]
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]")


def write(folder, name, text):
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_a_text_file_holds_a_text_per_line(tmp_path):
    assert read_texts(write(tmp_path, "x.txt", "one\n\n two \n")) == ["one", "two"]


def test_json_lines_csv_and_tsv_are_read_by_their_well_known_columns(tmp_path):
    lines = "\n".join(json.dumps({"idx": i, "text": f"t{i}"}) for i in range(3))
    assert read_texts(write(tmp_path, "x.jsonl", lines)) == ["t0", "t1", "t2"]
    assert read_texts(write(tmp_path, "x.csv", 'label,sentence\n1,"a, b"\n')) == ["a, b"]
    glue = 'sentence1\tsentence2\tlabel\nhe said "no\tb\t1\n'
    assert read_texts(write(tmp_path, "x.tsv", glue)) == [('he said "no', "b")]


def test_compressed_files_are_read_by_the_name_inside(tmp_path):
    whole = gzip.compress(b"sentence\tlabel\none\t1\ntwo\t0\n")
    (tmp_path / "dev.tsv.gz").write_bytes(whole)
    assert read_texts(tmp_path / "dev.tsv.gz") == ["one", "two"]
    (tmp_path / "cut.tsv.gz").write_bytes(whole[:-12])
    (tmp_path / "bad.tsv.gz").write_bytes(b"sentence\tlabel\n")
    for name in ("cut.tsv.gz", "bad.tsv.gz"):
        with pytest.raises(DataError, match="cannot be read"):
            read_texts(tmp_path / name)


def test_columns_can_be_named(tmp_path):
    file = write(tmp_path, "x.csv", "review,title\nlong,short\n")
    assert read_texts(file, columns=["title"]) == ["short"]
    assert read_texts(file, columns=["title", "review"]) == [("short", "long")]


def test_a_long_file_is_sampled_evenly(tmp_path):
    file = write(tmp_path, "x.txt", "\n".join(map(str, range(100))))
    assert read_texts(file, limit=4) == ["0", "25", "50", "75"]


@pytest.mark.parametrize(
    "name, content, columns, message",
    [
        ("x.txt", "", None, "holds no text"),
        ("x.csv", "id,label\n1,2\n", None, r"\['id', 'label'\]"),
        ("x.csv", "text,label\n1,2\n", ["body"], "expected .*body"),
        ("x.jsonl", '{"text": 3}', None, "row 1"),
        ("x.jsonl", '{"text": "a"}\n{', None, "line 2: not JSON"),
        ("x.parquet", "", None, "expected .txt, .jsonl"),
    ],
)
def test_bad_files_are_explained(tmp_path, name, content, columns, message):
    with pytest.raises(DataError, match=message):
        read_texts(write(tmp_path, name, content), columns)


def test_a_missing_file_and_one_that_is_not_text_are_explained(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_texts(tmp_path / "none.txt")
    (tmp_path / "x.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not UTF-8"):
        read_texts(tmp_path / "x.txt")


def test_batches_hold_texts_of_similar_length(tokenizer):
    batches = calibration_batches(["a b c a", "a", "b c a b", "b"], tokenizer, batch_size=2)
    assert [tuple(batch["input_ids"].shape) for batch in batches] == [(2, 1), (2, 4)]
    assert all(bool(batch["attention_mask"].all()) for batch in batches)


def test_pairs_are_tokenized_together_and_long_texts_are_cut(tokenizer):
    (batch,) = calibration_batches([("a b c a", "b c")], tokenizer, max_length=5)
    assert batch["input_ids"].shape == (1, 5)


def test_a_limit_holds_even_for_an_endless_stream(tokenizer):
    def endless():
        while True:
            yield "a b"

    batches = calibration_batches(endless(), tokenizer, batch_size=4, limit=10)
    assert sum(len(batch["input_ids"]) for batch in batches) == 10


def test_no_text_is_an_error(tokenizer):
    with pytest.raises(DataError, match="no text"):
        calibration_batches([], tokenizer)
