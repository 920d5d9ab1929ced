"""What range each observer chooses, and that none sees what is not there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from obert_edge.calibration import MinMaxObserver, MSEObserver, PercentileObserver, make_observer
from obert_edge.errors import ObertEdgeError, UsageError

values = hnp.arrays(
    np.float32, st.integers(1, 50), elements=st.floats(np.float32(-1e3), np.float32(1e3), width=32)
)


def normal(count=20_000, seed=0):
    return torch.randn(count, generator=torch.Generator().manual_seed(seed))


def quantization_error(x, observer, symmetric):
    scale, zero_point = observer.quant_params(symmetric)
    low, high = (-127, 127) if symmetric else (-zero_point, 255 - zero_point)
    return float((torch.clamp((x / scale).round(), low, high) * scale - x).double().square().mean())


@settings(deadline=None)
@given(st.lists(values, min_size=1, max_size=5), st.sampled_from(["minmax", "percentile", "mse"]))
@example([np.array([-1.1754944e-38], np.float32)], "percentile")  # at the edge of a bin
def test_no_range_is_wider_than_what_was_seen(batches, name):
    observer = make_observer(name)
    for batch in batches:
        observer.observe(torch.from_numpy(batch))
    low, high = observer.range()
    everything = np.concatenate(batches)
    assert min(0, everything.min()) - 1e-6 <= low <= high <= max(0, everything.max()) + 1e-6


@settings(deadline=None, max_examples=30)
@given(st.lists(values, min_size=1, max_size=6))
def test_histograms_lose_no_value_and_do_not_depend_on_the_order(batches):
    there, back = PercentileObserver(), PercentileObserver()
    for batch in batches:
        there.observe(torch.from_numpy(batch))
    for batch in reversed(batches):
        back.observe(torch.from_numpy(batch))
    assert int(there.counts.sum()) == sum(map(len, batches))
    assert there.limit == back.limit
    centers, width = there.centers().numpy(), 2 * there.limit / len(there.counts)
    edges = np.append(centers - width / 2, there.limit)
    everything = np.concatenate(batches).astype(np.float64)
    exact, _ = np.histogram(everything, edges)
    nearest = np.clip(np.rint((everything + there.limit) / width).astype(int), 1, len(edges) - 1)
    on_edge = nearest[np.abs(everything - edges[nearest]) < 0.01 * width] - 1
    for counted in (there.counts, back.counts):
        # A value on the very edge of a bin may be counted on either side of it.
        drift = np.cumsum(counted.numpy()) - np.cumsum(exact)
        drift[on_edge] = 0
        assert not drift.any()


def test_a_percentile_leaves_out_the_tails():
    observer = PercentileObserver(99)
    x = torch.linspace(-1, 1, 10_001)
    observer.observe(x)
    low, high = observer.range()
    assert low == pytest.approx(-0.98, abs=1e-3)
    assert high == pytest.approx(0.98, abs=1e-3)


def test_one_outlier_moves_min_max_only():
    x = torch.cat([normal(), torch.tensor([1000.0])])
    widths = {}
    for name in ("minmax", "percentile", "mse"):
        observer = make_observer(name)
        observer.observe(x)
        widths[name] = observer.range()[1]
    assert widths["minmax"] == 1000
    assert widths["percentile"] < 10


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("tail", [0.0, 15.0, 40.0])
def test_mse_has_the_smallest_error_of_all(symmetric, tail):
    x = torch.cat([normal(), normal(20, seed=1) * tail])
    errors = {}
    for name in ("minmax", "percentile", "mse"):
        observer = make_observer(name)
        for part in x.split(3000):
            observer.observe(part)
        errors[name] = quantization_error(x, observer, symmetric)
    assert errors["mse"] <= 1.01 * min(errors.values())


def test_a_range_to_one_side_of_zero_keeps_zero():
    observer = MSEObserver()
    observer.observe(torch.rand(1000) + 3)
    scale, zero_point = observer.quant_params(False)
    assert zero_point == 0
    assert 255 * scale == pytest.approx(4, rel=0.05)


def test_zeros_alone_are_a_range_too():
    for name in ("minmax", "percentile", "mse"):
        observer = make_observer(name)
        observer.observe(torch.zeros(10))
        assert observer.quant_params(False) == (1.0, 0)
        assert observer.quant_params(True) == (1.0, 0)


@pytest.mark.parametrize("name", ["percentile", "mse"])
@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_values_that_are_not_finite_are_reported(name, bad):
    with pytest.raises(ObertEdgeError, match="inf or nan"):
        make_observer(name).observe(torch.tensor([1.0, bad]))


def test_unknown_observers_and_percentiles_are_refused():
    with pytest.raises(UsageError, match="'entropy'.*minmax, percentile, mse"):
        make_observer("entropy")
    with pytest.raises(UsageError, match="50, 100"):
        PercentileObserver(40)


def test_the_default_observers_are_the_ones_named():
    assert type(make_observer("minmax")) is MinMaxObserver
    assert type(make_observer("mse")) is MSEObserver
