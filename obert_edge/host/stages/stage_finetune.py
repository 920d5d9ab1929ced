"""A pretrained encoder becomes a model of a task, by labels or by a teacher, dense."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional, Union

from obert_edge.errors import UsageError
from obert_edge.host.options import part
from obert_edge.host.pruning.settings import Distillation
from obert_edge.host.stages.reports import StageReport, TrainingFigures
from obert_edge.host.stages.settings import Training
from obert_edge.host.stages.stage import PlannedStage, RecipeContext, Stage, StageRun
from obert_edge.host.stages.tasks import takes_task
from obert_edge.host.stages.timing import plan_training, refuse_no_steps

if TYPE_CHECKING:
    from obert_edge.host.data import Task


@dataclass(frozen=True)
class FinetuneSettings(Training):
    """What :class:`Training` says, with what is learned from a teacher."""

    distillation: Optional[Distillation] = part(
        None, help="A teacher, which must be named; absent: labels alone."
    )


def _taught(settings: Training) -> Optional[Distillation]:
    """The teacher of settings that may say nothing of one."""
    return settings.distillation if isinstance(settings, FinetuneSettings) else None


class Finetune(Stage[FinetuneSettings]):
    """Fine-tune the pretrained checkpoint MODEL on a task.

    It learns from the labels alone unless a teacher is named, as it must be for task embedding.
    """

    name = "finetune"
    verb = "finetune"
    makes_head = True
    settings = FinetuneSettings

    def check(self, settings: Training, task: Optional[Task]) -> None:
        """It must train, and not learn from itself."""
        refuse_no_steps("fine-tuning", settings)
        taught = _taught(settings)
        if taught is not None and not taught.none and taught.teacher is None:
            raise UsageError(
                "fine-tuning was told how to learn from a teacher, and no teacher is named",
                hint="name one with --teacher (in a recipe `distillation: {teacher: ...}`)",
            )

    def tell_others(self, context: RecipeContext, output: Path) -> RecipeContext:
        """This is the dense model that teaches later stages."""
        return dataclasses.replace(context, dense=str(output))

    def plan(self, settings: Training, rows: Callable[[Training], int]) -> PlannedStage:
        """See :meth:`Stage.plan`."""
        return PlannedStage(
            self.name, {}, plan_training(settings, rows(settings), distillation=_taught(settings))
        )

    def recorded(self, settings: Training) -> Dict[str, Any]:
        """See :meth:`Stage.recorded`."""
        taught = _taught(settings)
        return {
            "training": dataclasses.asdict(settings.narrow(Training)),
            **({} if taught is None else {"distillation": dataclasses.asdict(taught)}),
        }

    def apply(self, run: StageRun, settings: Training) -> TrainingFigures:
        """See :meth:`Stage.apply`."""
        features = run.features(settings)
        network = run.load_network(settings, new_head=self.makes_head)
        figures = run.train(network, features, settings.narrow(Training), distillation=_taught(settings))
        run.save(network)
        return figures


@takes_task
def finetune(
    model: Union[str, Path],
    task: Task,
    output: Union[str, Path],
    *,
    training: Optional[Training] = None,
    distillation: Optional[Distillation] = None,
    limit: Optional[int] = None,
    progress: bool = True,
    overwrite: bool = False,
) -> StageReport:
    """Fine-tune a checkpoint on a task's train split.

    Args:
        model: folder of the pretrained checkpoint.
        task: from :func:`obert_edge.host.data.load_task`.
        output: folder to write; appears only when everything is in it.
        training: steps and rates.
        distillation: a teacher to learn from; default: labels only.
        limit: use only the first rows of train.
        progress: show a progress bar on stderr.
        overwrite: replace an existing output.

    Returns:
        What ``stage.json`` of the output holds: the stage, its options and its figures.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        DataError: the data cannot be used.
        UsageError: the output exists.
    """
    from obert_edge.host.stages.runner import run_stage

    told = dict(vars((training or Training()).narrow(Training)))
    settings = FinetuneSettings(**told, distillation=distillation)
    return run_stage(
        Finetune(), model, task, output, settings, limit=limit, progress=progress, overwrite=overwrite
    )
