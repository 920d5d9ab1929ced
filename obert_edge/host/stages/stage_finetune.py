"""A pretrained encoder becomes a model of a task, dense."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional, Union

from obert_edge.host.stages.reports import StageReport, TrainingFigures
from obert_edge.host.stages.settings import Training
from obert_edge.host.stages.stage import PlannedStage, RecipeContext, Stage, StageRun
from obert_edge.host.stages.timing import plan_training, refuse_no_steps

if TYPE_CHECKING:
    from obert_edge.host.data import Task


class Finetune(Stage[Training]):
    """Fine-tune the pretrained checkpoint MODEL on a task."""

    name = "finetune"
    verb = "finetune"
    makes_head = True
    settings = Training

    def check(self, settings: Training, task: Optional[Task]) -> None:
        """It must train."""
        refuse_no_steps("fine-tuning", settings)

    def tell_others(self, context: RecipeContext, output: Path) -> RecipeContext:
        """This is the dense model that teaches later stages."""
        return dataclasses.replace(context, dense=str(output))

    def plan(self, settings: Training, rows: Callable[[Training], int]) -> PlannedStage:
        """See :meth:`Stage.plan`."""
        return PlannedStage(self.name, {}, plan_training(settings, rows(settings)))

    def recorded(self, settings: Training) -> Dict[str, Any]:
        """See :meth:`Stage.recorded`."""
        return {"training": dataclasses.asdict(settings)}

    def apply(self, run: StageRun, settings: Training) -> TrainingFigures:
        """See :meth:`Stage.apply`."""
        features = run.features(settings)
        network = run.load_network(settings, new_head=self.makes_head)
        figures = run.train(network, features, settings)
        run.save(network)
        return figures


def finetune(
    model: Union[str, Path],
    task: Task,
    output: Union[str, Path],
    *,
    training: Optional[Training] = None,
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

    settings = training or Training()
    return run_stage(
        Finetune(), model, task, output, settings, limit=limit, progress=progress, overwrite=overwrite
    )
