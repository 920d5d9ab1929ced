"""When things happen in a stage: its steps, what is pruned when, and the learning rate. No torch."""

from __future__ import annotations

import math
import os

from obert_edge.errors import UsageError
from obert_edge.host.pruning.schedule import CubicSchedule, LinearSchedule, RewindingLearningRate
from obert_edge.host.stages.settings import Pruning, Training

SCHEDULES = {"cubic": CubicSchedule, "linear": LinearSchedule}


def steps_per_epoch(options: Training, rows: int) -> int:
    """Optimizer steps that go once through ``rows`` features, shared by the processes of ``torchrun``."""
    per_batch = options.batch_size * int(os.environ.get("WORLD_SIZE", "1"))
    return math.ceil(math.ceil(rows / per_batch) / options.accumulate)


def total_steps(options: Training, rows: int) -> int:
    """Optimizer steps of a run over ``rows`` features."""
    if options.max_steps is not None:
        return options.max_steps
    return max(1, math.ceil(options.epochs * steps_per_epoch(options, rows)))


def make_schedule(plan: Pruning, steps: int) -> LinearSchedule:
    """When to prune how much.

    Args:
        plan: at the epochs it names; else evenly over the first ``plan.until`` of training, the
            first step before it begins.
        steps: optimizer steps of training.

    Raises:
        UsageError: training is shorter than the pruning steps need.
    """
    kind = SCHEDULES[plan.schedule]
    first = min(plan.initial_sparsity, plan.sparsity)
    if plan.start_epoch is not None and plan.end_epoch is not None and plan.frequency is not None:
        if plan.start_epoch == plan.end_epoch:
            first = plan.sparsity
        return kind(first, plan.sparsity, plan.start_epoch, plan.end_epoch, plan.frequency, unit="epochs")
    count = plan.steps
    spacing = int(plan.until * steps / count)
    if spacing < 1:
        raise UsageError(
            f"{count} pruning steps do not fit into {plan.until:.0%} of {steps} training steps",
            hint="train longer, or use fewer pruning steps",
        )
    if count == 1:
        first = plan.sparsity
    return kind(first, plan.sparsity, 0, (count - 1) * spacing, spacing, unit="steps")


def make_rates(
    options: Training, plan: Pruning, schedule: LinearSchedule, steps: int, epoch: int
) -> RewindingLearningRate:
    """The rate falls linearly, and starts again at its peak after pruning steps (paper section 4.1).

    Args:
        options: peak, end and warm-up.
        plan: at which pruning steps, or epochs, it starts again.
        schedule: of the pruning.
        steps: optimizer steps of training.
        epoch: optimizer steps of an epoch.
    """
    if plan.rewind_epochs is not None:
        moments = [round(at * epoch) for at in plan.rewind_epochs]
    else:
        moments = list(schedule.resolve(epoch)) if plan.rewind == "each" else []
    rewinds = sorted({moment for moment in moments if 0 < moment < steps})
    warmup = min(round(options.warmup * steps), rewinds[0] if rewinds else steps)
    return RewindingLearningRate(
        options.learning_rate,
        options.final_learning_rate,
        rewinds=rewinds,
        end=steps,
        unit="steps",
        warmup=warmup,
    )


def plain_rates(options: Training, steps: int) -> RewindingLearningRate:
    """One linear decay after the warm-up."""
    return RewindingLearningRate(
        options.learning_rate,
        options.final_learning_rate,
        end=steps,
        unit="steps",
        warmup=min(round(options.warmup * steps), steps),
    )
