"""The bias of an attention score by how far the key is behind the query, from the buckets of T5 and MPNet."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

#: Buckets of the distances: transformers computes so many, whatever the configuration says.
BUCKETS = 32
#: From this many tokens on all distances share a bucket.
_FURTHEST = 128

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class RelativeBias:
    """What is added to the scores of each head.

    Attributes:
        by_distance: float32 [heads, 2 * D - 1]: the bias of key j to query i is number
            ``clip(j - i, 1 - D, D - 1) + D - 1``.
    """

    by_distance: Floats

    @property
    def distances(self) -> int:
        """D."""
        return int(self.by_distance.shape[1]) // 2 + 1

    @functools.cached_property
    def in_bits(self) -> Floats:
        """The same times ``log2(e)``, as docs/reference/numerics.md (Attention) wants it: without denormals.

        All layers share this one array, and so one constant of the program.
        """
        scaled = (self.by_distance.astype(np.float64) * math.log2(math.e)).astype(np.float32)
        return np.where(np.abs(scaled) < np.finfo(np.float32).tiny, np.float32(0), scaled)


def relative_bias(table: Floats, longest: int) -> RelativeBias:
    """The biases of a table of buckets.

    Args:
        table: float32 [buckets, heads], :data:`BUCKETS` buckets or more.
        longest: tokens of the longest sequence; distances that it does not have are left out.
    """
    distances = min(longest, _FURTHEST)
    behind = np.arange(1 - distances, distances)
    return RelativeBias(np.ascontiguousarray(table[_bucket(behind)].T))


def _bucket(behind: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The bucket of a key so many tokens behind the query: half of them for each direction.

    Half of those are for a distance each, the others for spans that grow with the logarithm, computed in
    float32 as T5 does.
    """
    half = BUCKETS // 2
    single = half // 2
    distance = np.abs(behind)
    octaves = np.log(np.maximum(distance, 1).astype(np.float32) / np.float32(single))
    far = single + (octaves / np.float32(math.log(_FURTHEST / single)) * (half - single)).astype(np.int64)
    bucket: npt.NDArray[np.int64] = np.where(distance < single, distance, np.minimum(far, half - 1))
    return bucket + half * (behind > 0)
