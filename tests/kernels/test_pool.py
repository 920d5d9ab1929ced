"""Pooling: the mean of a sequence's tokens, and the first of them."""

from __future__ import annotations

from typing import List, Type, Union

import numpy as np
import pytest

from obert_edge.bundle.program import Domain, DType, MeanPool, SelectFirst
from obert_edge.device.runtime.native import Library, PackedBatch
from tests.kernels.harness import ProgramBuilder, run_everywhere, starts_of

LENGTHS = [[1], [2], [3], [5], [64], [65], [200], [5, 60, 3], [1] * 40, [63, 2, 130, 17, 64]]


@pytest.mark.parametrize("channels", [1, 5, 16, 70], ids=lambda channels: f"{channels}-channels")
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("op", [MeanPool, SelectFirst])
def test_pool(
    library: Library, op: Type[Union[MeanPool, SelectFirst]], lengths: List[int], channels: int
) -> None:
    x = np.random.default_rng(4).normal(0, 1, (channels, sum(lengths))).astype(np.float32)
    builder = ProgramBuilder()
    source = builder.buffer(DType.F32, channels)
    output = builder.buffer(DType.F32, channels, Domain.SEQUENCES)
    builder.add(op("pool", source, output, channels))
    batch = PackedBatch(starts_of(lengths))
    (found,) = run_everywhere(library, builder, batch, {source: x}, [output])
    spans = list(zip(batch.starts, batch.starts[1:]))
    if op is SelectFirst:
        np.testing.assert_array_equal(found, x[:, batch.starts[:-1]])
    else:
        expected = np.stack([x[:, a:b].astype(np.float64).mean(axis=1) for a, b in spans], axis=1)
        np.testing.assert_allclose(found, expected, atol=1e-6)
