"""When to prune how much, and the learning rate that goes with it (paper section 4.1, Table 9)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Dict, List, Sequence

from obert_edge.errors import UsageError
from obert_edge.host.pruning.settings import Pruning

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LambdaLR

_UNITS = ("epochs", "steps")


def _steps(value: float, unit: str, steps_per_epoch: int) -> int:
    """A point in time as a whole number of optimizer steps."""
    return int(math.floor(value * steps_per_epoch + 0.5)) if unit == "epochs" else int(value)


def _check_unit(unit: str) -> None:
    if unit not in _UNITS:
        raise UsageError(f'unit is "{unit}"', hint='use "epochs" or "steps"')


@dataclass(frozen=True)
class LinearSchedule:
    """Sparsity rises in equal steps from ``initial`` (the first step) to ``final`` (the last).

    Attributes:
        initial: sparsity of the first pruning step.
        final: sparsity of the last one.
        start: time of the first pruning step.
        end: time of the last one; steps are at ``start + i * frequency`` up to ``end``.
        frequency: time between steps.
        unit: "epochs" (fractions allowed) or "steps" (optimizer steps).

    Raises:
        UsageError: a value is out of range.
    """

    initial: float
    final: float
    start: float
    end: float
    frequency: float
    unit: str = "epochs"

    def __post_init__(self) -> None:
        _check_unit(self.unit)
        Pruning.check(initial_sparsity=self.initial, sparsity=self.final)
        if self.initial > self.final:
            raise UsageError(
                f"initial sparsity {self.initial} is above final sparsity {self.final}",
                hint="pruned weights do not come back: let the sparsity rise",
            )
        if not (0 <= self.start <= self.end and self.frequency > 0):
            raise UsageError(
                f"pruning from {self.start} to {self.end} every {self.frequency} {self.unit} is no schedule",
                hint="use 0 <= start <= end and a frequency above 0",
            )

    @property
    def times(self) -> List[float]:
        """When to prune, in ``unit``."""
        count = int(math.floor((self.end - self.start) / self.frequency + 1e-9)) + 1
        return [self.start + i * self.frequency for i in range(count)]

    @property
    def sparsities(self) -> List[float]:
        """The sparsity after each pruning step."""
        last = len(self.times) - 1
        return [self.interpolate(i / last if last else 1.0) for i in range(last + 1)]

    def interpolate(self, x: float) -> float:
        """Sparsity at the share ``x`` in [0, 1] of the way from start to end."""
        return self.initial + (self.final - self.initial) * x

    def resolve(self, steps_per_epoch: int) -> Dict[int, float]:
        """Map the optimizer step *before* which to prune to the sparsity to reach.

        Args:
            steps_per_epoch: optimizer steps in one epoch.

        Raises:
            UsageError: two pruning steps fall on the same optimizer step.
        """
        moments = [_steps(time, self.unit, steps_per_epoch) for time in self.times]
        if len(set(moments)) < len(moments):
            raise UsageError(
                f"pruning every {self.frequency} {self.unit} is more often than once per optimizer step "
                f"({steps_per_epoch} steps per epoch)",
                hint="use a larger frequency",
            )
        return dict(zip(moments, self.sparsities))


@dataclass(frozen=True)
class CubicSchedule(LinearSchedule):
    """Sparsity rises fast at first and slowly at the end (Zhu & Gupta 2017), as in the paper.

    ``s(x) = final - (final - initial) * (1 - x)**3``: seven steps from 0.7 to 0.9 are 70.0, 78.4,
    84.1, 87.5, 89.3, 89.9 and 90.0 %. Attributes and errors are those of :class:`LinearSchedule`.
    """

    def interpolate(self, x: float) -> float:
        """Sparsity at the share ``x`` in [0, 1] of the way from start to end."""
        return self.final - (self.final - self.initial) * (1.0 - x) ** 3


@dataclass(frozen=True)
class RewindingLearningRate:
    """A learning rate that falls linearly and starts again at every rewind.

    Each cycle, from one rewind (or 0) to the next (or ``end``), goes from ``initial`` down to
    ``final``. With the rewinds at the pruning steps, the model has a high rate to recover
    with whenever weights were removed. The paper's 30 epoch recipe is
    ``RewindingLearningRate(8e-5, 8e-6, rewinds=[2, 6, 10, 14, 18, 22, 26], end=30)``, the 10 epoch
    one ``RewindingLearningRate(8e-5, 3e-5, rewinds=[8], end=10)``.

    Attributes:
        initial: rate at the start of a cycle.
        final: rate a cycle ends at.
        rewinds: when the rate starts again, ascending; a rewind at 0 changes nothing.
        end: end of training.
        unit: "epochs" or "steps", of rewinds, end and warmup.
        warmup: linear rise from 0 at the very start, within the first cycle.

    Raises:
        UsageError: a value is out of range.
    """

    initial: float
    final: float
    rewinds: Sequence[float] = field(default_factory=tuple)
    end: float = 1
    unit: str = "epochs"
    warmup: float = 0

    def __post_init__(self) -> None:
        _check_unit(self.unit)
        if not 0 <= self.final <= self.initial or self.initial == 0:
            raise UsageError(
                f"learning rate goes from {self.initial} to {self.final}",
                hint="use 0 <= final <= initial, and initial above 0",
            )
        points = list(self.rewinds)
        if points != sorted(set(points)) or (points and not (points[0] >= 0 and points[-1] < self.end)):
            raise UsageError(
                f"rewinds at {points} do not rise within 0 and the end of training at {self.end}",
                hint="give each rewind once, in order, before the end",
            )
        first = next((point for point in points if point > 0), self.end)
        if not 0 <= self.warmup <= first:
            raise UsageError(
                f"warmup lasts until {self.warmup}, the first cycle until {first}",
                hint="use a warmup within the first cycle",
            )

    def rate(self, step: int, steps_per_epoch: int) -> float:
        """The learning rate of optimizer step ``step`` (0 is the first)."""
        warmup = _steps(self.warmup, self.unit, steps_per_epoch)
        if step < warmup:
            return self.initial * (step + 1) / warmup
        bounds = [0, *(_steps(point, self.unit, steps_per_epoch) for point in self.rewinds)]
        begin = max(bound for bound in bounds if bound <= step)
        after = [bound for bound in bounds if bound > step]
        stop = min([*after, _steps(self.end, self.unit, steps_per_epoch)])
        if begin == 0:
            begin = warmup
        share = min((step - begin) / max(stop - begin, 1), 1.0)
        return self.initial + (self.final - self.initial) * share

    def scheduler(self, optimizer: Optimizer, steps_per_epoch: int) -> LambdaLR:
        """A scheduler for ``Trainer(optimizers=(optimizer, scheduler))``.

        Args:
            optimizer: its learning rates are multiplied, so create it with ``lr=initial``.
            steps_per_epoch: optimizer steps in one epoch.
        """
        from torch.optim.lr_scheduler import LambdaLR

        return LambdaLR(optimizer, lambda step: self.rate(step, steps_per_epoch) / self.initial)
