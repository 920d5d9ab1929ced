"""A linear to check on every implementation, written down part by part.

A test says what it needs and leaves the rest as it is::

    linear = a_linear(WeightFormat.ROW_GATHER_4).sized(n=24, k=52).over(tokens=37)
    check(library, linear.into(DType.U8).after(Activation.GELU))

:func:`check` runs it on every implementation and thread count, which must give the bits of the scalar
kernels, and compares those with float64 (``reference.py``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Dict, Optional, Sequence

import numpy as np

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

INPUT_ZERO_POINT = 117
#: Zero point and clamp of each output type: U8 as queries have it, S8 as keys and values have it.
OUTPUT_RANGES = {DType.F32: (0, 0, 0), DType.U8: (97, 0, 255), DType.S8: (0, -127, 127)}


@dataclass(frozen=True)
class LinearCase:
    """``output = epilogue(weights @ input)``. Every method returns a copy with one part changed."""

    weight_format: WeightFormat
    # the matrix
    n: int = 23
    k: int = 52
    density: float = 0.4
    weights: Optional[np.ndarray] = None
    scattered: bool = False
    masked: bool = False
    # the input
    tokens: int = 37
    domain: Domain = Domain.TOKENS
    dynamic: bool = False
    activations: Optional[np.ndarray] = None
    # the epilogue
    out: DType = DType.F32
    activation: Activation = Activation.NONE
    residual: bool = False
    in_place: bool = False
    folded: bool = False
    magnitude: float = 1.0
    seed: int = 0

    def sized(self, *, n: int, k: int) -> LinearCase:
        """``n`` output and ``k`` input channels."""
        return replace(self, n=n, k=k)

    def keeping(self, density: float) -> LinearCase:
        """Random weights, of which this part (of 1x4: of the blocks) is kept; one row keeps nothing."""
        return replace(self, density=density)

    def with_weights(self, weights: np.ndarray) -> LinearCase:
        """These int8 weights [n, k]."""
        n, k = weights.shape
        return replace(self, weights=weights, n=n, k=k)

    def with_scattered_rows(self) -> LinearCase:
        """The rows of a group are any output channels, not neighboring ones."""
        return replace(self, scattered=True)

    def with_columns_as_masks(self) -> LinearCase:
        """Columns are stored as a bundle stores them (as bit masks where those are smaller), not as lists."""
        return replace(self, masked=True)

    def over(self, *, tokens: int) -> LinearCase:
        """``tokens`` packed tokens of one sequence."""
        return replace(self, tokens=tokens, domain=Domain.TOKENS)

    def over_sequences(self, sequences: int) -> LinearCase:
        """One value per sequence, as after pooling."""
        return replace(self, tokens=sequences, domain=Domain.SEQUENCES)

    def of_dynamic_input(self) -> LinearCase:
        """The input has a scale and a zero point per token, instead of one for all."""
        return replace(self, dynamic=True)

    def of_activations(self, activations: np.ndarray) -> LinearCase:
        """These uint8 activations [k, tokens]."""
        return replace(self, activations=activations, tokens=activations.shape[1])

    def into(self, out: DType) -> LinearCase:
        """The output type."""
        return replace(self, out=out)

    def after(self, activation: Activation) -> LinearCase:
        """The activation before the output."""
        return replace(self, activation=activation)

    def with_residual(self, *, in_place: bool = False) -> LinearCase:
        """A residual is added; ``in_place``: the output takes its memory."""
        return replace(self, residual=True, in_place=in_place)

    def with_output_scale_folded_in(self, magnitude: float = 60.0) -> LinearCase:
        """Scale and bias include the output's scale, as the compiler leaves queries, keys and values.

        Args:
            magnitude: what they are multiplied by; 60 fills eight bits, and overflows them here and there.
        """
        return replace(self, folded=True, magnitude=magnitude)


def a_linear(weight_format: WeightFormat) -> LinearCase:
    """A small linear of odd sizes that stores its weights in this format."""
    return LinearCase(weight_format)


@dataclass(frozen=True)
class _Values:
    """The numbers of a case; those of the epilogue are per output channel or per token."""

    weights: np.ndarray  # int8 [n, k]
    activations: np.ndarray  # uint8 [k, tokens]
    scale: np.ndarray
    bias: np.ndarray
    correction: np.ndarray
    token_scale: np.ndarray
    token_zero_point: np.ndarray
    inv_scale: float
    order: Optional[np.ndarray]  # of the rows in groups, where they are scattered
    residual: np.ndarray  # float32 [n, tokens]


def check(library: Library, case: LinearCase, threads: Sequence[int] = (1, 2, 3)) -> None:
    """Run a case everywhere: equal bits, and the right numbers.

    Args:
        library: the engine.
        case: what to run.
        threads: the counts to run on, unless the library says (an emulated one does).
    """
    values = _values_of(case)
    found = _run(library, case, values, threads)
    expected = _expected(case, values)
    if case.out is DType.F32:
        np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-5)
    else:
        quantized = reference.quantize(expected * values.inv_scale, *OUTPUT_RANGES[case.out])
        assert np.abs(found - quantized).max() <= 1
        assert (found != quantized).mean() <= 0.01


def _values_of(case: LinearCase) -> _Values:
    rng = np.random.default_rng(case.seed)
    n, tokens = case.n, case.tokens
    weights, activations = case.weights, case.activations
    if weights is None:
        weights = _random_weights(case, rng)
    if activations is None:
        activations = rng.integers(0, 256, (case.k, tokens)).astype(np.uint8)
    spread = max(1.0, float(np.sqrt((weights.astype(float) ** 2).sum(axis=1).max()))) * 128
    scale = (rng.uniform(0.5, 2.0, n) * 2.0 / spread).astype(np.float32)
    bias = rng.normal(0, 0.5, n).astype(np.float32)
    sums = weights.astype(np.int64).sum(axis=1)
    return _Values(
        weights=weights,
        activations=activations,
        scale=scale * np.float32(case.magnitude),
        bias=bias * np.float32(case.magnitude),
        correction=(sums if case.dynamic else -INPUT_ZERO_POINT * sums).astype(np.int32),
        token_scale=rng.uniform(0.5, 1.5, tokens).astype(np.float32),
        token_zero_point=rng.integers(0, 256, tokens),
        inv_scale=float(np.float32(1.0 if case.folded else 60.0)),
        order=rng.permutation(n).astype(np.uint32) if case.scattered else None,
        residual=rng.normal(0, 1, (n, tokens)).astype(np.float32),
    )


def _random_weights(case: LinearCase, rng: np.random.Generator) -> np.ndarray:
    n, k = case.n, case.k
    blocks = case.weight_format is WeightFormat.BLOCK_1X4
    weights = rng.integers(-127, 128, (n, k)).astype(np.int8)
    keep = rng.random((n, k // 4 if blocks else k)) < case.density
    weights = weights * (keep.repeat(4, axis=1) if blocks else keep)
    weights[n // 2] = 0  # a row, and with R = 4 perhaps a group, that stores nothing
    return weights.astype(np.int8)


def _run(library: Library, case: LinearCase, values: _Values, threads: Sequence[int]) -> np.ndarray:
    """The scalar kernels' output [n, tokens], when all others have given its bits."""
    builder = ProgramBuilder()
    source = builder.buffer(DType.U8, case.k, case.domain)
    params = builder.buffer(DType.F32, 2, case.domain) if case.dynamic else ABSENT
    residual = builder.buffer(DType.F32, case.n, case.domain) if case.residual else ABSENT
    output = residual if case.in_place else builder.buffer(case.out, case.n, case.domain)
    packed, coding = _packed(case, values)
    arrays = {name: builder.const(packed[name]) for name in ("rows", "offsets", "columns", "weights")}
    zero_point, lo, hi = OUTPUT_RANGES[case.out]
    builder.add(
        Linear(
            "linear", source, params, residual, output, **arrays,
            scale=builder.const(values.scale), bias=builder.const(values.bias),
            correction=builder.const(values.correction),
            k=case.k, n=case.n, groups=len(packed["offsets"]) - 1, format=case.weight_format,
            activation=case.activation, zero_point=zero_point, lo=lo, hi=hi, inv_scale=values.inv_scale,
            column_coding=coding,
        )
    )  # fmt: skip
    inputs = {source: values.activations}
    if case.dynamic:
        inputs[params] = np.stack([values.token_scale, values.token_zero_point.astype(np.float32)])
    if case.residual:
        inputs[residual] = values.residual
    lengths = [case.tokens] if case.domain is Domain.TOKENS else [1] * case.tokens
    batch = PackedBatch(starts_of(lengths))
    (found,) = run_everywhere(library, builder, batch, inputs, [output], threads=threads)
    return found


