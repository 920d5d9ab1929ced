"""A model folder's tokenizer, new or old, is one tokenizer.json; what does not fit the model is refused."""

from __future__ import annotations

import base64
import json
import struct
import sys
from pathlib import Path
from typing import Dict

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer

from obert_edge.errors import CheckpointError
from obert_edge.host.checkpoints.tokenizer_files import (
    check_room,
    check_tokenizer,
    load_tokenizer,
    read_tokenizer,
    tokenizer_facts,
)
from obert_edge.host.data.base import truncate
from tests.device.bundles import save_bert_tokenizer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "good", "film"]


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """A folder with the vocabulary alone, as BERT's of 2018."""
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    return tmp_path


@pytest.fixture
def saved(older: Path) -> bytes:
    """The same with a ``tokenizer.json`` as well, which was made where transformers is installed."""
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.save(str(older / "tokenizer.json"))
    return (older / "tokenizer.json").read_bytes()


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


def test_a_file_that_transformers_reads_otherwise_is_told_with_what_differs(
    older: Path, saved: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """The `tokenizers` library lists no special token that nobody added; transformers adds them."""
    (older / "vocab.txt").unlink()
    (older / "tokenizer_config.json").unlink()
    made = read_tokenizer(older)
    assert made is not None
    assert made != saved
    (told,) = [record.getMessage() for record in caplog.records]
    assert f"{older / 'tokenizer.json'} is not the tokenizer that transformers makes" in told
    assert (
        "transformers finds [PAD], [UNK], [CLS], [SEP], [MASK] in a text as one token, and the file cuts it "
        "like words" in told
    )
    assert "bundle go by transformers; AutoTokenizer.from_pretrained(folder).save_pretrained(folder)" in told
    # The fix that it names is one.
    AutoTokenizer.from_pretrained(older).save_pretrained(older)
    caplog.clear()
    read_tokenizer(older)
    assert not caplog.records


def test_a_file_that_the_library_made_with_its_special_tokens_is_taken_as_it_is(
    older: Path, saved: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (older / "vocab.txt").unlink()
    (older / "tokenizer_config.json").unlink()
    tokenizer = Tokenizer.from_str(saved.decode())
    tokenizer.add_special_tokens(WORDS[:5])
    tokenizer.save(str(older / "tokenizer.json"))
    assert read_tokenizer(older) == (older / "tokenizer.json").read_bytes()
    assert not caplog.records


def test_a_configuration_that_contradicts_the_file_is_told_field_by_field(
    older: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = read_tokenizer(older)
    assert made is not None
    (older / "tokenizer.json").write_bytes(made)
    config = {"tokenizer_class": "BertTokenizer", "do_lower_case": False, "truncation_side": "left"}
    (older / "tokenizer_config.json").write_text(json.dumps(config))
    read_tokenizer(older)
    (told,) = [record.getMessage() for record in caplog.records]
    assert "normalizer lowercase is true in the file and false in transformers" in told
    assert "the file cuts long texts at the end, and transformers at the beginning" in told


def test_a_loaded_tokenizer_neither_cuts_nor_pads(older: Path) -> None:
    tokenizer = Tokenizer.from_str((read_tokenizer(older) or b"").decode())
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=9)
    tokenizer.save(str(older / "tokenizer.json"))
    assert load_tokenizer(older).encode("a good film a good film").ids == [2, 5, 6, 7, 5, 6, 7, 3]


def test_a_folder_without_a_tokenizer_can_be_built_but_not_trained(tmp_path: Path) -> None:
    assert read_tokenizer(tmp_path) is None
    with pytest.raises(CheckpointError, match=r"holds no tokenizer\.json, nor a vocabulary"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("{", "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON"),
        ("[1]", "holds a list, not an object"),
        ("{}", "is not a tokenizer"),
        ('{"model": {"type": "WordPiece", "vocab": ["a"]}}', "is not a tokenizer"),
        ('{"model": {"type": "BPE", "vocab": {"a": 0}}}', "is not a tokenizer"),
        ('{"model": {"type": "Unigram", "vocab": {"a": 0}}}', "is not a tokenizer"),
    ],
)
def test_a_broken_tokenizer_is_refused(tmp_path: Path, content: str, found: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    for read in (read_tokenizer, load_tokenizer):
        with pytest.raises(CheckpointError, match=found):
            read(tmp_path)


@pytest.mark.parametrize("named", [{"type": "Precompiled"}, {}])
def test_a_table_that_claims_gigabytes_is_refused_before_the_library_takes_them(
    older: Path, named: Dict[str, str]
) -> None:
    """The tokenizers library ends the process where there are not as many."""
    path = older / "tokenizer.json"
    content = json.loads(read_tokenizer(older) or b"")
    table = base64.b64encode(struct.pack("<2I", 2**32 - 4, 0)).decode()
    normalizers = [content["normalizer"], {**named, "precompiled_charsmap": table}]
    content["normalizer"] = {"type": "Sequence", "normalizers": normalizers}
    path.write_text(json.dumps(content))
    for read in (read_tokenizer, load_tokenizer):
        with pytest.raises(CheckpointError, match="is not a tokenizer: .*a trie of 4294967292 bytes in 8"):
            read(older)


def test_a_vocabulary_larger_than_the_word_embeddings_is_refused(older: Path) -> None:
    tokenizer = read_tokenizer(older)
    check_tokenizer(tokenizer, len(WORDS), older)
    check_tokenizer(None, 0, older)
    with pytest.raises(
        CheckpointError, match=r"makes ids up to 7, such as 'film' \(7\); the model has 7 word"
    ):
        check_tokenizer(tokenizer, len(WORDS) - 1, older)


def test_a_tokenizer_that_cuts_special_tokens_is_refused(older: Path) -> None:
    (older / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizer", "split_special_tokens": True})
    )
    with pytest.raises(CheckpointError, match="says split_special_tokens") as caught:
        read_tokenizer(older)
    assert "take split_special_tokens out" in caught.value.hint


@pytest.mark.parametrize(("pairs", "least"), [(False, 3), (True, 5)])
def test_a_length_that_special_tokens_fill_is_refused(older: Path, pairs: bool, least: int) -> None:
    tokenizer = read_tokenizer(older)
    check_room(tokenizer, least, pairs, older)
    check_room(None, 1, pairs, older)
    found = rf"cut to {least - 1} tokens, and {3 if pairs else 2} of them are special"
    with pytest.raises(CheckpointError, match=found) as caught:
        check_room(tokenizer, least - 1, pairs, older)
    assert f"--max-length {least} or more" in caught.value.hint


def test_added_tokens_beyond_the_word_embeddings_are_refused(older: Path) -> None:
    tokenizer = Tokenizer.from_str((read_tokenizer(older) or b"").decode())
    tokenizer.add_tokens(["covid19", "[E1]"])
    added = str(tokenizer.to_str()).encode()
    check_tokenizer(added, len(WORDS) + 2, older)
    with pytest.raises(CheckpointError, match=r"'covid19' \(8\), '\[E1\]' \(9\)") as caught:
        check_tokenizer(added, len(WORDS), older)
    assert "resize_token_embeddings" in caught.value.hint


def test_special_tokens_beyond_the_word_embeddings_are_refused(older: Path) -> None:
    description = json.loads(read_tokenizer(older) or b"")
    description["post_processor"]["special_tokens"]["[SEP]"]["ids"] = [50]
    with pytest.raises(CheckpointError, match="makes ids up to 50"):
        check_tokenizer(json.dumps(description).encode(), len(WORDS), older)


@pytest.fixture
def no_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)


@pytest.mark.usefixtures("no_transformers")
def test_without_transformers_files_that_agree_are_read(older: Path, saved: bytes) -> None:
    assert read_tokenizer(older) == saved
    assert load_tokenizer(older).encode("a good film").ids == [2, 5, 6, 7, 3]


@pytest.mark.usefixtures("no_transformers")
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("do_lower_case", False),
        ("strip_accents", True),
        ("tokenize_chinese_chars", False),
        ("truncation_side", "left"),
        ("added_tokens_decoder", {"9": {"content": "covid19", "special": False}}),
    ],
)
def test_without_transformers_files_that_disagree_are_refused(
    older: Path, saved: bytes, field: str, value: object
) -> None:
    (older / "tokenizer_config.json").write_text(json.dumps({field: value}))
    with pytest.raises(CheckpointError, match=r"tokenizer_config\.json says") as caught:
        read_tokenizer(older)
    assert "pip install transformers" in caught.value.hint


