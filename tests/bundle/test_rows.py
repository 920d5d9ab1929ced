"""Rows of four bits: two values a byte, groups of 32 channels, nothing lost."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obert_edge.bundle.ops import INT4_GROUP
from obert_edge.bundle.rows import dequantize_rows, group_count, pack_rows, unpack_rows
from obert_edge.errors import UsageError


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(1, 100), st.integers(0, 2**32 - 1))
def test_unpacking_gives_the_rows_back(n: int, channels: int, seed: int) -> None:
    rows = np.random.default_rng(seed).integers(-8, 8, (n, channels)).astype(np.int8)
    packed = pack_rows(rows)
    assert packed.shape == (n, group_count(channels) * INT4_GROUP // 2)
    np.testing.assert_array_equal(unpack_rows(packed, channels), rows)


def test_a_group_takes_sixteen_bytes_of_a_low_and_a_high_half() -> None:
    row = np.zeros((1, 40), np.int8)
    row[0, 0], row[0, 16], row[0, 31], row[0, 32] = 1, -1, 7, -8
    expected = np.zeros(32, np.uint8)
    expected[0], expected[15], expected[16] = 0xF1, 0x70, 0x08
    np.testing.assert_array_equal(pack_rows(row)[0].view(np.uint8), expected)


def test_a_value_is_its_integer_times_the_scales_of_its_group_and_row() -> None:
    rows = np.full((2, 33), 3, np.int8)
    group_scale = np.array([[10, -100], [1, 2]], np.int8)
    values = dequantize_rows(pack_rows(rows), group_scale, np.array([0.5, 0.25], np.float32), 33)
    assert values.dtype == np.float32
    assert values[0].tolist() == [15.0] * 32 + [-150.0]
    assert values[1].tolist() == [0.75] * 32 + [1.5]


@pytest.mark.parametrize("value", [-9, 8])
def test_what_four_bits_do_not_hold_is_refused(value: int) -> None:
    with pytest.raises(UsageError, match=f"{min(value, 0)} to {max(value, 0)}; four bits hold"):
        pack_rows(np.array([[0, value]], np.int8))
