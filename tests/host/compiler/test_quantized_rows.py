"""INT8 rows reach their largest value; INT4 rows take the best of the scales that are tried."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from obert_edge.bundle.ops import INT4_GROUP
from obert_edge.bundle.rows import dequantize_rows, pack_rows
from obert_edge.host.compiler.quantized_rows import quantize_rows, quantize_rows_int4


@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-30, 1e-3, 1.0, 1e6]))
def test_rows_are_quantized_symmetrically_and_zeros_stay_zero(seed: int, size: float) -> None:
    generator = np.random.default_rng(seed)
    weight = (generator.normal(0, size, (5, 16)) * (generator.random((5, 16)) < 0.5)).astype(np.float32)
    weight[0] = 0
    q, scale = quantize_rows(weight)
    assert scale[0] == 1 and q.dtype == np.int8 and scale.dtype == np.float32
    assert ((weight == 0) <= (q == 0)).all() and q.min() >= -127
    for row in range(1, 5):
        if weight[row].any():
            assert abs(q[row]).max() == 127
            assert scale[row] == abs(weight[row]).max() / np.float32(127)
    assert (abs(q * scale[:, None] - weight) <= 0.5001 * scale[:, None]).all()


def values_of(weight: np.ndarray) -> np.ndarray:
    rows = quantize_rows_int4(weight)
    return dequantize_rows(pack_rows(rows.values), rows.group_scale, rows.scale, weight.shape[1])


@st.composite
def tables(draw: st.DrawFn) -> np.ndarray:
    """Rows of any width, with zeros, outliers, and scales from tiny to huge."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    weight = generator.normal(0, 1, (draw(st.integers(1, 5)), draw(st.integers(1, 100))))
    weight *= generator.choice([0, 1e-3, 1, 30], weight.shape, p=[0.1, 0.1, 0.75, 0.05])
    return (weight * draw(st.sampled_from([1e-30, 1e-4, 1.0, 1e20]))).astype(np.float32)


@settings(deadline=None)
@given(tables())
def test_a_group_loses_no_more_than_with_the_scale_of_its_largest_value(weight: np.ndarray) -> None:
    found = values_of(weight).astype(np.float64)
    exact = weight.astype(np.float64)
    for start in range(0, weight.shape[1], INT4_GROUP):
        part = exact[:, start : start + INT4_GROUP]
        largest = part[np.arange(len(part)), np.abs(part).argmax(axis=1)][:, None]
        step = np.where(largest == 0, 1, -largest / 8)
        plain = np.clip(np.rint(part / step), -8, 7) * step
        lost = ((found[:, start : start + INT4_GROUP] - part) ** 2).sum(axis=1)
        # The scales tried are whole multiples of the row's, so none is exactly the one of the largest value:
        # half of the row's scale off, eight steps are four of the row's scales off.
        slack = np.abs(exact).max(axis=1) / 1016 * 4
        assert (
            np.sqrt(lost) <= np.sqrt(((plain - part) ** 2).sum(axis=1)) + slack * len(part[0]) ** 0.5
        ).all()


@settings(deadline=None)
@given(tables())
def test_a_row_does_not_depend_on_its_neighbors(weight: np.ndarray) -> None:
    alone = np.concatenate([values_of(weight[i : i + 1]) for i in range(len(weight))])
    np.testing.assert_array_equal(values_of(weight), alone)


def test_zeros_stay_zero_and_values_stay_in_range() -> None:
    weight = np.zeros((3, 70), np.float32)
    weight[1, 5], weight[2] = 3.0, np.linspace(-1, 1, 70)
    rows = quantize_rows_int4(weight)
    assert rows.values.min() == -8 and rows.values.max() <= 7
    assert not rows.values[0].any() and rows.scale[0] == 1
    assert np.flatnonzero(rows.values[1]).tolist() == [5]
    assert np.isclose(values_of(weight)[1, 5], 3.0)
    assert rows.group_scale.shape == (3, 3) and (np.abs(rows.group_scale.astype(int)) >= 1).all()


def test_the_error_of_a_normal_row_is_a_tenth_of_a_standard_deviation() -> None:
    weight = np.random.default_rng(0).normal(0, 1, (200, 384)).astype(np.float32)
    assert 0.07 < np.sqrt(((values_of(weight) - weight) ** 2).mean()) < 0.09