@pytest.mark.usefixtures("no_transformers")
def test_without_transformers_an_older_vocabulary_is_refused(older: Path) -> None:
    with pytest.raises(CheckpointError, match="needs transformers"):
        read_tokenizer(older)


def test_a_tokenizer_that_has_no_tokenizer_json_is_refused(older: Path) -> None:
    (older / "tokenizer_config.json").write_text('{"tokenizer_class": "CanineTokenizer"}')
    with pytest.raises(
        CheckpointError, match=r"CanineTokenizer, has no form that a tokenizer\.json"
    ) as caught:
        read_tokenizer(older)
    assert "save_pretrained" not in caught.value.hint


def test_files_that_transformers_cannot_read_are_refused(older: Path) -> None:
    (older / "vocab.txt").unlink()
    (older / "spiece.model").write_bytes(b"no such model")
    (older / "tokenizer_config.json").write_text('{"tokenizer_class": "AlbertTokenizer"}')
    with pytest.raises(CheckpointError, match="transformers makes no tokenizer") as caught:
        read_tokenizer(older)
    assert "save_pretrained" not in caught.value.hint


def test_a_tokenizer_that_cuts_the_beginning_of_texts_still_does(older: Path) -> None:
    (older / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "BertTokenizer", "truncation_side": "left"}'
    )
    tokenizer = load_tokenizer(older)
    assert len(tokenizer.encode("a good film " * 100).ids) == 302
    truncate(tokenizer, 4)
    assert tokenizer.encode("a good film").ids == [2, 6, 7, 3]


def test_the_facts_are_class_longest_input_and_special_tokens(tmp_path: Path) -> None:
    config = {"tokenizer_class": "BertTokenizer", "model_max_length": 512, "cls_token": {"content": "[CLS]"}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "special_tokens_map.json").write_text('{"mask_token": "[MASK]"}')
    assert tokenizer_facts(tmp_path) == {
        "class": "BertTokenizer",
        "model_max_length": 512,
        "special_tokens": {"cls_token": "[CLS]", "mask_token": "[MASK]"},
    }
    for unlimited in ("1e30", "1" + 30 * "0", "true", '"512"', "0"):
        (tmp_path / "tokenizer_config.json").write_text(f'{{"model_max_length": {unlimited}}}')
        assert "model_max_length" not in tokenizer_facts(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"max_len": 256.0}')
    assert tokenizer_facts(tmp_path)["model_max_length"] == 256


def test_a_template_of_tokens_that_are_not_listed_is_refused_in_words(tmp_path):
    """Found by ``tests/fuzz``: it ended in a KeyError."""
    save_bert_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    path = tmp_path / "tokenizer.json"
    description = json.loads(path.read_text())
    description["post_processor"]["special_tokens"] = {
        "[CLS]": description["post_processor"]["special_tokens"]["[CLS]"]
    }
    path.write_text(json.dumps(description))
    with pytest.raises(CheckpointError):
        read_tokenizer(tmp_path)
