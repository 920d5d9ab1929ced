"""Tables of what an attention score multiplies with beside its key, by how far the key is behind the query.

DeBERTa's layers project one table of relative positions to keys and to queries of positions. Nothing of that
depends on the tokens, so the compiler does it once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Optional, Tuple

import numpy as np
import numpy.typing as npt

from obert_edge.host.checkpoints.attention_config import RelativeAttention

Floats = npt.NDArray[np.float32]
Int64s = npt.NDArray[np.int64]

#: Gamma, beta and epsilon of a LayerNorm.
Norm = Tuple[Floats, Floats, float]


@dataclass(frozen=True, eq=False)
class PositionTables:
    """What queries and keys of one layer are multiplied with.

    Attributes:
        key: float32 [heads, rows, head_dim]: of queries. Zeros: they are multiplied with nothing.
        query: the same of keys.
        row_of_distance: uint16 [2 * D - 1]: key j and query i have row ``j - i + D - 1``. Layers share it.
    """

    key: Floats
    query: Floats
    row_of_distance: npt.NDArray[np.uint16]

    @property
    def distances(self) -> int:
        """D."""
        return len(self.row_of_distance) // 2 + 1


@dataclass(frozen=True, eq=False)
class PositionRows:
    """The rows of relative positions that texts of some length have, before a layer projects them.

    Attributes:
        rows: float64 [rows, hidden].
        row_of_distance: see :class:`PositionTables`.
    """

    rows: npt.NDArray[np.float64]
    row_of_distance: npt.NDArray[np.uint16]

    def projected(self, weight: Floats, bias: Floats, heads: int) -> Floats:
        """The rows through a linear, float32 [heads, rows, head_dim].

        Args:
            weight: float32 [hidden, hidden].
            bias: float32 [hidden].
            heads: they divide the channels.
        """
        values = (self.rows @ weight.T.astype(np.float64) + bias).astype(np.float32)
        return np.ascontiguousarray(values.reshape(len(values), heads, -1).transpose(1, 0, 2))

    def tables(self, key: Optional[Floats], query: Optional[Floats]) -> PositionTables:
        """The tables of a layer; zeros take the place of one that it does not have."""
        other = key if key is not None else query
        assert other is not None, "a layer has one of them"
        zeros = np.zeros_like(other)
        return PositionTables(
            zeros if key is None else key, zeros if query is None else query, self.row_of_distance
        )


def position_rows(
    table: Floats, relative: RelativeAttention, longest: int, norm: Optional[Norm]
) -> PositionRows:
    """The rows of the distances that texts have.

    Args:
        table: float32 [2 * span, hidden].
        relative: which row a distance has.
        longest: tokens of the longest sequence; rows that it does not reach are left out.
        norm: of the rows; None: there is none.
    """
    behind = np.arange(1 - longest, longest)
    used, row_of_distance = np.unique(table_row(-behind, relative), return_inverse=True)
    rows = table[used].astype(np.float64)
    if norm is not None:
        gamma, beta, epsilon = norm
        rows -= rows.mean(axis=1, keepdims=True)
        rows /= np.sqrt((rows**2).mean(axis=1, keepdims=True) + epsilon)
        rows = rows * gamma + beta
    return PositionRows(rows, row_of_distance.reshape(-1).astype(np.uint16))


def table_row(ahead: Int64s, relative: RelativeAttention) -> Int64s:
    """The row of the table for a query so many tokens ahead of the key.

    Buckets are computed in float32, as transformers does: distances below half of them have one each, those
    beyond share them by their logarithm.
    """
    row = ahead
    if relative.buckets > 0:
        half = relative.buckets // 2
        distance = np.abs(ahead)
        most = np.log(np.float32((relative.furthest - 1) / half))
        octaves = np.log(np.maximum(distance, half).astype(np.float32) / np.float32(half))
        far = np.ceil(octaves / most * np.float32(half - 1)).astype(np.int64) + half
        row = np.where(distance <= half, ahead, far * np.sign(ahead))
    return np.clip(row + relative.span, 0, 2 * relative.span - 1)


def with_scale_in_bits(scale: Floats, factor: float) -> Floats:
    """Scales of rows as docs/reference/numerics.md (Attention) wants them: times ``factor * log2(e)``.

    Those below 2^-80 become 0, so that no sum of products is a denormal.
    """
    bits = (scale.astype(np.float64) * (factor * math.log2(math.e))).astype(np.float32)
    return np.where(bits < np.float32(2.0**-80), np.float32(0), bits)
