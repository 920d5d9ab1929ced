"""A tokenizer that a device with numpy alone could not read fails where the bundle is built."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from obert_edge.errors import CheckpointError
from obert_edge.host.checkpoints.tokenizer_probes import PROBES, check_device_reads
from tests.device.tokenizers.families import FAMILIES, description_of

FOLDER = Path("model")


def words(**parts: Any) -> bytes:
    tokenizer = Tokenizer(models.WordLevel({"u": 0, "the": 1, "fox": 2}, unk_token="u"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    for name, part in parts.items():
        setattr(tokenizer, name, part)
    return str(tokenizer.to_str()).encode()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_read_and_compared(family: str) -> None:
    assert check_device_reads(description_of(family).encode(), FOLDER).backend == "python"


@pytest.mark.parametrize(
    ("parts", "named"),
    [
        ({"pre_tokenizer": pre_tokenizers.UnicodeScripts()}, "UnicodeScripts"),
        ({"pre_tokenizer": pre_tokenizers.Split(Regex(r"\p{Lu}\p{Ll}+"), "isolated")}, "regular expression"),
        ({"normalizer": normalizers.Replace(Regex("(?>x)"), "y")}, "regular expression"),
        ({"normalizer": normalizers.Replace(Regex("x*"), "y")}, "nothing at all"),
        ({"model": models.BPE({"a": 0}, [], dropout=0.5)}, "dropout"),
    ],
)
def test_a_part_that_plain_python_does_not_run_fails_the_build(parts: dict[str, Any], named: str) -> None:
    with pytest.raises(CheckpointError, match="no device could read the tokenizer of model") as caught:
        check_device_reads(words(**parts), FOLDER)
    assert named in caught.value.message
    assert "takes token ids" in caught.value.hint


def test_an_unknown_token_that_is_missing_fails_the_build() -> None:
    description = json.loads(words())
    description["model"]["unk_token"] = "[UNK]"
    with pytest.raises(CheckpointError, match="cannot be read"):
        check_device_reads(json.dumps(description).encode(), FOLDER)


def test_a_line_that_would_be_cut_otherwise_fails_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    from obert_edge.device.tokenizers.wordlevel import WordLevel

    monkeypatch.setattr(WordLevel, "cut", lambda self, word: [(1, 0, len(word))])
    with pytest.raises(CheckpointError, match=r"would cut '.*' in another way"):
        check_device_reads(words(), FOLDER)


def test_the_probes_have_text_of_every_plane_and_a_very_long_word() -> None:
    characters = set("".join(PROBES))
    assert {ord(character) >> 16 for character in characters} >= {0, 1, 2}
    assert max(len(word) for line in PROBES for word in line.split()) >= 250
