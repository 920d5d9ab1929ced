"""Linear: every format, epilogue and shape gives the scalar kernels' bits, and the right numbers."""

from __future__ import annotations

from typing import Callable, Dict, Optional

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obert_edge.bundle.program import Activation, DType, WeightFormat
from obert_edge.device.runtime.native import Library
from tests.kernels.linear_case import LinearCase, a_linear, check

FORMATS = list(WeightFormat)
every_format = pytest.mark.parametrize("weight_format", FORMATS, ids=lambda x: x.name)
every_activation = pytest.mark.parametrize("activation", list(Activation), ids=lambda x: x.name)
every_output = pytest.mark.parametrize("out", list(DType), ids=lambda x: x.name)
both_byte_outputs = pytest.mark.parametrize("out", [DType.U8, DType.S8], ids=lambda x: x.name)


def over_tokens(*counts: int) -> pytest.MarkDecorator:
    """One test per number of packed tokens; 16, 32, 48 and 64 are the widths of a panel."""
    return pytest.mark.parametrize("tokens", counts, ids=lambda count: f"{count}-tokens")


# ---- epilogues


@pytest.mark.parametrize("residual", [False, True], ids=["no-residual", "residual"])
@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
@every_output
@every_activation
@every_format
def test_every_epilogue(
    library: Library,
    weight_format: WeightFormat,
    activation: Activation,
    out: DType,
    dynamic: bool,
    residual: bool,
) -> None:
    linear = a_linear(weight_format).after(activation).into(out)
    if dynamic:
        linear = linear.of_dynamic_input()
    if residual:
        linear = linear.with_residual()
    check(library, linear, threads=(1, 2))


@over_tokens(16, 32, 48, 64, 100)
@both_byte_outputs
@every_format
def test_output_scale_folded_into_the_weights(
    library: Library, weight_format: WeightFormat, out: DType, tokens: int
) -> None:
    """Queries, keys and values: scaled so that they fill, and overflow, eight bits."""
    linear = a_linear(weight_format).over(tokens=tokens)
    check(library, linear.with_output_scale_folded_in().into(out), threads=(1, 2))


#: The epilogues that kernels have code of their own for, and one of those that share the general code.
EPILOGUES: Dict[str, Callable[[LinearCase], LinearCase]] = {
    "U8": lambda linear: linear.with_output_scale_folded_in().into(DType.U8),
    "S8": lambda linear: linear.with_output_scale_folded_in().into(DType.S8),
    "U8-after-GELU": lambda linear: linear.after(Activation.GELU).into(DType.U8),
    "F32-in-place-of-the-residual": lambda linear: linear.with_residual(in_place=True),
    "S8-of-a-dynamic-input": lambda linear: linear.of_dynamic_input().into(DType.S8),
}


@pytest.mark.parametrize("epilogue", EPILOGUES)
@pytest.mark.parametrize("scattered", [False, True], ids=["neighbors", "scattered"])
@over_tokens(16, 32, 48, 64)
@every_format
def test_groups_without_padding_rows(
    library: Library, weight_format: WeightFormat, tokens: int, scattered: bool, epilogue: str
) -> None:
    """Rows of a group that follow each other may be stored together where a panel is narrow."""
    linear = a_linear(weight_format).sized(n=24, k=52).over(tokens=tokens)
    if scattered:
        linear = linear.with_scattered_rows()
    check(library, EPILOGUES[epilogue](linear), threads=(1, 2))


@pytest.mark.parametrize("epilogue", EPILOGUES)
@over_tokens(16, 32, 48, 64)
@pytest.mark.parametrize("k", [516, 1100])
@every_format
def test_groups_of_more_quads_than_wait_for_a_second_pass(
    library: Library, weight_format: WeightFormat, k: int, tokens: int, epilogue: str
) -> None:
    """Kernels with few registers take some rows of a group first, and hold the quads of at most 128."""
    linear = a_linear(weight_format).sized(n=8, k=k).over(tokens=tokens).keeping(1.0)
    check(library, EPILOGUES[epilogue](linear), threads=(1,))


@both_byte_outputs
@pytest.mark.parametrize("activation", [Activation.NONE, Activation.GELU], ids=lambda x: x.name)
@pytest.mark.parametrize("magnitude", [1e4, 1e8, 1e12, 1e30])
@every_format
def test_results_beyond_every_integer_are_clamped(
    library: Library, weight_format: WeightFormat, magnitude: float, activation: Activation, out: DType
) -> None:
    linear = a_linear(weight_format).over(tokens=70).with_output_scale_folded_in(magnitude)
    check(library, linear.after(activation).into(out), threads=(1,))


