"""What a recipe would do, step by step, without doing it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple

from obert_edge.errors import ObertEdgeError, UsageError
from obert_edge.host.hub.names import hub_name
from obert_edge.host.stages.checks import check_places, check_stages
from obert_edge.host.stages.claim import check_claim
from obert_edge.host.stages.recipe import Recipe
from obert_edge.host.stages.runner import check_folder_is_model
from obert_edge.host.stages.settings import Training
from obert_edge.host.stages.stage import PlannedStage, TaskKind
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
        ObertEdgeError: what a run refuses before its first stage; that model or data are not there only where
            ``task.rows`` does not say that they need not be.
    """
    output = Path(recipe.output)
    context = recipe.context()
    recipe.task.check_task()
    if recipe.task.rows is None and hub_name(recipe.model) is None:
        check_folder_is_model(Path(recipe.model))
    task, missing = _check(recipe)
    kind = TaskKind.of(task, recipe.task)
    rows = _RowCount(recipe, task, missing)
    stages: List[PlannedStage] = []
    for number, (stage, settings) in enumerate(recipe.stages(), start=1):
        planned = stage.plan(stage.in_recipe(settings, context), rows.of)
        training = planned.training
        if training is not None:
            training = replace(training, **kind._asdict())
        place = str(output / stage.output_name(number))
        stages.append(replace(planned, training=training, output=place))
    if missing is not None and recipe.task.rows is None:
        raise missing
    return Plan(recipe.model, recipe.task.name, recipe.task.data, stages, _refusal(output, recipe))


def _check(recipe: Recipe) -> Tuple[Optional[Task], Optional[ObertEdgeError]]:
    """Refuse what a run would refuse; the task as the model takes it, or why its data are not at hand."""
    from obert_edge.host.stages.lengths import fitted_to_recipe

    model = Path(recipe.model) if Path(recipe.model).exists() else None
    check_places(recipe, model)
    task, missing = None, None
    try:
        task = recipe.load_task()
    except ObertEdgeError as error:
        missing = error
    if task is not None and model is not None:
        task = fitted_to_recipe(model, task, recipe.with_default_length())
    check_stages(recipe, model, task, recipe.context())
    return task, missing


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

    def __init__(self, recipe: Recipe, task: Optional[Task], missing: Optional[ObertEdgeError]) -> None:
        self._recipe, self._task, self._missing = recipe, task, missing
        self._tokenizer: Optional[Tokenizer] = None

    def of(self, training: Training) -> int:
        """How many features a stage would train on."""
        from obert_edge.host.stages.lengths import fitted_to

        told = self._recipe.task.rows
        try:
            task, tokenizer = self._loaded()
            task = fitted_to(Path(self._recipe.model), task, training.max_length)
            return len(task.features("train", tokenizer, max_length=training.max_length))
        except ObertEdgeError:
            if told is None:
                raise
            return told

    def _loaded(self) -> Tuple[Task, Tokenizer]:
        from obert_edge.host.data import load_tokenizer

        recipe = self._recipe
        if hub_name(recipe.model) is not None:
            raise UsageError(
                f"the training rows cannot be counted: {recipe.model} is on a hub, and a dry run downloads "
                "nothing",
                hint="give their number as `rows` below task, or name a folder as the model",
            )
        if self._tokenizer is None:
            self._tokenizer = load_tokenizer(Path(recipe.model))
        if self._task is None:
            assert self._missing is not None  # what there is instead
            raise UsageError(
                f"the training rows cannot be counted: {self._missing.message}",
                hint="put the data where the recipe says, or give their number as `rows` below task",
            ) from self._missing
        return self._task, self._tokenizer
