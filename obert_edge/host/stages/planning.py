"""What a recipe would do, step by step, without doing it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple

from obert_edge.errors import ObertEdgeError, UsageError
from obert_edge.host.data.embedding import Embeddings
from obert_edge.host.hub.names import hub_name
from obert_edge.host.stages.claim import check_claim
from obert_edge.host.stages.recipe import Recipe
from obert_edge.host.stages.runner import check_folder_is_model
from obert_edge.host.stages.settings import Training
from obert_edge.host.stages.stage import PlannedStage
from obert_edge.host.stages.timing import PruningMoment

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from obert_edge.host.data import Task


@dataclass(frozen=True)
class Plan:
    """The stages of a recipe.

    Attributes:
        model: the checkpoint the recipe starts from.
        task: name of the task.
        data: where its data are.
        stages: what each would do, in their order.
        refused: why they would not run: the output is another recipe's; None: it is not.
    """

    model: str
    task: str
    data: str
    stages: List[PlannedStage]
    refused: Optional[UsageError] = None

    def to_dict(self) -> Dict[str, Any]:
        """Plain values for JSON."""
        stages = [stage.to_dict() for stage in self.stages]
        found = {"model": self.model, "task": self.task, "data": self.data, "stages": stages}
        if self.refused is None:
            return found
        return {**found, "refused": {"message": self.refused.message, "fix": self.refused.hint}}


def plan(recipe: Recipe) -> Plan:
    """The stages of a recipe with their steps, sparsities and learning rates.

    Training rows are counted in the data where they are at hand, else ``task.rows`` says how many.

    Args:
        recipe: from :meth:`Recipe.load`.

    Raises:
        UsageError: the pruning steps do not fit into training, or the rows are not known.
        CheckpointError: the model is none; not where ``task.rows`` is given.
    """
    output = Path(recipe.output)
    context = recipe.context()
    if recipe.task.rows is None and hub_name(recipe.model) is None:
        check_folder_is_model(Path(recipe.model))
    rows = _RowCount(recipe)
    stages: List[PlannedStage] = []
    for number, (stage, settings) in enumerate(recipe.stages(), start=1):
        planned = stage.plan(stage.in_recipe(settings, context), rows.of)
        training = planned.training
        if training is not None:
            training = replace(training, embeds=recipe.task.name == Embeddings.name)
        place = str(output / stage.output_name(number))
        stages.append(replace(planned, training=training, output=place))
    return Plan(recipe.model, recipe.task.name, recipe.task.data, stages, _refusal(output, recipe))


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
    if found.refused is not None:
        lines.append(f"it would not run: {found.refused}")
    return "\n".join(lines)


def _when(moment: PruningMoment) -> str:
    return "at once" if moment.step is None else f"step {moment.step:>7} (epoch {moment.epoch:g})"


def _refusal(output: Path, recipe: Recipe) -> Optional[UsageError]:
    """Why the stages would not run in an output folder."""
    try:
        check_claim(output, recipe)
    except UsageError as error:
        return error
    return None


class _RowCount:
    """Training features: counted where model and data are at hand, else what the recipe says."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._loaded: Optional[Tuple[Task, Tokenizer]] = None

    def of(self, training: Training) -> int:
        """How many features a stage would train on."""
        from obert_edge.host.stages.lengths import fitted_to

        told = self._recipe.task.rows
        try:
            if self._loaded is None:
                self._loaded = self._load()
            task, tokenizer = self._loaded
            task = fitted_to(Path(self._recipe.model), task, training.max_length)
            return len(task.features("train", tokenizer, max_length=training.max_length))
        except ObertEdgeError:
            if told is None:
                raise
            return told

    def _load(self) -> Tuple[Task, Tokenizer]:
        from obert_edge.host.data import load_tokenizer
        from obert_edge.host.stages.lengths import fitted_to_recipe

        recipe = self._recipe
        if hub_name(recipe.model) is not None:
            raise UsageError(
                f"the training rows cannot be counted: {recipe.model} is on a hub, and a dry run downloads "
                "nothing",
                hint="give their number as `rows` below task, or name a folder as the model",
            )
        tokenizer = load_tokenizer(Path(recipe.model))
        try:
            task = recipe.load_task()
        except ObertEdgeError as error:
            raise UsageError(
                f"the training rows cannot be counted: {error.message}",
                hint="put the data where the recipe says, or give their number as `rows` below task",
            ) from error
        return fitted_to_recipe(Path(recipe.model), task, recipe.with_default_length()), tokenizer