@every_format
def test_the_output_may_take_the_residual_s_memory(library: Library, weight_format: WeightFormat) -> None:
    linear = a_linear(weight_format).sized(n=50, k=52).over(tokens=100)
    check(library, linear.with_residual(in_place=True))


@every_format
def test_over_sequences(library: Library, weight_format: WeightFormat) -> None:
    check(library, a_linear(weight_format).over_sequences(19).after(Activation.TANH))


# ---- shapes

PANEL_WIDTHS = over_tokens(1, 15, 16, 17, 31, 33, 48, 63, 64, 65, 80, 111, 128, 129, 200)


@PANEL_WIDTHS
@every_format
def test_every_panel_width_into_bytes(library: Library, weight_format: WeightFormat, tokens: int) -> None:
    linear = a_linear(weight_format).over(tokens=tokens)
    check(library, linear.after(Activation.GELU).into(DType.U8))


@PANEL_WIDTHS
@every_format
def test_every_panel_width_with_a_residual(
    library: Library, weight_format: WeightFormat, tokens: int
) -> None:
    check(library, a_linear(weight_format).over(tokens=tokens).with_residual())


SIZES = [(1, 4), (2, 8), (3, 12), (4, 4), (5, 16), (7, 20), (33, 100), (130, 64), (9, 772)]
ODD_SIZES = pytest.mark.parametrize("n, k", SIZES, ids=[f"{n}-outputs-{k}-inputs" for n, k in SIZES])


@ODD_SIZES
@every_format
def test_odd_sizes(library: Library, weight_format: WeightFormat, n: int, k: int) -> None:
    check(library, a_linear(weight_format).sized(n=n, k=k).over(tokens=70).into(DType.S8))


@ODD_SIZES
@every_format
def test_odd_sizes_with_columns_as_masks(
    library: Library, weight_format: WeightFormat, n: int, k: int
) -> None:
    check(library, a_linear(weight_format).sized(n=n, k=k).over(tokens=20).with_columns_as_masks())


@pytest.mark.parametrize("k", [1, 2, 3, 5, 13, 31], ids=lambda k: f"{k}-inputs")
@pytest.mark.parametrize(
    "weight_format", [f for f in FORMATS if f is not WeightFormat.BLOCK_1X4], ids=lambda x: x.name
)
def test_input_channels_not_a_multiple_of_four(library: Library, weight_format: WeightFormat, k: int) -> None:
    check(library, a_linear(weight_format).sized(n=6, k=k).over(tokens=20))


@pytest.mark.parametrize("density", [0.0, 0.02, 1.0], ids=["nothing", "2-percent", "everything"])
@every_format
def test_densities(library: Library, weight_format: WeightFormat, density: float) -> None:
    check(library, a_linear(weight_format).sized(n=40, k=64).over(tokens=90).keeping(density))


@every_format
def test_more_rows_than_a_kernel_may_hold_the_sums_of(library: Library, weight_format: WeightFormat) -> None:
    """1x4 kernels hold the sums of some rows while they pass over one part of the inputs after the other."""
    linear = a_linear(weight_format).sized(n=600, k=1024).over(tokens=70).keeping(0.05)
    check(library, linear.into(DType.U8), threads=(1,))


@every_format
def test_more_inputs_than_a_kernel_may_take_at_once(library: Library, weight_format: WeightFormat) -> None:
    """Kernels cut the inputs into parts that a cache holds."""
    linear = a_linear(weight_format).sized(n=8, k=3072).over(tokens=80).keeping(0.2)
    check(library, linear.with_residual(), threads=(1, 2))


@over_tokens(1, 7, 8, 9, 24, 25, 72)
@every_format
def test_lanes_of_padding_alone(library: Library, weight_format: WeightFormat, tokens: int) -> None:
    """A kernel may leave out what would be computed for the last half of a unit, where no token is."""
    linear = a_linear(weight_format).sized(n=21, k=44).over(tokens=tokens)
    for epilogue in EPILOGUES.values():
        check(library, epilogue(linear))
    check(library, linear.of_dynamic_input().with_residual())
    check(library, linear.sized(n=13, k=780).keeping(1.0).into(DType.S8))
    for k in (4100, 8196):  # more than one part of 1x4 has; more than a shifted column can name
        check(library, linear.sized(n=6, k=k).keeping(0.02), threads=(1,))


@over_tokens(16, 100)
@every_format
def test_many_tasks_of_a_panel(library: Library, weight_format: WeightFormat, tokens: int) -> None:
    """A kernel may find the panel in a thread's scratch as it left it there."""
    linear = a_linear(weight_format).sized(n=768, k=768).over(tokens=tokens).keeping(0.9)
    check(library, linear, threads=(2, 3, 4))


