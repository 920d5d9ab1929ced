"""How INT4 rows of the word-embedding table are stored: groups of 32 channels, two values a byte.

A group takes 16 bytes: byte ``i`` holds channel ``i`` of the group in its low half and channel
``16 + i`` in its high one, as two's complement. A row's last group is padded with zeros::

    channels   c0 c1 .. c15 | c16 .. c31        byte i = (c[i] & 15) | (c[16 + i] & 15) << 4

What the values stand for is in ``docs/reference/numerics.md``: ``q * (group_scale * row_scale)``.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from obert_edge.bundle.ops import INT4_GROUP
from obert_edge.errors import UsageError

#: Channels that share a scale.
GROUP = INT4_GROUP
#: The scales tried for a group, in sixteenths of the one with which -8 just reaches its largest value: a
#: smaller scale clips that value and rounds the others more finely.
TRIED_SIXTEENTHS = range(12, 19)
#: A row's scale is its largest absolute value divided by this, so that the largest value is 8 steps of the
#: largest group scale, 127 row scales.
ROW_STEPS = 8 * 127

Int8s = npt.NDArray[np.int8]
Floats = npt.NDArray[np.float32]


def group_count(channels: int) -> int:
    """Groups in a row."""
    return -(-channels // INT4_GROUP)


def pack_rows(rows: Int8s) -> Int8s:
    """Int8 ``[n, channels]`` of -8..7 to int8 ``[n, groups * 16]``.

    Raises:
        UsageError: a value is not in -8..7.
    """
    if rows.size and (int(rows.min()) < -8 or int(rows.max()) > 7):
        raise UsageError(
            f"rows hold values from {int(rows.min())} to {int(rows.max())}; four bits hold -8 to 7",
            hint="quantize them with obert_edge.host.compiler.quantized_rows.quantize_rows_int4",
        )
    n, channels = rows.shape
    padded = np.zeros((n, group_count(channels) * INT4_GROUP), np.uint8)
    padded[:, :channels] = rows.view(np.uint8) & 15
    halves = padded.reshape(n, -1, 2, INT4_GROUP // 2)
    return (halves[:, :, 0] | halves[:, :, 1] << 4).reshape(n, -1).view(np.int8)


def unpack_rows(packed: Int8s, channels: int) -> Int8s:
    """What :func:`pack_rows` packed: int8 ``[n, channels]``."""
    bytes_ = packed.reshape(len(packed), -1, 1, INT4_GROUP // 2)
    # The top bit of a half byte is its sign.
    low, high = ((bytes_ & 15) ^ 8) - 8, bytes_ >> 4
    return np.concatenate([low, high], axis=2).reshape(len(packed), -1)[:, :channels].astype(np.int8)


def dequantize_rows(packed: Int8s, group_scale: Int8s, row_scale: Floats, channels: int) -> Floats:
    """The values rows stand for, float32 ``[n, channels]``, each product rounded as the engine rounds it.

    Args:
        packed: int8 ``[n, groups * 16]``.
        group_scale: int8 ``[n, groups]``.
        row_scale: float32 ``[n]``.
        channels: channels of a row, without the padding.
    """
    steps = group_scale.astype(np.float32) * row_scale[:, None]
    return (
        unpack_rows(packed, channels).astype(np.float32) * np.repeat(steps, INT4_GROUP, axis=1)[:, :channels]
    )
