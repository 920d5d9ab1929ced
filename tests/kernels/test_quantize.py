"""Quantization of floats to U8: with one scale for all tokens (static), or one per token (dynamic)."""

from __future__ import annotations

import numpy as np
import pytest

from obert_edge.bundle.program import DType, Quantize, QuantizeDynamic
from obert_edge.device.runtime.native import Library, PackedBatch
from tests.kernels import reference
from tests.kernels.harness import ProgramBuilder, run_everywhere, starts_of

SHAPES = [(1, 1), (3, 16), (4, 17), (5, 64), (64, 65), (100, 200), (313, 48)]
every_shape = pytest.mark.parametrize(
    "channels, tokens", SHAPES, ids=[f"{channels}-channels-{tokens}-tokens" for channels, tokens in SHAPES]
)


@every_shape
@pytest.mark.parametrize("zero_point", [0, 120, 255], ids=lambda value: f"zero-point-{value}")
def test_static(library: Library, channels: int, tokens: int, zero_point: int) -> None:
    x = np.random.default_rng(1).normal(0, 2, (channels, tokens)).astype(np.float32)
    x.flat[:: max(1, x.size // 5)] = 1e30  # far beyond the clamp
    builder = ProgramBuilder()
    source, output = builder.buffer(DType.F32, channels), builder.buffer(DType.U8, channels)
    builder.add(Quantize("quantize", source, output, channels, zero_point, 30.0))
    (found,) = run_everywhere(library, builder, PackedBatch(starts_of([tokens])), {source: x}, [output])
    expected = reference.quantize(x.astype(np.float64) * 30.0, zero_point, 0, 255)
    assert np.abs(found - expected).max() <= 1
    assert (found != expected).mean() < 0.01


def test_ties_round_to_even(library: Library) -> None:
    x = (np.arange(-8, 8, dtype=np.float32) + 0.5).reshape(1, -1)
    builder = ProgramBuilder()
    source, output = builder.buffer(DType.F32, 1), builder.buffer(DType.U8, 1)
    builder.add(Quantize("quantize", source, output, 1, 100, 1.0))
    (found,) = run_everywhere(library, builder, PackedBatch(starts_of([16])), {source: x}, [output])
    np.testing.assert_array_equal(found, np.rint(x).astype(int) + 100)


NOT_NUMBERS = np.array([np.nan, -np.nan, np.inf, -np.inf, 1e-40, -1e-40, -0.0, 3e38], np.float32).reshape(
    1, -1
)


def test_what_is_no_number_has_its_place(library: Library) -> None:
    """A NaN is the lowest value, infinities are the ends, and denormals are not flushed on the way."""
    builder = ProgramBuilder()
    source, output = builder.buffer(DType.F32, 1), builder.buffer(DType.U8, 1)
    builder.add(Quantize("quantize", source, output, 1, 100, 2.0))
    batch = PackedBatch(starts_of([NOT_NUMBERS.size]))
    (found,) = run_everywhere(library, builder, batch, {source: NOT_NUMBERS}, [output])
    np.testing.assert_array_equal(found[0], [0, 0, 255, 0, 100, 100, 100, 255])


def quantize_dynamic(library: Library, x: np.ndarray) -> tuple:
    channels, tokens = x.shape
    builder = ProgramBuilder()
    source = builder.buffer(DType.F32, channels)
    output, params = builder.buffer(DType.U8, channels), builder.buffer(DType.F32, 2)
    builder.add(QuantizeDynamic("quantize", source, output, params, channels))
    batch = PackedBatch(starts_of([tokens]))
    return tuple(run_everywhere(library, builder, batch, {source: x}, [output, params]))


@every_shape
@pytest.mark.parametrize("offset", [-5.0, 0.0, 5.0], ids=lambda value: f"around-{value:g}")
def test_dynamic(library: Library, channels: int, tokens: int, offset: float) -> None:
    rng = np.random.default_rng(2)
    x = (rng.normal(0, 1, (channels, tokens)) * rng.uniform(0.1, 10, tokens) + offset).astype(np.float32)
    found, params = quantize_dynamic(library, x)
    scale, zero_point = reference.dynamic_scale(x)
    np.testing.assert_allclose(params[0], scale, rtol=1e-6)
    assert np.abs(params[1] - zero_point).max() <= 1
    error = np.abs((found.astype(np.float64) - params[1]) * params[0] - x)
    assert (error <= params[0] * 0.51 + 1e-6).all() or (error <= params[0] * 1.01).mean() > 0.999


def test_dynamic_of_what_is_no_number(library: Library) -> None:
    """NaNs do not take part in a token's range."""
    x = np.random.default_rng(4).normal(0, 1, (9, 40)).astype(np.float32)
    clean, clean_params = quantize_dynamic(library, x[1:])
    x[0] = np.nan
    found, params = quantize_dynamic(library, x)
    assert (found[0] == 0).all()
    np.testing.assert_array_equal(found[1:], clean)
    np.testing.assert_array_equal(params, clean_params)


def test_dynamic_of_zeros_is_zero(library: Library) -> None:
    x = np.zeros((7, 20), np.float32)
    x[:, 3] = 1.0
    found, params = quantize_dynamic(library, x)
    assert (found[:, [0, 1, 2, 4]] == 0).all() and (found[:, 3] == 255).all()
    np.testing.assert_array_equal(params[:, 0], [1.0, 0.0])
