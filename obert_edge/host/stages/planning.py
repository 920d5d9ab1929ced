"""What a recipe would do, step by step, without doing it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, List

from obert_edge.errors import ObertEdgeError, UsageError
from obert_edge.host.data.embedding import Embeddings
from obert_edge.host.stages.recipe import Recipe
from obert_edge.host.stages.settings import Training
from obert_edge.host.stages.stage import PlannedStage
from obert_edge.host.stages.timing import PruningMoment


@dataclass(frozen=True)
class Plan:
    """The stages of a recipe.

    Attributes:
        model: the checkpoint the recipe starts from.
        task: name of the task.
        data: where its data are.
        stages: what each would do, in their order.
    """

    model: str
    task: str
    data: str
    stages: List[PlannedStage]

    def to_dict(self) -> Dict[str, Any]:
        """Plain values for JSON."""
        stages = [stage.to_dict() for stage in self.stages]
        return {"model": self.model, "task": self.task, "data": self.data, "stages": stages}


def plan(recipe: Recipe) -> Plan:
    """The stages of a recipe with their steps, sparsities and learning rates.

    Training rows are counted in the data where they are at hand, else ``task.rows`` says how many.

    Args:
        recipe: from :meth:`Recipe.load`.

    Raises:
        UsageError: the pruning steps do not fit into training, or the rows are not known.
    """
    output = Path(recipe.output)
    context = recipe.context()
    stages: List[PlannedStage] = []
    for number, (stage, settings) in enumerate(recipe.stages(), start=1):
        planned = stage.plan(stage.in_recipe(settings, context), lambda training: _rows(recipe, training))
        training = planned.training
        if training is not None:
            training = replace(training, embeds=recipe.task.name == Embeddings.name)
        place = str(output / stage.output_name(number))
        stages.append(replace(planned, training=training, output=place))
    return Plan(recipe.model, recipe.task.name, recipe.task.data, stages)


def describe(found: Plan) -> str:
    """A plan as text, a line per stage, pruning step and turn of the rate."""
    lines = [f"{found.model} on {found.task} ({found.data})"]
    for stage in found.stages:
        about = ", ".join(f"{key} {value}" for key, value in stage.about.items() if value is not None)
        lines.append(f"{stage.stage} -> {stage.output}" + (f"  ({about})" if about else ""))
        training = stage.training
        if training is None:
            continue
        if training.steps:
            lines.append(
                f"  {training.steps} steps of {training.batch} ({training.steps_per_epoch} per epoch of "
                f"{training.rows} rows)"
            )
        lines += [f"  prune {_when(moment)} to {100 * moment.sparsity:.2f} %" for moment in training.pruning]
        if training.rates:
            turns = ", ".join(f"{rate:.2e} at {step}" for step, rate in training.rates)
            lines.append(f"  learning rate {turns}")
        if training.taught:
            told = dict(training.taught)
            teacher, hidden = told.pop("teacher") or "the dense model", told.pop("hidden_states")
            if hidden:
                told["hidden states"] = hidden
            lines.append(
                f"  teacher {teacher}: " + ", ".join(f"{key} {value:g}" for key, value in told.items())
            )
    return "\n".join(lines)


def _when(moment: PruningMoment) -> str:
    return "at once" if moment.step is None else f"step {moment.step:>7} (epoch {moment.epoch:g})"


def _rows(recipe: Recipe, training: Training) -> int:
    """Training features: counted where model and data are at hand, else what the recipe says."""
    from obert_edge.host.data import load_tokenizer
    from obert_edge.host.stages.lengths import fitted_to

    try:
        task = recipe.load_task()
        tokenizer = load_tokenizer(Path(recipe.model))
        task = fitted_to(Path(recipe.model), task, training.max_length)
        return len(task.features("train", tokenizer, max_length=training.max_length))
    except ObertEdgeError as error:
        if recipe.task.rows is None:
            raise UsageError(
                f"the training rows cannot be counted: {error.message}",
                hint="put the data where the recipe says, or give their number as `rows` below task",
            ) from error
        return recipe.task.rows
