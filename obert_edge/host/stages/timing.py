"""When things happen in training: its steps, what is pruned when, and the learning rate. No torch."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from obert_edge.errors import UsageError
from obert_edge.host.pruning.schedule import CubicSchedule, LinearSchedule, RewindingLearningRate
from obert_edge.host.pruning.settings import Distillation, Pruning
from obert_edge.host.stages.settings import Training

_SCHEDULES = {"cubic": CubicSchedule, "linear": LinearSchedule}


class PruningMoment(NamedTuple):
    """A pruning step as a dry run shows it.

    Attributes:
        step: the optimizer step before which it happens; None: at once, nothing is trained.
        epoch: the same in epochs.
        sparsity: share of weights that are zero after it.
    """

    step: Optional[int]
    epoch: float
    sparsity: float


@dataclass(frozen=True)
class TrainingPlan:
    """The training of a stage as a dry run shows it.

    Attributes:
        rows: training features.
        steps: optimizer steps; 0: nothing is trained.
        steps_per_epoch: how many go once through the rows.
        batch: rows of a step.
        rates: step and learning rate where the rate starts, turns and ends.
        pruning: the pruning steps.
        distillation: the teacher's share; None: no teacher.
        embeds: whether an embedder is trained, which has no labels and no softmax.
        regression: whether labels are numbers, as far as anybody says so: there is no softmax, either.
    """

    steps: int
    rows: int = 0
    steps_per_epoch: int = 0
    batch: int = 0
    rates: Tuple[Tuple[int, float], ...] = ()
    pruning: Tuple[PruningMoment, ...] = ()
    distillation: Optional[Distillation] = None
    embeds: bool = False
    regression: bool = False

    @property
    def taught(self) -> Dict[str, Any]:
        """What counts of the options of learning from a teacher; empty: there is none."""
        if self.distillation is None:
            return {}
        own = (
            ("hardness",)
            if self.regression or not self.distillation.hardness
            else ("hardness", "temperature")
        )
        own = ("similarities",) if self.embeds else own
        return {name: getattr(self.distillation, name) for name in ("teacher", *own, "hidden_states")}

    def to_dict(self) -> Dict[str, Any]:
        """Plain values for JSON; what a stage does not have is left out."""
        result: Dict[str, Any] = {"steps": self.steps}
        if self.steps:
            result.update(rows=self.rows, steps_per_epoch=self.steps_per_epoch, batch=self.batch)
            result["rates"] = list(self.rates)
        if self.pruning:
            result["pruning"] = [moment._asdict() for moment in self.pruning]
        if self.taught:
            result["distillation"] = self.taught
        return result


def steps_per_epoch(training: Training, rows: int) -> int:
    """Optimizer steps that go once through ``rows`` features, shared by the processes of ``torchrun``."""
    per_batch = training.batch_size * int(os.environ.get("WORLD_SIZE", "1"))
    return math.ceil(math.ceil(rows / per_batch) / training.accumulate)


def total_steps(training: Training, rows: int) -> int:
    """Optimizer steps of a run over ``rows`` features."""
    if training.max_steps is not None:
        return training.max_steps
    return max(1, math.ceil(training.epochs * steps_per_epoch(training, rows)))


def refuse_no_steps(what: str, training: Training) -> None:
    """Refuse a training of no steps where it is all that a stage does.

    Raises:
        UsageError: it has none.
    """
    if training.none:
        raise UsageError(f"{what} of 0 steps does nothing", hint="give --epochs or --max-steps above 0")


def make_schedule(pruning: Pruning, steps: int) -> LinearSchedule:
    """When to prune how much.

    Args:
        pruning: at the epochs it names; else evenly over the first ``pruning.until`` of training, the
            first pruning step before it begins.
        steps: optimizer steps of training.

    Raises:
        UsageError: training is shorter than the pruning steps need.
    """
    kind = _SCHEDULES[pruning.schedule]
    first, final = min(pruning.initial_sparsity, pruning.sparsity), pruning.sparsity
    start, end, frequency = pruning.start_epoch, pruning.end_epoch, pruning.frequency
    if start is not None and end is not None and frequency is not None:
        return kind(final if start == end else first, final, start, end, frequency, unit="epochs")
    count = pruning.steps
    spacing = int(pruning.until * steps / count)
    if spacing < 1:
        raise UsageError(
            f"{count} pruning steps do not fit into {pruning.until:.0%} of {steps} training steps",
            hint="train longer, or use fewer pruning steps",
        )
    return kind(final if count == 1 else first, final, 0, (count - 1) * spacing, spacing, unit="steps")


def make_rates(
    training: Training, pruning: Pruning, schedule: LinearSchedule, steps: int, epoch: int
) -> RewindingLearningRate:
    """The rate falls linearly, and starts again at its peak after pruning steps (paper section 4.1).

    Args:
        training: peak, end and warm-up.
        pruning: at which pruning steps, or epochs, it starts again.
        schedule: of the pruning steps.
        steps: optimizer steps of training.
        epoch: optimizer steps of an epoch.
    """
    if pruning.rewind_epochs is not None:
        moments = [round(at * epoch) for at in pruning.rewind_epochs]
    else:
        moments = list(schedule.resolve(epoch)) if pruning.rewind == "each" else []
    rewinds = sorted({moment for moment in moments if 0 < moment < steps})
    return _rates(training, steps, rewinds)


def plain_rates(training: Training, steps: int) -> RewindingLearningRate:
    """One linear decay after the warm-up."""
    return _rates(training, steps, [])


def plan_training(
    training: Training,
    rows: int,
    *,
    distillation: Optional[Distillation] = None,
    pruning: Optional[Pruning] = None,
) -> TrainingPlan:
    """What a stage's training would do.

    Args:
        training: steps and rates.
        rows: training features.
        distillation: the teacher; None: there is none.
        pruning: what is pruned meanwhile; None: nothing.

    Raises:
        UsageError: the pruning steps do not fit into training.
    """
    epoch, steps = steps_per_epoch(training, rows), total_steps(training, rows)
    rates = plain_rates(training, steps)
    moments: Dict[int, float] = {}
    if pruning is not None:
        schedule = make_schedule(pruning, steps)
        moments = schedule.resolve(epoch)
        if max(moments) >= steps:
            raise UsageError(
                f"the last pruning step is before optimizer step {max(moments)}, training has {steps}",
                hint="end the schedule before the end of training, so that the model can recover",
            )
        rates = make_rates(training, pruning, schedule, steps, epoch)
    return TrainingPlan(
        steps,
        rows,
        epoch,
        batch=training.batch_size * training.accumulate,
        rates=tuple(_turns(rates, steps)),
        pruning=tuple(PruningMoment(step, round(step / epoch, 4), share) for step, share in moments.items()),
        distillation=None if distillation is None or distillation.none else distillation,
    )


def _rates(training: Training, steps: int, rewinds: List[int]) -> RewindingLearningRate:
    """The rates of a run, in optimizer steps; the warm-up ends before the first rewind."""
    return RewindingLearningRate(
        training.learning_rate,
        training.final_learning_rate,
        rewinds=rewinds,
        end=steps,
        unit="steps",
        warmup=min(round(training.warmup * steps), rewinds[0] if rewinds else steps),
    )


def _turns(rates: RewindingLearningRate, steps: int) -> List[Tuple[int, float]]:
    """Step and rate where the rate starts, turns and ends."""
    last = steps - 1
    points = {0, min(int(rates.warmup), last), last}
    for moment in map(int, rates.rewinds):
        points |= {max(moment - 1, 0), moment}
    return [(step, rates.rate(step, 1)) for step in sorted(points)]
