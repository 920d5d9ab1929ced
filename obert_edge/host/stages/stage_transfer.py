"""An encoder that was pruned upstream becomes a model of a task, its zeros fixed (paper section 4.2)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional, Union

from obert_edge.errors import UsageError
from obert_edge.host.options import Settings, part
from obert_edge.host.pruning.settings import Distillation
from obert_edge.host.stages.reports import Figures, StageReport, TrainingFigures
from obert_edge.host.stages.settings import Training
from obert_edge.host.stages.stage import PlannedStage, RecipeContext, Stage, StageRun
from obert_edge.host.stages.tasks import takes_task
from obert_edge.host.stages.timing import TrainingPlan, plan_training, refuse_no_steps

if TYPE_CHECKING:
    from obert_edge.host.data import Task


def labels_only() -> Distillation:
    """No teacher: what sparse transfer does unless one is named."""
    return Distillation(hardness=0.0)


@dataclass(frozen=True)
class TransferSettings(Settings):
    """What sparse transfer can be told."""

    training: Training = part(Training, help="Steps and rates.")
    distillation: Distillation = part(
        labels_only, help="A teacher that is fine-tuned on the task; by default there is none (hardness 0)."
    )


@dataclass(frozen=True)
class TransferFigures(Figures):
    """What a transfer came to; ``sparsity`` is the share of the encoder's linear weights that are zero."""

    training: TrainingFigures
    sparsity: float


class Transfer(Stage[TransferSettings]):
    """Fine-tune the sparse MODEL on a task; what is pruned stays pruned.

    It learns from the labels alone unless a teacher is named.
    """

    name = "transfer"
    verb = "transfer"
    makes_head = True
    settings = TransferSettings

    def check(self, settings: TransferSettings, task: Optional[Task]) -> None:
        """It must train, and keep what is pruned."""
        refuse_no_steps("sparse transfer", settings.training)
        if settings.training.dense:
            raise UsageError(
                "sparse transfer keeps zeros, and dense gives them up",
                hint="use `obert-edge finetune --dense`, or leave --dense out",
            )

    def in_recipe(self, settings: TransferSettings, context: RecipeContext) -> TransferSettings:
        """The recipe's own dense model is the teacher, unless another is named."""
        return dataclasses.replace(settings, distillation=settings.distillation.with_teacher(context.dense))

    def plan(self, settings: TransferSettings, rows: Callable[[Training], int]) -> PlannedStage:
        """See :meth:`Stage.plan`."""
        training = settings.training
        if training.none:
            return PlannedStage(self.name, {}, TrainingPlan(0))
        planned = plan_training(training, rows(training), distillation=settings.distillation)
        return PlannedStage(self.name, {}, planned)

    def recorded(self, settings: TransferSettings) -> Dict[str, Any]:
        """See :meth:`Stage.recorded`."""
        return dataclasses.asdict(settings)

    def apply(self, run: StageRun, settings: TransferSettings) -> TransferFigures:
        """See :meth:`Stage.apply`."""
        from obert_edge.host.pruning import Masks
        from obert_edge.host.stages.sparsity import keep_zeros

        features = run.features(settings.training)
        network = run.load_network(settings.training, new_head=self.makes_head)
        zeros = Masks.from_weights(network).sparsity
        training = run.train(
            network,
            features,
            settings.training,
            distillation=settings.distillation,
            callbacks=[keep_zeros()],
        )
        run.save(network)
        return TransferFigures(training, zeros)


@takes_task
def transfer(
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
    """Fine-tune a sparse checkpoint with its zeros fixed (sparse transfer, paper section 4.2).

    Args:
        model: folder of a checkpoint that was pruned upstream.
        task: from :func:`obert_edge.host.data.load_task`.
        output: folder to write; appears only when everything is in it.
        training: steps and rates.
        distillation: a teacher fine-tuned on the task; default: labels only.
        limit: use only the first rows of train.
        progress: show a progress bar on stderr.
        overwrite: replace an existing output.

    Returns:
        What ``stage.json`` of the output holds.

    Raises:
        CheckpointError: a checkpoint cannot be used.
        DataError: the data cannot be used.
        UsageError: the output exists.
    """
    from obert_edge.host.stages.runner import run_stage

    settings = TransferSettings(training or Training(), distillation or labels_only())
    return run_stage(
        Transfer(), model, task, output, settings, limit=limit, progress=progress, overwrite=overwrite
    )
