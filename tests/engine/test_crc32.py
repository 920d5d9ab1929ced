"""The engine's CRC-32 is zlib's, whatever the length and the address."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from obert_edge.device.runtime.native import Library

DATA = np.random.default_rng(0).integers(0, 256, 5000, dtype=np.uint8).tobytes()


@pytest.mark.parametrize("start", [0, 1, 13])
def test_of_every_short_length(library: Library, start: int) -> None:
    for end in range(start, 700):
        assert library.crc32(DATA[start:end]) == zlib.crc32(DATA[start:end])


def test_of_a_view_in_place(library: Library) -> None:
    view = memoryview(DATA)
    for start, end in [(0, 5000), (3, 4099), (64, 4160), (4999, 5000)]:
        assert library.crc32(view[start:end]) == zlib.crc32(DATA[start:end])


def test_a_flipped_bit_anywhere_changes_it(library: Library) -> None:
    plain = library.crc32(DATA[:200])
    for bit in range(8 * 200):
        flipped = bytearray(DATA[:200])
        flipped[bit // 8] ^= 1 << bit % 8
        assert library.crc32(flipped) != plain


def test_a_library_without_it_uses_zlib(library: Library) -> None:
    class Old:
        """An engine library from before this function."""

    older = object.__new__(Library)
    older._functions = Old()  # type: ignore[assignment]
    assert older.crc32(DATA) == library.crc32(DATA)
