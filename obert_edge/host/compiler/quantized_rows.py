"""Rows of weights and embeddings in INT8 and INT4 as docs/reference/numerics.md (Quantization) says; numpy.

Training uses the twins of these functions in torch: ``row_codes`` of ``host/quantization/fake_quant.py`` for
INT8, and ``host/quantization/embedding_rows.py`` for INT4, which gives the same bits.
"""

from __future__ import annotations

from typing import List, NamedTuple, Optional, Tuple

import numpy as np
import numpy.typing as npt

from obert_edge.bundle.ops import INT4_GROUP
from obert_edge.bundle.rows import ROW_STEPS, TRIED_SIXTEENTHS, group_count

Floats = npt.NDArray[np.float32]
Int8s = npt.NDArray[np.int8]

#: Rows that :func:`quantize_rows_int4` works on at a time, so that its seven trials need little memory.
_ROWS_AT_ONCE = 4096


def quantize_rows(weight: Floats, trained: Optional[np.float32] = None) -> Tuple[Int8s, Floats]:
    """Symmetric INT8 per row: ``s = max |w| / 127`` (1 for a zero row), ``q = clamp(rne(w / s), -127, 127)``.

    Args:
        weight: float32 [n, k].
        trained: the scale of all rows, in place of each row's own.

    Returns:
        ``q`` int8 [n, k], where zero weights are zero, and ``s`` float32 [n]. All in float32 steps.
    """
    largest = np.abs(weight).max(axis=1)
    scale = np.where(largest > 0, largest / np.float32(127), np.float32(1)).astype(np.float32)
    # A largest weight so small that its scale is 0 in float32 (subnormal) counts as a zero row.
    scale[scale == 0] = 1
    if trained is not None:
        scale[:] = trained
    steps = np.rint(weight / scale[:, None])
    return np.clip(steps, -127, 127, out=steps).astype(np.int8), scale


class Int4Rows(NamedTuple):
    """A table whose row ``i``, channel ``c`` is ``values[i, c] * (group_scale[i, c // 32] * scale[i])``.

    Attributes:
        values: int8 [n, k], -8..7, one value a byte; ``bundle/rows.py`` packs two into one.
        group_scale: int8 [n, groups], -127..127, negative where a group's largest value is positive.
        scale: float32 [n].
    """

    values: Int8s
    group_scale: Int8s
    scale: Floats


def quantize_rows_int4(weight: Floats) -> Int4Rows:
    """Four bits per value; each group's scale is the one of seven with the least squared error.

    Args:
        weight: float32 [n, k].
    """
    parts: List[Int4Rows] = [
        _quantize(weight[start : start + _ROWS_AT_ONCE])
        for start in range(0, max(1, len(weight)), _ROWS_AT_ONCE)
    ]
    return Int4Rows(*(np.concatenate(part) for part in zip(*parts)))


def _quantize(weight: Floats) -> Int4Rows:
    n, k = weight.shape
    scale = np.abs(weight).max(axis=1, initial=0) / np.float32(ROW_STEPS)
    scale[scale == 0] = 1  # a row of zeros, or so small that its scale is 0 in float32
    # Everything is weighed in steps of the row's scale, so no square overflows or vanishes.
    padded = np.zeros((n, group_count(k) * INT4_GROUP), np.float32)
    np.divide(weight, scale[:, None], out=padded[:, :k])
    y = padded.reshape(n, -1, INT4_GROUP)
    high, low = y.max(axis=2), y.min(axis=2)
    positive = high >= -low
    full = np.rint(np.where(positive, high, -low) / np.float32(8))
    values = np.zeros_like(y)
    group_scale = np.zeros_like(full)
    least = np.full_like(full, np.inf)
    for sixteenths in TRIED_SIXTEENTHS:
        code = np.clip(np.floor((full * np.float32(sixteenths) + np.float32(8)) / np.float32(16)), 1, 127)
        code = np.where(positive, -code, code)
        tried = np.clip(np.rint(y / code[:, :, None]), -8, 7)
        error = _sum(np.square(tried * code[:, :, None] - y))
        better = error < least
        least[better], group_scale[better], values[better] = error[better], code[better], tried[better]
    flat = values.reshape(n, -1)[:, :k]
    return Int4Rows(flat.astype(np.int8), group_scale.astype(np.int8), scale.astype(np.float32))


def _sum(errors: Floats) -> Floats:
    """The sum over each group of 32, float32 [n, groups]: its halves are added until one value is left.

    Any library can keep this order of additions, so numpy and torch find the same sums.
    """
    width = INT4_GROUP
    while width > 1:
        width //= 2
        errors = errors[..., :width] + errors[..., width:]
    return errors[..., 0]
