"""Hashes and checksums in chunks: the same whatever number of threads finds them."""

from __future__ import annotations

import hashlib
import zlib

import pytest

from obert_edge.bundle import hashes
from obert_edge.bundle.hashes import CHUNK_BYTES, chunk_digests, crc32, sha256

DATA = bytes(range(256)) * (5 * CHUNK_BYTES // 512) + b"a little more than two and a half chunks"


@pytest.mark.parametrize("cpus", [1, 2, 5])
def test_a_digest_per_chunk_in_order(monkeypatch: pytest.MonkeyPatch, cpus: int) -> None:
    monkeypatch.setattr(hashes, "_cpus", lambda: cpus)
    parts = [DATA[at : at + CHUNK_BYTES] for at in range(0, len(DATA), CHUNK_BYTES)]
    assert [len(part) for part in parts[:2]] == [CHUNK_BYTES, CHUNK_BYTES]
    assert 0 < len(parts[2]) < CHUNK_BYTES
    expected = [hashlib.blake2b(part, digest_size=32).hexdigest() for part in parts]
    assert chunk_digests(DATA) == chunk_digests(memoryview(DATA)) == expected


def test_nothing_has_no_chunks() -> None:
    assert chunk_digests(b"") == []


def test_sha256_is_the_standard_one() -> None:
    assert sha256(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize("cpus", [1, 2, 5])
@pytest.mark.parametrize("length", [0, 1, 1000, CHUNK_BYTES, CHUNK_BYTES + 1, len(DATA)])
def test_chunks_put_together_have_the_checksum_of_the_whole(
    monkeypatch: pytest.MonkeyPatch, cpus: int, length: int
) -> None:
    monkeypatch.setattr(hashes, "_cpus", lambda: cpus)
    assert crc32(memoryview(DATA)[:length]) == zlib.crc32(DATA[:length])


def test_a_checksum_that_cannot_be_computed_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashes, "_cpus", lambda: 2)

    def failing(chunk: hashes.Data) -> int:
        if len(chunk) < CHUNK_BYTES:
            raise MemoryError("the last one")
        return zlib.crc32(chunk)

    with pytest.raises(MemoryError, match="the last one"):
        crc32(DATA, failing)
