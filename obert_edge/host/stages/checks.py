"""What is refused before the first stage of a recipe runs, by a dry run as well: without torch."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from obert_edge.files import check_apart, check_folder
from obert_edge.host.hub.names import hub_name
from obert_edge.host.pruning.settings import Distillation
from obert_edge.host.stages.idle import refuse_idle
from obert_edge.host.stages.lengths import fitted_to
from obert_edge.host.stages.recipe import Recipe
from obert_edge.host.stages.runner import check_folder_is_model, check_settings, with_length
from obert_edge.host.stages.stage import RecipeContext, TaskKind

if TYPE_CHECKING:
    from obert_edge.host.data import Task


def check_places(recipe: Recipe, model: Optional[Path]) -> None:
    """Refuse an output that cannot be written, or lies in the model, and a folder that is no model.

    Args:
        recipe: what is to be done.
        model: the folder of the model it starts from; None: it is not at hand.

    Raises:
        UsageError: the output is a file, or not apart from the model.
        CheckpointError: the model is none.
    """
    check_folder(Path(recipe.output), overwrite=True)
    if model is not None:
        check_apart(Path(recipe.output), model)
        check_folder_is_model(model)


def check_stages(recipe: Recipe, model: Optional[Path], task: Optional[Task], context: RecipeContext) -> None:
    """Refuse what one of the stages would refuse, or would pass over, as far as it can be known.

    Args:
        recipe: what is to be done.
        model: the folder of the model it starts from; None: it is not at hand.
        task: the recipe's task; None: its data are not at hand.
        context: what the stages know of each other.

    Raises:
        ObertEdgeError: as a stage raises it.
    """
    kind = TaskKind.of(task, recipe.task)
    for stage, settings in recipe.stages():
        refuse_idle(stage, settings, kind)
        told = stage.in_recipe(settings, context)
        check_settings(stage, told, task)
        if model is not None:
            with_length(told, model, task)
            _check_teacher(recipe, getattr(settings, "distillation", None))
        stage.check_ahead(told, model, task, context)
        if stage.makes_head and task is not None:
            context = dataclasses.replace(context, head=task.head)
    if recipe.task.max_length is not None and model is not None and task is not None:
        fitted_to(model, task, recipe.task.max_length)


def _check_teacher(recipe: Recipe, taught: Optional[Distillation]) -> None:
    """Refuse a teacher that is not there, unless the recipe itself may make it, or it is on a hub."""
    if taught is None or taught.none or taught.teacher is None or hub_name(taught.teacher) is not None:
        return
    teacher = Path(taught.teacher)
    if Path(recipe.output).absolute() not in teacher.absolute().parents:
        check_folder_is_model(teacher)