@over_tokens(16, 32, 48, 64)
@every_format
def test_more_inputs_than_a_shifted_column_can_name(
    library: Library, weight_format: WeightFormat, tokens: int
) -> None:
    """Some kernels read columns as byte offsets of 16 bits."""
    linear = a_linear(weight_format).sized(n=6, k=8196).over(tokens=tokens).keeping(0.01)
    check(library, linear.with_columns_as_masks(), threads=(1,))


# ---- products that saturate 16 bits in a careless kernel


@pytest.mark.parametrize("activation", [255, 0])
@pytest.mark.parametrize("weight", [127, -127])
@every_format
def test_sums_are_exact_at_the_extremes(
    library: Library, weight_format: WeightFormat, weight: int, activation: int
) -> None:
    """Two neighboring products of 127 * 255 do not fit 16 bits."""
    weights = np.full((8, 1024), weight, np.int8)
    weights[1::2, ::2] *= -1
    activations = np.full((1024, 33), activation, np.uint8)
    check(library, a_linear(weight_format).with_weights(weights).of_activations(activations), threads=(1,))


@every_format
def test_pairs_of_weights_around_saturation(library: Library, weight_format: WeightFormat) -> None:
    """255 * 128 fits 16 bits and 255 * 129 does not: a kernel may treat them apart."""
    pairs = np.array(
        [[127, 1], [127, 2], [64, 64], [65, 64], [-127, -1], [-127, -2], [127, -127], [100, 127]]
    )
    chosen = np.random.default_rng(5).integers(0, len(pairs), (16, 300))
    weights = pairs[chosen].reshape(16, 600).astype(np.int8)
    activations = np.full((600, 80), 255, np.uint8)
    activations[:, 40:] = np.random.default_rng(6).integers(200, 256, (600, 40))
    check(library, a_linear(weight_format).with_weights(weights).of_activations(activations), threads=(1,))


@pytest.mark.parametrize("masked", [False, True], ids=["listed", "masked"])
@pytest.mark.parametrize("small", [0, 1, 3, 20, 200], ids=lambda count: f"{count}-small")
@every_format
def test_columns_that_find_few_partners(
    library: Library, weight_format: WeightFormat, small: int, masked: bool
) -> None:
    """Large weights fit beside small ones only: a kernel may order columns by that, or do without it."""
    rng = np.random.default_rng(small)
    weights = np.full((8, 300), 110, np.int8)
    weights[:, rng.permutation(300)[:small]] = rng.integers(-18, 19, (8, small))
    weights[4:] *= rng.choice(np.array([-1, 1], np.int8), (4, 300))
    activations = np.full((300, 70), 255, np.uint8)
    activations[:, 64:] = rng.integers(0, 256, (300, 6))
    linear = a_linear(weight_format).with_weights(weights).of_activations(activations)
    if masked:
        check(library, linear.with_columns_as_masks(), threads=(2,))
    else:
        check(library, linear, threads=(1,))


@pytest.mark.parametrize("largest", [None, 255], ids=["by-channel", "255-in-the-last-token"])
@over_tokens(16, 48, 80)
@every_format
def test_activations_that_end_below_255(
    library: Library, weight_format: WeightFormat, tokens: int, largest: Optional[int]
) -> None:
    """What saturates depends on the largest activation: a kernel may look it up, by channel and panel."""
    rng = np.random.default_rng(tokens)
    weights = rng.choice(np.array([127, -127, 126, 100, 90, 75, 65, 64], np.int8), (8, 256))
    activations = np.repeat(
        np.arange(256, dtype=np.uint8)[:, None], tokens, axis=1
    )  # channel k is k everywhere
    activations[:, rng.integers(0, tokens)] = rng.permutation(256)
    if largest is not None:
        activations = np.roll(activations, 1, axis=0)
        activations[:, -1] = largest
    check(library, a_linear(weight_format).with_weights(weights).of_activations(activations), threads=(1,))


# ---- anything


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    weight_format=st.sampled_from(FORMATS),
    n=st.integers(1, 70),
    quads=st.integers(1, 40),
    tokens=st.integers(1, 200),
    density=st.floats(0, 1),
    out=st.sampled_from(list(DType)),
    activation=st.sampled_from(list(Activation)),
    residual=st.booleans(),
    dynamic=st.booleans(),
    masked=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_any_linear(library: Library, quads: int, **parts: object) -> None:
    check(library, LinearCase(k=4 * quads, **parts), threads=(1, 3))
