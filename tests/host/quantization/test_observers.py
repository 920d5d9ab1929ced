"""Ranges that are seen, and the scale and zero point that a range gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from obert_edge.errors import ObertEdgeError
from obert_edge.host.quantization.observers import MinMaxObserver, MovingAverageObserver, quant_params

ends = st.floats(-1e6, 1e6, width=32)


@given(ends, ends)
def test_an_affine_grid_holds_zero_exactly_and_covers_the_range_to_half_a_step(a, b):
    low, high = min(a, b), max(a, b)
    scale, zero_point = quant_params(low, high, symmetric=False)
    assert float(np.float32(scale)) == scale > 0
    assert 0 <= zero_point <= 255
    slack = scale * 0.5001 if (low, high) != (0, 0) else 0
    if high - low > 1e-30:
        assert (0 - zero_point) * scale <= min(low, 0) + slack
        assert (255 - zero_point) * scale >= max(high, 0) - slack


@given(ends, ends)
def test_a_symmetric_grid_has_zero_point_zero(a, b):
    low, high = min(a, b), max(a, b)
    scale, zero_point = quant_params(low, high, symmetric=True)
    assert zero_point == 0
    if max(-low, high) > 1e-30:
        assert 127 * scale >= max(-low, high) * (1 - 1e-6)


def test_a_range_of_nothing_but_zero_has_scale_one():
    assert quant_params(0.0, 0.0, symmetric=False) == (1.0, 0)
    assert quant_params(0.0, 1e-44, symmetric=True) == (1.0, 0)


@pytest.mark.parametrize("low, high", [(float("nan"), 1.0), (0.0, float("inf")), (1.0, -1.0)])
def test_a_range_that_is_none_is_refused(low, high):
    with pytest.raises(ObertEdgeError, match="finite"):
        quant_params(low, high, symmetric=False)


def test_min_max_remembers_the_extremes_of_all_batches():
    observer = MinMaxObserver()
    observer.observe(torch.tensor([[1.0, -2.0]]))
    observer.observe(torch.tensor([0.5, 3.0]))
    observer.observe(torch.empty(0))
    assert observer.range() == (-2.0, 3.0)


def test_a_moving_average_starts_at_the_first_batch_and_follows_the_next():
    observer = MovingAverageObserver(momentum=0.75)
    observer.observe(torch.tensor([-1.0, 4.0]))
    assert observer.range() == (-1.0, 4.0)
    observer.observe(torch.tensor([-3.0, 8.0]))
    assert observer.range() == (-1.5, 5.0)


def test_a_moving_average_over_layers_that_share_weights_is_of_all_of_them():
    observer = MovingAverageObserver(momentum=0.75)
    observer.uses = 2
    observer.observe(torch.tensor([-1.0, 4.0]))
    assert observer.range() == (-1.0, 4.0)  # the first use of all needs a range as well
    observer.observe(torch.tensor([-2.0, 1.0]))
    assert observer.range() == (-2.0, 4.0)
    observer.observe(torch.tensor([-6.0, 8.0]))
    assert observer.range() == (-2.0, 4.0)  # until the batch has passed
    observer.observe(torch.tensor([-1.0, 0.0]))
    assert observer.range() == (-3.0, 5.0)


def test_an_observer_that_saw_nothing_says_so():
    with pytest.raises(ObertEdgeError, match="no value was observed"):
        MinMaxObserver().range()
