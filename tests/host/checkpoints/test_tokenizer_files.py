"""A model folder's tokenizer, new or old, is one tokenizer.json; what does not fit the model is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from obert_edge.errors import CheckpointError
from obert_edge.host.checkpoints.tokenizer_files import (
    check_tokenizer,
    load_tokenizer,
    read_tokenizer,
    tokenizer_facts,
)

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "good", "film"]


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """A folder with the vocabulary alone, as BERT's of 2018."""
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    return tmp_path


def test_an_older_vocabulary_becomes_a_tokenizer_json(older: Path) -> None:
    made = read_tokenizer(older)
    assert made is not None
    assert Tokenizer.from_str(made.decode()).encode("a good film").ids == [2, 5, 6, 7, 3]
    assert load_tokenizer(older).encode("a good film").ids == [2, 5, 6, 7, 3]


def test_a_tokenizer_json_is_taken_as_it_is(older: Path) -> None:
    made = read_tokenizer(older)
    assert made is not None
    (older / "tokenizer.json").write_bytes(made)
    (older / "vocab.txt").unlink()
    assert read_tokenizer(older) == made
    assert load_tokenizer(older).to_str().encode() == made


def test_a_loaded_tokenizer_neither_cuts_nor_pads(older: Path) -> None:
    tokenizer = Tokenizer.from_str((read_tokenizer(older) or b"").decode())
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=9)
    tokenizer.save(str(older / "tokenizer.json"))
    assert load_tokenizer(older).encode("a good film a good film").ids == [2, 5, 6, 7, 5, 6, 7, 3]


def test_a_folder_without_a_tokenizer_can_be_built_but_not_trained(tmp_path: Path) -> None:
    assert read_tokenizer(tmp_path) is None
    with pytest.raises(CheckpointError, match=r"holds no tokenizer\.json, and transformers cannot make one"):
        load_tokenizer(tmp_path)


def test_a_broken_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match="cannot be read as JSON"):
        read_tokenizer(tmp_path)
    with pytest.raises(CheckpointError, match="is not a tokenizer"):
        load_tokenizer(tmp_path)


def test_a_vocabulary_larger_than_the_word_embeddings_is_refused(older: Path) -> None:
    tokenizer = read_tokenizer(older)
    check_tokenizer(tokenizer, len(WORDS), older)
    check_tokenizer(None, 0, older)
    with pytest.raises(CheckpointError, match="makes ids up to 7; the model has 7 word embeddings"):
        check_tokenizer(tokenizer, len(WORDS) - 1, older)


def test_the_facts_are_class_longest_input_and_special_tokens(tmp_path: Path) -> None:
    config = {"tokenizer_class": "BertTokenizer", "model_max_length": 512, "cls_token": {"content": "[CLS]"}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "special_tokens_map.json").write_text('{"mask_token": "[MASK]"}')
    assert tokenizer_facts(tmp_path) == {
        "class": "BertTokenizer",
        "model_max_length": 512,
        "special_tokens": {"cls_token": "[CLS]", "mask_token": "[MASK]"},
    }
    (tmp_path / "tokenizer_config.json").write_text('{"model_max_length": 1e30}')
    assert "model_max_length" not in tokenizer_facts(tmp_path)
