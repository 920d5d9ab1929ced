"""Observers, which find the range of an activation, and the scale and zero point that a range gives."""

from __future__ import annotations

from typing import List, Tuple

import numpy as np
import torch
from torch import nn

from obert_edge.errors import ObertEdgeError

#: Largest code of an unsigned and of a symmetric signed activation (``docs/reference/numerics.md``).
U8_MAX = 255
S8_MAX = 127


def quant_params(low: float, high: float, *, symmetric: bool) -> Tuple[float, int]:
    """The scale and zero point of 8-bit codes that cover ``[low, high]`` and have a code for 0.

    Args:
        low: smallest real value to represent.
        high: largest real value to represent.
        symmetric: True for S8 (zero point 0, codes -127..127), False for U8.

    Returns:
        The scale, a float32 value, and the zero point, 0..255. A range of zero width gives (1, 0).

    Raises:
        ObertEdgeError: the range is not finite, or upside down.
    """
    if not (np.isfinite(low) and np.isfinite(high) and low <= high):
        raise ObertEdgeError(
            f"an activation range must be finite, with low <= high; found [{low}, {high}]",
            hint="run at least one batch through the model, and check its weights for inf and nan",
        )
    low, high = min(low, 0.0), max(high, 0.0)
    levels, span = (S8_MAX, max(-low, high)) if symmetric else (U8_MAX, high - low)
    scale = np.float32(span) / np.float32(levels)
    # A span so small that its inverse overflows float32 holds nothing but zeros for the engine.
    if scale < np.finfo(np.float32).tiny or not np.isfinite(np.float32(1) / scale):
        return 1.0, 0
    zero_point = 0 if symmetric else int(np.rint(np.clip(-low / float(scale), 0, U8_MAX)))
    return float(scale), zero_point


class Observer(nn.Module):
    """Watches the tensors that pass one quantizer, and finds a range for them.

    Subclasses keep what they have seen in buffers, so that a training checkpoint carries it.
    """

    def observe(self, tensor: torch.Tensor) -> None:
        """Take in one float tensor of any shape; an empty one changes nothing."""
        raise NotImplementedError

    def range(self) -> Tuple[float, float]:
        """The real values ``(low, high)`` that the 8-bit codes are to cover.

        Raises:
            ObertEdgeError: nothing was observed.
        """
        raise NotImplementedError

    def quant_params(self, symmetric: bool) -> Tuple[float, int]:
        """Scale (a float32 value) and zero point of the range; see :func:`quant_params`.

        Raises:
            ObertEdgeError: nothing was observed.
        """
        low, high = self.range()
        return quant_params(low, high, symmetric=symmetric)


class MinMaxObserver(Observer):
    """The smallest and the largest value ever seen."""

    bounds: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("bounds", torch.tensor([np.inf, -np.inf]))

    def observe(self, tensor: torch.Tensor) -> None:
        """Widen the range to the values of ``tensor``."""
        if tensor.numel():
            self._update(torch.stack(torch.aminmax(tensor.detach())).to(self.bounds))

    def range(self) -> Tuple[float, float]:
        """The smallest and the largest value seen (of a moving average: their averages over batches)."""
        low, high = self.bounds.tolist()
        if low > high:
            raise ObertEdgeError(
                "no value was observed", hint="run at least one batch while the observers collect"
            )
        return low, high

    def _update(self, seen: torch.Tensor) -> None:
        self.bounds[0] = torch.minimum(self.bounds[0], seen[0])
        self.bounds[1] = torch.maximum(self.bounds[1], seen[1])


class MovingAverageObserver(MinMaxObserver):
    """An exponential moving average of each batch's smallest and largest value.

    It follows a model while it trains: quantization-aware training (Jacob et al. 2018,
    arXiv:1712.05877, section 3.1).

    Args:
        momentum: weight of the past, in [0, 1).

    Attributes:
        uses: how many tensors of a batch pass here, where layers share weights: what is averaged over batches
            is the range of all of them.
    """

    def __init__(self, momentum: float = 0.95) -> None:
        super().__init__()
        self.momentum = momentum
        self.uses = 1
        self._seen: List[torch.Tensor] = []  # the bounds of each use in a batch that has not passed yet
        self._passed = False  # whether a batch has

    def _update(self, seen: torch.Tensor) -> None:
        if self.uses > 1:
            self._seen.append(seen)
            bounds = torch.stack(self._seen)
            seen = torch.stack([bounds[:, 0].amin(), bounds[:, 1].amax()])
            if not self._passed:  # a range is needed at once: that of the uses so far
                self.bounds[0] = torch.minimum(self.bounds[0], seen[0])
                self.bounds[1] = torch.maximum(self.bounds[1], seen[1])
            if len(self._seen) < self.uses:
                return
            self._seen.clear()
            self._passed = True
        averaged = self.bounds.lerp(seen, 1 - self.momentum)
        self.bounds.copy_(torch.where(self.bounds.isinf(), seen, averaged))
