"""Training computes the very rows the compiler stores."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from obert_edge.bundle.rows import dequantize_rows, pack_rows
from obert_edge.host.compiler.quantized_rows import quantize_rows_int4
from obert_edge.host.quantization.embedding_rows import int4_rows


@pytest.mark.parametrize("scale", [1e-38, 1e-20, 0.05, 1e20])
@pytest.mark.parametrize("channels", [1, 31, 32, 33, 50, 384])
def test_the_compilers_rows_to_the_bit(channels: int, scale: float) -> None:
    generator = np.random.default_rng(channels)
    weight = (generator.normal(0, scale, (300, channels))).astype(np.float32)
    weight[generator.random(weight.shape) < 0.1] = 0
    weight[7] = 0
    weight[8] = np.float32(scale)  # largest and smallest alike: ties
    weight[9, ::2] *= -1
    rows = quantize_rows_int4(weight)
    expected = dequantize_rows(pack_rows(rows.values), rows.group_scale, rows.scale, channels)
    np.testing.assert_array_equal(int4_rows(torch.from_numpy(weight)).numpy(), expected)


def test_any_shape_is_a_stack_of_rows() -> None:
    weight = torch.randn(6, 40)
    ids = torch.tensor([[1, 3, 0], [5, 5, 2]])
    assert torch.equal(int4_rows(weight[ids]), int4_rows(weight)[ids])
