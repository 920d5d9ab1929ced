"""Hashes in chunks: the same whatever number of threads finds them."""

from __future__ import annotations

import hashlib

import pytest

from obert_edge.bundle import hashes
from obert_edge.bundle.hashes import CHUNK_BYTES, chunk_digests, sha256

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
