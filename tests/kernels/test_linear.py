"""Linear: every format, epilogue and shape gives the scalar kernels' bits, and the right numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Dict, Optional

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obert_edge.bundle.packing import PAD_ROW, code_columns, pack_linear
from obert_edge.bundle.program import (
    ABSENT,
    Activation,
    ColumnCoding,
    Domain,
    DType,
    Linear,
    WeightFormat,
)
from obert_edge.device.runtime.native import Library, PackedBatch
from tests.kernels import reference
from tests.kernels.harness import ProgramBuilder, run_everywhere, starts_of

FORMATS = list(WeightFormat)


@dataclass(frozen=True)
class Case:
    weight_format: WeightFormat
    n: int = 23
    k: int = 52
    columns: int = 37
    density: float = 0.4
    out: DType = DType.F32
    activation: Activation = Activation.NONE
    residual: bool = False
    in_place: bool = False
    dynamic: bool = False
    folded: bool = False  # the output's scale is in `scale` and `bias` already, as the compiler leaves it
    magnitude: float = 1.0
    compact: bool = False  # columns as a bundle stores them
    permuted: bool = False  # rows of a group are not neighbors
    domain: Domain = Domain.TOKENS
    seed: int = 0
    weights: Optional[np.ndarray] = None
    inputs: Optional[np.ndarray] = None


def pack(weights: np.ndarray, weight_format: WeightFormat) -> Dict[str, np.ndarray]:
    n, k = weights.shape
    if weight_format is not WeightFormat.DENSE_4 or k % 4 == 0:
        return pack_linear(weights, weight_format)
    # The packer pads no columns; the engine takes any k all the same.
    padded = np.zeros((-(-n // 4) * 4, -(-k // 4) * 4), np.int8)
    padded[:n, :k] = weights
    packed = pack_linear(padded, weight_format)
    packed["rows"][n:] = PAD_ROW
    return packed


def check(library: Library, case: Case, threads: tuple = (1, 2, 3)) -> None:
    rng = np.random.default_rng(case.seed)
    n, k, columns = case.n, case.k, case.columns
    weights, x = case.weights, case.inputs
    if weights is None:
        weights = rng.integers(-127, 128, (n, k)).astype(np.int8)
        keep = rng.random((n, k // 4 if case.weight_format is WeightFormat.BLOCK_1X4 else k)) < case.density
        weights = weights * (keep.repeat(4, axis=1) if case.weight_format is WeightFormat.BLOCK_1X4 else keep)
        weights[n // 2] = 0  # a row, and with R = 4 perhaps a group, that stores nothing
        weights = weights.astype(np.int8)
    if x is None:
        x = rng.integers(0, 256, (k, columns)).astype(np.uint8)
    spread = max(1.0, float(np.sqrt((weights.astype(float) ** 2).sum(axis=1).max()))) * 128
    scale = (rng.uniform(0.5, 2.0, n) * 2.0 / spread).astype(np.float32)
    bias = rng.normal(0, 0.5, n).astype(np.float32)
    sums = weights.astype(np.int64).sum(axis=1)
    zero_point = 117
    correction = (sums if case.dynamic else -zero_point * sums).astype(np.int32)
    token_scale = rng.uniform(0.5, 1.5, columns).astype(np.float32)
    token_zero_point = rng.integers(0, 256, columns)
    out_zero_point, lo, hi = {
        DType.F32: (0, 0, 0),
        DType.U8: (97, 0, 255),
        DType.S8: (0, -127, 127),
    }[case.out]
    inv_scale = float(np.float32(1.0 if case.folded else 60.0))
    scale, bias = scale * np.float32(case.magnitude), bias * np.float32(case.magnitude)

    builder = ProgramBuilder()
    if case.permuted:
        order = rng.permutation(n).astype(np.uint32)
        packed = pack(weights[order], case.weight_format)
        packed["rows"] = order[packed["rows"]]
    else:
        packed = pack(weights, case.weight_format)
    input_buffer = builder.buffer(DType.U8, k, case.domain)
    params = builder.buffer(DType.F32, 2, case.domain) if case.dynamic else ABSENT
    residual = builder.buffer(DType.F32, n, case.domain) if case.residual else ABSENT
    output = residual if case.in_place else builder.buffer(case.out, n, case.domain)
    coding = ColumnCoding.LIST
    if case.compact:
        packed["columns"], coding = code_columns(packed, case.weight_format, k)
    arrays = {name: builder.const(packed[name]) for name in ("rows", "offsets", "columns", "weights")}
    builder.add(
        Linear(
            "linear", input_buffer, params, residual, output, **arrays,
            scale=builder.const(scale), bias=builder.const(bias), correction=builder.const(correction),
            k=k, n=n, groups=len(packed["offsets"]) - 1, format=case.weight_format,
            activation=case.activation, zero_point=out_zero_point, lo=lo, hi=hi, inv_scale=inv_scale,
            column_coding=coding,
        )
    )  # fmt: skip
    inputs = {input_buffer: x}
    if case.dynamic:
        inputs[params] = np.stack([token_scale, token_zero_point.astype(np.float32)])
    values = rng.normal(0, 1, (n, columns)).astype(np.float32)
    if case.residual:
        inputs[residual] = values
    lengths = [columns] if case.domain is Domain.TOKENS else [1] * columns
    batch = PackedBatch(starts_of(lengths))
    (found,) = run_everywhere(library, builder, batch, inputs, [output], threads=threads)

    centered = x.astype(np.int64) - (token_zero_point if case.dynamic else zero_point)
    y = (weights.astype(np.int64) @ centered).astype(np.float64)
    y = y * (token_scale if case.dynamic else 1.0) * scale[:, None] + bias[:, None]
    y = reference.activate(y, case.activation)
    if case.residual:
        y = y + values
    if case.out is DType.F32:
        np.testing.assert_allclose(found, y, rtol=2e-6, atol=2e-5)
    else:
        expected = reference.quantize(y * inv_scale, out_zero_point, lo, hi)
        assert np.abs(found - expected).max() <= 1
        assert (found != expected).mean() <= 0.01


@pytest.mark.parametrize("out", list(DType), ids=lambda x: x.name)
@pytest.mark.parametrize("activation", list(Activation), ids=lambda x: x.name)
@pytest.mark.parametrize("weight_format", FORMATS, ids=lambda x: x.name)
def test_every_epilogue(
    library: Library, weight_format: WeightFormat, activation: Activation, out: DType
) -> None:
    case = Case(weight_format, out=out, activation=activation)
    for residual in (False, True):
        for dynamic in (False, True):
            check(library, replace(case, residual=residual, dynamic=dynamic), threads=(1, 2))


@pytest.mark.parametrize("out", [DType.U8, DType.S8], ids=lambda x: x.name)
@pytest.mark.parametrize("weight_format", FORMATS, ids=lambda x: x.name)
def test_output_scale_folded_into_the_weights(
    library: Library, weight_format: WeightFormat, out: DType
) -> None:
    """Queries, keys and values: scaled so that they fill, and overflow, eight bits."""
    for columns in (16, 32, 48, 64, 100):
        case = Case(weight_format, columns=columns, out=out, folded=True, magnitude=60.0)
        check(library, case, threads=(1, 2))


@pytest.mark.parametrize("permuted", [False, True], ids=["neighbors", "permuted"])
@pytest.mark.parametrize("columns", [16, 32, 48, 64])
@pytest.mark.parametrize("weight_format", FORMATS, ids=lambda x: x.name)
def test_groups_without_padding(
    library: Library, weight_format: WeightFormat, columns: int, permuted: bool
) -> None:
    """Rows of a group that follow each other may be stored together where a panel is narrow."""
    case = Case(weight_format, n=24, columns=columns, permuted=permuted)
    for out in (DType.U8, DType.S8):
        check(library, replace(case, out=out, folded=True, magnitude=60.0), threads=(1, 2))
    check(library, replace(case, out=DType.U8, activation=Activation.GELU), threads=(1, 2))
    check(library, replace(case, residual=True, in_place=True), threads=(1, 2))
    check(library, replace(case, out=DType.S8, dynamic=True), threads=(1, 2))


@pytest.mark.parametrize("activation", [Activation.NONE, Activation.GELU], ids=lambda x: x.name)
@pytest.mark.parametrize("magnitude", [1e4, 1e8, 1e12, 1e30])
@pytest.mark.parametrize("weight_format", FORMATS, ids=lambda x: x.name)
def test_results_beyond_every_integer_are_clamped(
    library: Library, weight_format: WeightFormat, magnitude: float, activation: Activation
) -> None:
    case = Case(weight_format, columns=70, activation=activation, folded=True, magnitude=magnitude)
    for out in (DType.U8, DType.S8):
        check(library, replace(case, out=out), threads=(1,))


@pytest.mark.parametrize("columns", [1, 15, 16, 17, 31, 33, 48, 63, 64, 65, 80, 111, 128, 129, 200])
@pytest.mark.parametrize("weight_format", FORMATS, ids=lambda x: x.name)
def test_every_panel_width(library: Library, weight_format: WeightFormat, columns: int) -> None:
    check(library, Case(weight_format, columns=columns, out=DType.U8, activation=Activation.GELU))
    check(library, Case(weight_format, columns=columns, out=DType.F32, residual=True))


@pytest.mark.parametrize(
    "n, k", [(1, 4), (2, 8), (3, 12), (4, 4), (5, 16), (7, 20), (33, 100), (130, 64), (9, 772)]
)
@pytest.mark.parametrize("weight_format", FORMATS, ids=lambda x: x.name)
def test_odd_sizes(library: Library, weight_format: WeightFormat, n: int, k: int) -> None:
    check(library, Case(weight_format, n=n, k=k, columns=70, out=DType.S8))
    check(library, Case(weight_format, n=n, k=k, columns=20, compact=True))


@pytest.mark.parametrize("k", [1, 2, 3, 5, 13, 31])
@pytest.mark.parametrize(
    "weight_format", [f for f in FORMATS if f is not WeightFormat.BLOCK_1X4], ids=lambda x: x.name
)
def test_input_channels_not_a_multiple_of_four(library: Library, weight_format: WeightFormat, k: int) -> None:
    check(library, Case(weight_format, n=6, k=k, columns=20))


@pytest.mark.parametrize("density", [0.0, 0.02, 1.0])
@pytest.mark.parametrize("weight_format", FORMATS, ids=lambda x: x.name)
def test_densities(library: Library, weight_format: WeightFormat, density: float) -> None:
    check(library, Case(weight_format, n=40, k=64, columns=90, density=density))


@pytest.mark.parametrize("weight_format", FORMATS, ids=lambda x: x.name)
def test_sums_are_exact_at_the_extremes(library: Library, weight_format: WeightFormat) -> None:
    """Neighboring products of 127 * 255 saturate the 16-bit sums of careless kernels."""
    k, columns = 1024, 33
    for weight in (127, -127):
        for value in (255, 0):
            weights = np.full((8, k), weight, np.int8)
            weights[1::2, ::2] *= -1
            inputs = np.full((k, columns), value, np.uint8)
            case = Case(weight_format, n=8, k=k, columns=columns, weights=weights, inputs=inputs)
            check(library, case, threads=(1,))


@pytest.mark.parametrize("weight_format", FORMATS, ids=lambda x: x.name)
def test_pairs_of_weights_around_saturation(library: Library, weight_format: WeightFormat) -> None:
    """255 * 128 fits 16 bits and 255 * 129 does not: a kernel may treat them apart."""
    sums = np.array([[127, 1], [127, 2], [64, 64], [65, 64], [-127, -1], [-127, -2], [127, -127], [100, 127]])
    pairs = np.random.default_rng(5).integers(0, len(sums), (16, 300))
    weights = sums[pairs].reshape(16, 600).astype(np.int8)
    inputs = np.full((600, 80), 255, np.uint8)
    inputs[:, 40:] = np.random.default_rng(6).integers(200, 256, (600, 40))
    case = Case(weight_format, n=16, k=600, columns=80, weights=weights, inputs=inputs)
    check(library, case, threads=(1,))


@pytest.mark.parametrize("small", [0, 1, 3, 20, 200])
@pytest.mark.parametrize("weight_format", FORMATS, ids=lambda x: x.name)
def test_columns_that_find_few_partners(library: Library, weight_format: WeightFormat, small: int) -> None:
    """Large weights fit beside small ones only: a kernel may order columns by that, or do without it."""
    rng = np.random.default_rng(small)
    weights = np.full((8, 300), 110, np.int8)
    weights[:, rng.permutation(300)[:small]] = rng.integers(-18, 19, (8, small))
    weights[4:] *= rng.choice(np.array([-1, 1], np.int8), (4, 300))
    inputs = np.full((300, 70), 255, np.uint8)
    inputs[:, 64:] = rng.integers(0, 256, (300, 6))
    case = Case(weight_format, n=8, k=300, columns=70, weights=weights, inputs=inputs)
    check(library, case, threads=(1,))
    check(library, replace(case, compact=True), threads=(2,))


@pytest.mark.parametrize("columns", [16, 48, 80])
@pytest.mark.parametrize("weight_format", FORMATS, ids=lambda x: x.name)
def test_activations_that_end_below_255(library: Library, weight_format: WeightFormat, columns: int) -> None:
    """What saturates depends on the largest activation: a kernel may look it up, by column and panel."""
    rng = np.random.default_rng(columns)
    weights = rng.choice(np.array([127, -127, 126, 100, 90, 75, 65, 64], np.int8), (8, 256))
    inputs = np.repeat(np.arange(256, dtype=np.uint8)[:, None], columns, axis=1)  # column k: k everywhere
    inputs[:, rng.integers(0, columns)] = rng.permutation(256)
    check(
        library,
        Case(weight_format, n=8, k=256, columns=columns, weights=weights, inputs=inputs),
        threads=(1,),
    )
    inputs = np.roll(inputs, 1, axis=0)
    inputs[:, -1] = 255  # in the last panel only
    check(
        library,
        Case(weight_format, n=8, k=256, columns=columns, weights=weights, inputs=inputs),
        threads=(1,),
    )


@pytest.mark.parametrize("weight_format", FORMATS, ids=lambda x: x.name)
def test_many_long_rows(library: Library, weight_format: WeightFormat) -> None:
    """More rows than a kernel may hold the sums of between blocks of the inputs."""
    check(library, Case(weight_format, n=600, k=1024, columns=70, density=0.05, out=DType.U8), threads=(1,))


@pytest.mark.parametrize("weight_format", FORMATS, ids=lambda x: x.name)
def test_long_rows(library: Library, weight_format: WeightFormat) -> None:
    """More inputs than any cache block a kernel may cut them into."""
    check(library, Case(weight_format, n=8, k=3072, columns=80, density=0.2, residual=True), threads=(1, 2))


@pytest.mark.parametrize("columns", [16, 32, 48, 64])
@pytest.mark.parametrize("weight_format", FORMATS, ids=lambda x: x.name)
def test_more_inputs_than_a_shifted_column_can_name(
    library: Library, weight_format: WeightFormat, columns: int
) -> None:
    """Some kernels read columns as byte offsets of 16 bits."""
    case = Case(weight_format, n=6, k=8196, columns=columns, density=0.01, compact=True)
    check(library, case, threads=(1,))


@pytest.mark.parametrize("weight_format", FORMATS, ids=lambda x: x.name)
def test_residual_in_place(library: Library, weight_format: WeightFormat) -> None:
    check(library, Case(weight_format, n=50, columns=100, residual=True, in_place=True))


@pytest.mark.parametrize("weight_format", FORMATS, ids=lambda x: x.name)
def test_over_sequences(library: Library, weight_format: WeightFormat) -> None:
    check(library, Case(weight_format, columns=19, domain=Domain.SEQUENCES, activation=Activation.TANH))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    weight_format=st.sampled_from(FORMATS),
    n=st.integers(1, 70),
    quads=st.integers(1, 40),
    columns=st.integers(1, 200),
    density=st.floats(0, 1),
    out=st.sampled_from(list(DType)),
    activation=st.sampled_from(list(Activation)),
    residual=st.booleans(),
    dynamic=st.booleans(),
    compact=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_any_linear(library: Library, quads: int, **values: object) -> None:
    check(library, Case(k=4 * quads, **values), threads=(1, 3))
