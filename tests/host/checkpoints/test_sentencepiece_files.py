"""A SentencePiece model is looked at before a library reads it, and otherwise left to that library."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obert_edge.errors import CheckpointError
from obert_edge.host.checkpoints.sentencepiece_files import check_sentencepiece
from obert_edge.host.checkpoints.tokenizer_files import read_tokenizer

#: ``pieces {piece: "<unk>" score: 0 type: UNKNOWN}`` and ``trainer_spec {model_type: BPE}``.
PIECE, TRAINER = b"\x0a\x0e\x0a\x05<unk>\x15\0\0\0\0\x18\x02", b"\x12\x02\x18\x02"
UNITS = struct.pack("<I", 0)


def normalizer(claimed: int, trie: bytes = UNITS) -> bytes:
    """``normalizer_spec {name: "nfkc" precompiled_charsmap: ...}``, with a trie that claims so many bytes."""
    table = struct.pack("<I", claimed) + trie
    inside = b"\x0a\x04nfkc" + b"\x12" + bytes([len(table)]) + table
    return b"\x1a" + bytes([len(inside)]) + inside


def test_a_table_that_is_whole_passes() -> None:
    check_sentencepiece(PIECE + TRAINER + normalizer(4) + PIECE)
    check_sentencepiece(PIECE + TRAINER)


@pytest.mark.parametrize(
    "before",
    [
        b"",
        PIECE,
        TRAINER,
        normalizer(4),
        b"\x3b\x3c",
        b"\x39" + bytes(8),
        b"\x3d" + bytes(4),
        b"\x38\xff\x01",
    ],
    ids=["first", "piece", "trainer", "another table", "group", "64 bits", "32 bits", "number"],
)
@pytest.mark.parametrize("claimed", [2**32 - 4, 8, 3, 0])
def test_a_table_that_claims_more_than_there_is_is_refused(before: bytes, claimed: int) -> None:
    with pytest.raises(ValueError, match=f"a trie of {claimed} bytes in 8 bytes"):
        check_sentencepiece(before + normalizer(claimed) + PIECE)


@given(st.binary(max_size=64), st.integers(0, 80))
def test_anything_else_is_left_to_the_library_that_reads_it(content: bytes, cut: int) -> None:
    check_sentencepiece((PIECE + TRAINER + normalizer(4))[:cut])
    try:
        check_sentencepiece(content)
    except ValueError as error:
        assert "precompiled_charsmap" in str(error)


@pytest.mark.parametrize("name", ["sentencepiece.bpe.model", "spiece.model", "tokenizer.model"])
def test_a_folder_with_such_a_table_is_refused_before_the_library_takes_the_memory(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "XLMRobertaTokenizer"}')
    (tmp_path / name).write_bytes(PIECE + TRAINER + normalizer(2**32 - 4))
    with pytest.raises(CheckpointError, match=f"{name} is not a SentencePiece model: .* 4294967292 bytes"):
        read_tokenizer(tmp_path)
