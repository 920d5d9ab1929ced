"""Observers that choose an activation's range; their base class is in ``host/quantization/observers.py``.

=============  =====================================================================================
``minmax``     everything seen: nothing is clipped, so one outlier makes all steps coarse
``percentile`` clips a fixed share of the values at each end
``mse``        the range with the smallest mean squared quantization error (Banner et al. 2018,
               arXiv:1810.05723, found by search over a histogram instead of by a formula)
=============  =====================================================================================
"""

from __future__ import annotations

from typing import Callable, Dict, Tuple

import torch

from obert_edge.errors import ObertEdgeError, UsageError
from obert_edge.host.quantization.observers import (
    S8_MAX,
    U8_MAX,
    MinMaxObserver,
    MovingAverageObserver,
    Observer,
    quant_params,
)

__all__ = [
    "MSEObserver",
    "MinMaxObserver",
    "MovingAverageObserver",
    "Observer",
    "PercentileObserver",
    "make_observer",
]

#: Bins of a histogram; even, as bins merge in pairs.
_BINS = 8192
#: Half the width of a histogram before it has seen a value.
_SMALLEST_LIMIT = 2.0**-20


class HistogramObserver(Observer):
    """Counts values in equal bins over ``[-limit, limit]``, beside their exact extremes.

    ``limit`` is a power of two; when a value lies beyond, it doubles and pairs of bins merge, which
    loses nothing but resolution: what was counted does not depend on the order of the batches.
    """

    counts: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.limit = _SMALLEST_LIMIT
        self.extremes = MinMaxObserver()
        self.register_buffer("counts", torch.zeros(_BINS, dtype=torch.float64), persistent=False)

    def observe(self, tensor: torch.Tensor) -> None:
        """Count the values of ``tensor``.

        Raises:
            ObertEdgeError: one of them is inf or nan.
        """
        tensor = tensor.detach().float()
        self.extremes.observe(tensor)
        if not tensor.numel():
            return
        low, high = self.extremes.range()
        largest = max(-low, high)
        if not largest < float("inf"):
            raise ObertEdgeError(
                "an activation is inf or nan", hint="check the model's weights for inf and nan"
            )
        while largest > self.limit:
            self._double()
        counts = torch.histc(tensor, _BINS, -self.limit, self.limit)
        self.counts += counts.to(self.counts)

    def centers(self) -> torch.Tensor:
        """The middle of every bin, float64 ``[bins]``."""
        width = 2 * self.limit / _BINS
        steps = torch.arange(_BINS, dtype=torch.float64, device=self.counts.device)
        return (steps + 0.5) * width - self.limit

    def _double(self) -> None:
        """Double ``limit``: pairs of bins merge into the middle half of the histogram."""
        quarter = _BINS // 4
        merged = self.counts.reshape(-1, 2).sum(1)
        self.counts.zero_()
        self.counts[quarter:-quarter] = merged
        self.limit *= 2


class PercentileObserver(HistogramObserver):
    """Leaves out the smallest and the largest values.

    Args:
        percentile: share of the values that lie below the upper end, and above the lower one, in
            percent; 100 clips nothing.

    Raises:
        UsageError: ``percentile`` is not in (50, 100].
    """

    def __init__(self, percentile: float = 99.99) -> None:
        if not 50 < percentile <= 100:
            raise UsageError(f"percentile is {percentile}; expected (50, 100]", hint="try 99.99")
        super().__init__()
        self.percentile = percentile

    def range(self) -> Tuple[float, float]:
        """From one percentile to the other, never wider than what was seen."""
        low, high = self.extremes.range()
        below = self.counts.cumsum(0) / self.counts.sum()
        width = 2 * self.limit / _BINS
        share = self.percentile / 100
        first = int(torch.searchsorted(below, torch.tensor(1 - share, dtype=below.dtype), right=True))
        last = int(torch.searchsorted(below, torch.tensor(share, dtype=below.dtype)))
        lower = -self.limit + first * width
        upper = -self.limit + (last + 1) * width
        # A value at the edge of a bin may count in its neighbor: neither end may leave what was seen.
        lower = min(max(low, lower), high)
        return lower, max(min(high, upper), lower)


class MSEObserver(HistogramObserver):
    """Trades clipping against resolution: the smallest mean squared error over the histogram.

    Args:
        candidates: ranges tried along each axis of the search.
    """

    def __init__(self, candidates: int = 80) -> None:
        super().__init__()
        self.candidates = candidates

    def range(self) -> Tuple[float, float]:
        """The range whose U8 codes have the smallest mean squared error on what was seen."""
        low, high = (min(self.extremes.range()[0], 0.0), max(self.extremes.range()[1], 0.0))
        factors = torch.linspace(1, 1 / self.candidates, self.candidates, dtype=torch.float64)
        ones = torch.ones_like(factors)
        # Both ends together first, then each end alone: outliers are often on one side only.
        for low_factors, high_factors in ((factors, factors), (factors, ones), (ones, factors)):
            lows, highs = low_factors * low, high_factors * high
            best = int(self._errors(lows, highs, (highs - lows) / U8_MAX).argmin())
            low, high = float(lows[best]), float(highs[best])
        return low, high

    def quant_params(self, symmetric: bool) -> Tuple[float, int]:
        """Scale and zero point with the smallest mean squared error: U8, or symmetric S8.

        S8 needs a search of its own, as it has fewer codes and both ends at the same distance from 0.
        """
        if not symmetric:
            return super().quant_params(False)
        low, high = self.extremes.range()
        limits = torch.linspace(1, 1 / self.candidates, self.candidates, dtype=torch.float64) * max(
            -low, high
        )
        limit = float(limits[int(self._errors(-limits, limits, limits / S8_MAX).argmin())])
        return quant_params(-limit, limit, symmetric=True)

    def _errors(self, low: torch.Tensor, high: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        """The mean squared error of each candidate.

        Args:
            low: float64 [candidates], the smallest value a candidate has a code for.
            high: the largest one.
            scale: the distance between two codes.

        Returns:
            float64 [candidates].
        """
        occupied = self.counts > 0
        x, counts = self.centers()[occupied].cpu(), self.counts[occupied].cpu()
        low, high = low[:, None], high[:, None]
        scale = scale.clamp(min=1e-30)[:, None]
        rounded = torch.clamp(x, low, high).div_(scale).round_().mul_(scale)
        return (rounded.sub_(x).square_() @ counts) / counts.sum()


_OBSERVERS: Dict[str, Callable[[], Observer]] = {
    "minmax": MinMaxObserver,
    "percentile": PercentileObserver,
    "mse": MSEObserver,
}


def make_observer(name: str) -> Observer:
    """A new observer: ``minmax``, ``percentile`` or ``mse``.

    Raises:
        UsageError: there is no such observer.
    """
    if name not in _OBSERVERS:
        raise UsageError(
            f"there is no observer {name!r}; expected one of {', '.join(_OBSERVERS)}",
            hint="mse is a good default",
        )
    return _OBSERVERS[name]()
