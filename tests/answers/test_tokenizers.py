"""A folder's tokenizer is transformers' own, whichever of its files say what, on the host and on a device."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as Library
from tokenizers import models, pre_tokenizers
from transformers import AutoTokenizer

from obert_edge.device.tokenizers.tokenizer import Tokenizer
from obert_edge.host.checkpoints.tokenizer_files import load_tokenizer, read_tokenizer
from tests.answers.models import save_byte_bpe, save_unigram, save_wordpiece

TEXTS = [
    "The GREAT film, isn't it? Angela Merkel met John in Paris 42 times.",
    "naïve ÀÉ café cafe\u0301 東京 good superb<mask>lovely [MASK] book",
    "covid19 the $E1 virus <e> spread  two  spaces ",
    "",
]


def wordpiece(folder: Path) -> None:
    save_wordpiece(folder)
    (folder / "config.json").write_text('{"model_type": "bert"}')


def byte_bpe(folder: Path) -> None:
    save_byte_bpe(folder, TEXTS * 5)
    (folder / "config.json").write_text('{"model_type": "roberta"}')


def unigram(folder: Path) -> None:
    save_unigram(folder, TEXTS * 20)
    (folder / "config.json").write_text('{"model_type": "xlm-roberta"}')


def configured(**fields: Any) -> Callable[[Path], None]:
    """Says something else in ``tokenizer_config.json``."""

    def change(folder: Path) -> None:
        path = folder / "tokenizer_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))

    return change


def described(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    """Says something else in ``tokenizer.json``."""

    def apply(folder: Path) -> None:
        description = json.loads((folder / "tokenizer.json").read_text())
        change(description)
        (folder / "tokenizer.json").write_text(json.dumps(description))

    return apply


def without(*names: str) -> Callable[[Path], None]:
    """Files are missing."""

    def change(folder: Path) -> None:
        for name in names:
            (folder / name).unlink(missing_ok=True)

    return change


def token(content: str, **flags: bool) -> dict[str, Any]:
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    return {"content": content, **plain, **flags}


def mask_swallows_space(description: dict[str, Any]) -> None:
    for entry in description["added_tokens"]:
        entry["lstrip"] = entry["lstrip"] or "mask" in entry["content"].lower()


def cut_at_four(description: dict[str, Any]) -> None:
    description["truncation"] = {
        "direction": "Right",
        "max_length": 4,
        "strategy": "LongestFirst",
        "stride": 0,
    }
    description["padding"] = {
        "strategy": {"Fixed": 9},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "[PAD]",
    }


DISAGREEING: dict[str, tuple[Callable[[Path], None], Callable[[Path], None]]] = {
    "lower case": (wordpiece, configured(do_lower_case=False)),
    "accents": (wordpiece, configured(strip_accents=False)),
    "chinese characters": (wordpiece, configured(tokenize_chinese_chars=False)),
    "lower case of the json": (wordpiece, described(lambda d: d["normalizer"].update(lowercase=False))),
    "another class": (wordpiece, configured(tokenizer_class="PreTrainedTokenizerFast", do_lower_case=False)),
    "class of another model": (
        wordpiece,
        configured(tokenizer_class="DistilBertTokenizer", do_lower_case=False),
    ),
    "added tokens of the config": (
        wordpiece,
        configured(
            added_tokens_decoder={
                "0": token("[PAD]", special=True),
                "140": token("covid19"),
                "141": token("$E1"),
            }
        ),
    ),
    "named special tokens": (wordpiece, configured(cls_token="[SEP]", sep_token="[CLS]")),
    "extra special tokens": (wordpiece, configured(additional_special_tokens=["<e>"])),
    "flags of the mask": (wordpiece, described(mask_swallows_space)),
    "truncation and padding": (wordpiece, described(cut_at_four)),
    "truncation side": (wordpiece, configured(truncation_side="left")),
    "no tokenizer_config.json": (wordpiece, without("tokenizer_config.json", "special_tokens_map.json")),
    "no tokenizer.json": (wordpiece, without("tokenizer.json")),
    "prefix space": (byte_bpe, configured(tokenizer_class="RobertaTokenizer", add_prefix_space=True)),
    "prefix space, any class": (byte_bpe, configured(add_prefix_space=True)),
    "roberta's class": (byte_bpe, configured(tokenizer_class="RobertaTokenizer")),
    "trimmed offsets": (byte_bpe, described(lambda d: d["post_processor"].update(trim_offsets=False))),
    "any unigram": (unigram, configured()),
    "xlm-roberta's class": (unigram, configured(tokenizer_class="XLMRobertaTokenizer")),
    "camembert's class": (unigram, configured(tokenizer_class="CamembertTokenizer")),
    "metaspace": (unigram, described(lambda d: d["pre_tokenizer"].update(prepend_scheme="first"))),
}
AGREEING = ("truncation and padding", "trimmed offsets", "metaspace", "any unigram")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Callable[[Path], None]], Path]:
    """Each kind of tokenizer is trained once."""
    made: dict[Callable[[Path], None], Path] = {}

    def of(kind: Callable[[Path], None]) -> Path:
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp("kind")
            kind(made[kind])
        return made[kind]

    return of


@pytest.mark.parametrize("name", DISAGREEING)
def test_a_folder_whose_files_disagree_is_read_as_transformers_reads_it(
    folders: Callable[[Callable[[Path], None]], Path], tmp_path: Path, name: str
) -> None:
    kind, change = DISAGREEING[name]
    folder = tmp_path / "model"
    shutil.copytree(folders(kind), folder)
    change(folder)
    theirs = AutoTokenizer.from_pretrained(str(folder))
    made = read_tokenizer(folder)
    assert made is not None
    device, host = Tokenizer(made, backend="python"), load_tokenizer(folder)
    for text in TEXTS:
        expected = theirs(text, return_offsets_mapping=True)
        encoding = device.encode(text)
        assert encoding.ids == expected["input_ids"] == host.encode(text).ids, text
        assert encoding.offsets == expected["offset_mapping"], text
        assert encoding.words == expected.word_ids(), text
        assert device.encode(text, "the film").ids == theirs(text, "the film")["input_ids"], text
        assert (
            device.encode(text, max_length=6).ids == theirs(text, truncation=True, max_length=6)["input_ids"]
        )


@pytest.mark.parametrize("name", AGREEING)
def test_a_folder_whose_files_agree_keeps_the_bytes_of_its_tokenizer(
    folders: Callable[[Callable[[Path], None]], Path], tmp_path: Path, name: str
) -> None:
    kind, change = DISAGREEING[name]
    folder = tmp_path / "model"
    shutil.copytree(folders(kind), folder)
    change(folder)
    assert read_tokenizer(folder) == (folder / "tokenizer.json").read_bytes()


def test_what_transformers_makes_has_the_same_bytes_every_time(
    folders: Callable[[Callable[[Path], None]], Path], tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(folders(wordpiece), folder)
    configured(do_lower_case=False)(folder)
    first = read_tokenizer(folder)
    assert first == read_tokenizer(folder) != (folder / "tokenizer.json").read_bytes()
    (folder / "tokenizer.json").write_bytes(first or b"")
    assert read_tokenizer(folder) == first


def test_a_tokenizer_without_a_token_for_padding_still_calibrates(tmp_path: Path) -> None:
    from obert_edge.host.checkpoints.checkpoint import Checkpoint
    from obert_edge.host.checkpoints.model_config import read_config
    from obert_edge.host.compiler.texts import calibration_batches
    from tests.answers.models import make_model

    words = Library(models.WordLevel({"u": 0, "the": 1, "film": 2}, unk_token="u"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    make_model("BertModel", 3).save_pretrained(tmp_path)
    words.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    checkpoint = Checkpoint.open(tmp_path)
    (batch,) = calibration_batches(checkpoint, read_config(checkpoint), ["the film", "the film the film"])
    assert batch["input_ids"].tolist() == [[1, 2, 0, 0], [1, 2, 1, 2]]
    assert batch["attention_mask"].tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]