def _packed(case: LinearCase, values: _Values) -> tuple[Dict[str, np.ndarray], ColumnCoding]:
    """The matrix as a bundle stores it: rows, offsets, columns and weights, and how columns are coded."""
    if values.order is None:
        packed = _pack(values.weights, case.weight_format)
    else:
        packed = _pack(values.weights[values.order], case.weight_format)
        packed["rows"] = values.order[packed["rows"]]
    coding = ColumnCoding.LIST
    if case.masked:
        packed["columns"], coding = code_columns(packed, case.weight_format, case.k)
    return packed, coding


def _pack(weights: np.ndarray, weight_format: WeightFormat) -> Dict[str, np.ndarray]:
    n, k = weights.shape
    if weight_format is not WeightFormat.DENSE_4 or k % 4 == 0:
        return pack_linear(weights, weight_format)
    # The packer of Dense4 takes multiples of 4 input channels only; the engine takes any number of them.
    padded = np.zeros((-(-n // 4) * 4, -(-k // 4) * 4), np.int8)
    padded[:n, :k] = weights
    packed = pack_linear(padded, weight_format)
    packed["rows"][n:] = PAD_ROW
    return packed


def _expected(case: LinearCase, values: _Values) -> np.ndarray:
    """The output [n, tokens] in float64, before it is quantized."""
    zero_point = values.token_zero_point if case.dynamic else INPUT_ZERO_POINT
    centered = values.activations.astype(np.int64) - zero_point
    y = (values.weights.astype(np.int64) @ centered).astype(np.float64)
    y = y * (values.token_scale if case.dynamic else 1.0) * values.scale[:, None] + values.bias[:, None]
    y = reference.activate(y, case.activation)
    return y + values.residual if case.residual else y
