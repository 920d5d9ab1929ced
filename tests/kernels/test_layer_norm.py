"""LayerNorm: float and quantized outputs, together or alone, in place or not."""

from __future__ import annotations

import numpy as np
import pytest

from obert_edge.bundle.ops import ABSENT, DType, LayerNorm, NormKind
from obert_edge.device.runtime.native import Library, PackedBatch
from tests.kernels import reference
from tests.kernels.harness import ProgramBuilder, run_everywhere, starts_of


def check(
    library: Library,
    channels: int,
    tokens: int,
    *,
    normal: bool = True,
    quantized: bool = True,
    in_place: bool = False,
    offset: float = 0.0,
    kind: NormKind = NormKind.LAYER,
) -> None:
    rng = np.random.default_rng(channels * 1000 + tokens)
    x = (rng.normal(0, 2, (channels, tokens)) + offset).astype(np.float32)
    gamma = rng.uniform(0.5, 1.5, channels).astype(np.float32)
    beta = rng.normal(0, 0.3, channels).astype(np.float32)
    builder = ProgramBuilder()
    source = builder.buffer(DType.F32, channels)
    output = source if in_place else builder.buffer(DType.F32, channels) if normal else ABSENT
    narrow = builder.buffer(DType.U8, channels) if quantized else ABSENT
    zero_point, epsilon, inv_scale = 101, 1e-6, 40.0
    constants = builder.const(gamma), builder.const(beta)
    builder.add(
        LayerNorm(
            "norm", source, output, narrow, *constants, channels, zero_point, epsilon, inv_scale, kind=kind
        )
    )
    wanted = [index for index in (output, narrow) if index != ABSENT]
    found = run_everywhere(library, builder, PackedBatch(starts_of([tokens])), {source: x}, wanted)

    expected = reference.layer_norm(x, gamma, beta, epsilon, kind)
    if normal:
        # Float32 rounds x - mean relative to |x|; a token of nearly equal values magnifies that.
        magnified = np.abs(x).max(axis=0) / np.sqrt(x.astype(np.float64).var(axis=0) + epsilon)
        assert (np.abs(found[0] - expected) <= 2e-6 * np.maximum(magnified, 5.0)).all()
    if quantized:
        steps = np.abs(found[-1] - reference.quantize(expected * inv_scale, zero_point, 0, 255))
        assert steps.max() <= 1
        assert (steps > 0).mean() < 0.01


@pytest.mark.parametrize("tokens", [1, 16, 17, 50, 64, 65, 100, 128, 200], ids=lambda n: f"{n}-tokens")
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 64, 127, 312], ids=lambda n: f"{n}-channels")
def test_shapes(library: Library, channels: int, tokens: int) -> None:
    if channels == 1:  # its variance is 0, and every output is beta
        check(library, channels, tokens, quantized=False)
    else:
        check(library, channels, tokens)


@pytest.mark.parametrize(
    "normal, quantized", [(True, False), (False, True), (True, True)], ids=["F32", "U8", "F32-and-U8"]
)
def test_outputs(library: Library, normal: bool, quantized: bool) -> None:
    check(library, 96, 90, normal=normal, quantized=quantized)


def test_in_place(library: Library) -> None:
    check(library, 768, 70, in_place=True)


@pytest.mark.parametrize("channels, tokens", [(1, 17), (5, 64), (127, 100), (312, 200)])
def test_the_root_of_the_mean_square(library: Library, channels: int, tokens: int) -> None:
    check(library, channels, tokens, offset=3.0, kind=NormKind.RMS)


@pytest.mark.parametrize("channels, tokens", [(1, 17), (5, 64), (128, 100), (312, 200)])
def test_gamma_and_beta_alone(library: Library, channels: int, tokens: int) -> None:
    check(library, channels, tokens, offset=3.0, kind=NormKind.NONE)
    check(library, channels, tokens, offset=3.0, in_place=True, quantized=False, kind=NormKind.NONE)


def test_values_far_from_zero(library: Library) -> None:
    check(library, 384, 20, offset=30.0, quantized=False)
