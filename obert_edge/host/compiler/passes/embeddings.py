"""Four-bit rows of the word-embedding table, exactly as docs/numerics.md says.

The torch twin, which training uses, is ``host/quantization/embedding_rows.py``; both give the same bits.
"""

from __future__ import annotations

from typing import List, NamedTuple

import numpy as np
import numpy.typing as npt

from obert_edge.bundle.rows import GROUP, ROW_STEPS, TRIED_SIXTEENTHS, group_count

Floats = npt.NDArray[np.float32]
Int8s = npt.NDArray[np.int8]

_ROWS_AT_ONCE = 4096


class Int4Rows(NamedTuple):
    """A table: row ``i``, channel ``c`` is ``values[i, c] * (group_scale[i, c // 32] * scale[i])``.

    Attributes:
        values: int8 ``[n, k]``, -8..7.
        group_scale: int8 ``[n, groups]``, -127..127, negative where a group's largest value is positive.
        scale: float32 ``[n]``.
    """

    values: Int8s
    group_scale: Int8s
    scale: Floats


def quantize_rows_int4(weight: Floats) -> Int4Rows:
    """Quantize rows to four bits; each group's scale is the one of seven with the least squared error.

    Args:
        weight: float32 ``[n, k]``.
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
    padded = np.zeros((n, group_count(k) * GROUP), np.float32)
    np.divide(weight, scale[:, None], out=padded[:, :k])
    y = padded.reshape(n, -1, GROUP)
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
    """Over a group, in an order that any library can keep: halves are added until one value is left."""
    width = GROUP
    while width > 1:
        width //= 2
        errors = errors[..., :width] + errors[..., width:]
    return errors[..., 0]
