"""Rotation by the position and the product of two values: the scalar kernels' bits, and the right numbers."""

from __future__ import annotations

from typing import Sequence

import numpy as np
import pytest

from obert_edge.bundle.ops import Multiply, Rotate
from obert_edge.bundle.program import DType
from obert_edge.device.runtime.native import Library, PackedBatch
from tests.kernels import reference
from tests.kernels.harness import ProgramBuilder, run_everywhere, starts_of

POSITIONS = 200


def check_rotation(
    library: Library, heads: int, head_dim: int, lengths: Sequence[int], *, signed: bool = False
) -> None:
    rng = np.random.default_rng(head_dim)
    channels, half = heads * head_dim, head_dim // 2
    starts = starts_of(lengths)
    positions = np.concatenate([np.arange(length) for length in lengths]).astype(np.int32)
    angles = np.arange(POSITIONS)[:, None] * 10000.0 ** (-2 * np.arange(half) / head_dim)
    cosine, sine = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
    x = rng.normal(0, 2, (channels, starts[-1])).astype(np.float32)
    zero_point, lo, hi = (0, -127, 127) if signed else (117, 0, 255)

    builder = ProgramBuilder(max_positions=POSITIONS)
    source = builder.buffer(DType.F32, channels)
    output = builder.buffer(DType.S8 if signed else DType.U8, channels)
    builder.add(
        Rotate(
            "rotate", source, output, cosine=builder.const(cosine), sine=builder.const(sine), heads=heads,
            head_dim=head_dim, positions=POSITIONS, zero_point=zero_point, lo=lo, hi=hi, inv_scale=30.0,
        )
    )  # fmt: skip
    batch = PackedBatch(starts, positions * 0, positions)
    (found,) = run_everywhere(library, builder, batch, {source: x}, [output])

    pairs = x.reshape(heads, 2, half, -1).astype(np.float64)
    c, s = np.cos(angles[positions]).T, np.sin(angles[positions]).T
    turned = np.stack([pairs[:, 0] * c - pairs[:, 1] * s, pairs[:, 1] * c + pairs[:, 0] * s], axis=1)
    expected = reference.quantize(turned.reshape(channels, -1) * 30.0, zero_point, lo, hi)
    assert np.abs(found.astype(np.int32) - expected).max() <= 1
    assert (found != expected).mean() < 0.01


def check_product(library: Library, channels: int, tokens: int, out: DType) -> None:
    rng = np.random.default_rng(channels)
    left, right = (rng.normal(0, 2, (channels, tokens)).astype(np.float32) for _ in range(2))
    builder = ProgramBuilder()
    buffers = [builder.buffer(dtype, channels) for dtype in (DType.F32, DType.F32, out)]
    builder.add(Multiply("multiply", *buffers, channels=channels, zero_point=100, inv_scale=20.0))
    inputs = dict(zip(buffers, (left, right)))
    (found,) = run_everywhere(library, builder, PackedBatch(starts_of([tokens])), inputs, [buffers[2]])
    if out is DType.F32:
        np.testing.assert_array_equal(found, left * right)
    else:
        expected = reference.quantize(left.astype(np.float64) * right * 20.0, 100, 0, 255)
        assert np.abs(found.astype(np.int32) - expected).max() <= 1


@pytest.mark.parametrize("signed", [False, True], ids=["U8", "S8"])
@pytest.mark.parametrize("heads, head_dim", [(1, 2), (3, 6), (2, 30), (12, 64), (1, 128)])
@pytest.mark.parametrize("lengths", [[1], [5, 30, 4], [64, 17], [130]], ids=str)
def test_rotation(library: Library, heads: int, head_dim: int, lengths: Sequence[int], signed: bool) -> None:
    check_rotation(library, heads, head_dim, lengths, signed=signed)


@pytest.mark.parametrize("out", [DType.U8, DType.F32], ids=lambda x: x.name)
@pytest.mark.parametrize("channels, tokens", [(1, 1), (5, 17), (64, 65), (313, 48)])
def test_product(library: Library, channels: int, tokens: int, out: DType) -> None:
    check_product(library, channels, tokens, out)
