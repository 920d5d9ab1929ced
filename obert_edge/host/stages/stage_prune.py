"""The encoder's weights become zeros, at once or gradually with distillation."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, List, Optional, Tuple, Union

from obert_edge.errors import UsageError
from obert_edge.files import atomic_file
from obert_edge.host.data.base import ENCODER
from obert_edge.host.options import part
from obert_edge.host.pruning.criteria import CRITERIA, options_of
from obert_edge.host.pruning.patterns import Pattern
from obert_edge.host.pruning.settings import Distillation, Pruning
from obert_edge.host.stages.reports import Figures, StageReport, TrainingFigures
from obert_edge.host.stages.settings import Training
from obert_edge.host.stages.stage import PlannedStage, RecipeContext, Stage, StageRun
from obert_edge.host.stages.tasks import takes_task
from obert_edge.host.stages.timing import (
    PruningMoment,
    TrainingPlan,
    make_rates,
    make_schedule,
    plan_training,
    steps_per_epoch,
    total_steps,
)
from obert_edge.progress import shown

if TYPE_CHECKING:
    from torch import Tensor, nn

    from obert_edge.host.data import Feature, Task
    from obert_edge.host.pruning import Criterion
    from obert_edge.host.pruning.criterion import LossFunction

#: What the channel permutation kept, for the report of a run that goes on after it.
_PERMUTATION = "channel_permutation.json"


@dataclass(frozen=True)
class PruneSettings(Pruning):
    """What :class:`Pruning` says, with how to train meanwhile."""

    training: Training = part(Training, help="How to train while pruning; 0 epochs: prune in one shot.")
    distillation: Distillation = part(Distillation, help="The teacher; by default the dense model.")

    @property
    def pruning(self) -> Pruning:
        """The part that is about pruning."""
        return self.narrow(Pruning)


@dataclass(frozen=True)
class PruneFigures(Figures):
    """What pruning came to.

    Attributes:
        sparsity: share of the encoder's linear weights that are zero.
        pruning_steps: the report of each pruning step as plain values.
        channel_permutation: shares of the saliency kept ``before`` and ``after``; None: none was made.
        training: the training meanwhile; None: pruned in one shot.
    """

    sparsity: float
    pruning_steps: List[Dict[str, Any]]
    channel_permutation: Optional[Dict[str, float]] = None
    training: Optional[TrainingFigures] = None


class Prune(Stage[PruneSettings]):
    """Prune the fine-tuned MODEL; with --epochs 0 in one shot."""

    name = "prune"
    verb = "prune"
    settings = PruneSettings

    def needs_labels(self, settings: PruneSettings) -> bool:
        """Some methods look at weights or inputs alone, and gradients may be those of the outputs."""
        labels = CRITERIA[settings.method].needs_labels and settings.gradients_of != "outputs"
        return not settings.training.none or labels

    def check(self, settings: PruneSettings, task: Optional[Task]) -> None:
        """The pattern must be one, and gradients those of something there is."""
        Pattern.parse(settings.pattern)
        if settings.gradients_of == "labels" and task is not None and task.head == ENCODER:
            raise UsageError(
                f"gradients_of is labels, and task {task.name!r} has none",
                hint="use outputs, or leave it out",
            )
        if settings.gradients_of == "outputs" and settings.method != "obert":
            raise UsageError(
                f"gradients_of is outputs, which method {settings.method} takes no gradients of",
                hint="use --method obert, or leave --gradients-of out",
            )

    def needed_packages(self, settings: PruneSettings) -> Tuple[str, ...]:
        """Permuting channels solves assignments with scipy."""
        needed = super().needed_packages(settings)
        return (*needed, "scipy") if settings.channel_permutation else needed

    def in_recipe(self, settings: PruneSettings, context: RecipeContext) -> PruneSettings:
        """The recipe's own dense model is the teacher, unless another is named."""
        return dataclasses.replace(
            settings, distillation=settings.distillation.with_teacher(context.dense or context.start)
        )

    def plan(self, settings: PruneSettings, rows: Callable[[Training], int]) -> PlannedStage:
        """See :meth:`Stage.plan`."""
        training = settings.training
        about = {"method": settings.method, "pattern": settings.pattern, "sparsity": settings.sparsity}
        if training.none:
            at_once = TrainingPlan(0, pruning=(PruningMoment(None, 0.0, settings.sparsity),))
            return PlannedStage(self.name, about, at_once)
        planned = plan_training(
            training, rows(training), distillation=settings.distillation, pruning=settings
        )
        return PlannedStage(self.name, about, planned)

    def recorded(self, settings: PruneSettings) -> Dict[str, Any]:
        """See :meth:`Stage.recorded`."""
        taught = None if settings.training.none else dataclasses.asdict(settings.distillation)
        return {
            "training": dataclasses.asdict(settings.training),
            "pruning": dataclasses.asdict(settings.pruning),
            "distillation": taught,
        }

    def apply(self, run: StageRun, settings: PruneSettings) -> PruneFigures:
        """See :meth:`Stage.apply`."""
        from obert_edge.host.pruning import Masks, make_criterion
        from obert_edge.host.stages.sparsity import check_removed, check_target

        training = settings.training
        criterion = make_criterion(settings.method, **options_of(settings.method, settings))
        network = run.load_network(training)
        if not training.dense:
            pattern = Pattern.parse(settings.pattern)
            check_target(network, str(run.source), pattern, settings.sparsity, at_once=training.none)
        features = run.features(training)
        permutation = _permute(run, settings, criterion, network, features)
        before = Masks.from_weights(network)
        prune_now = _prune_at_once if training.none else _prune_gradually
        figures = prune_now(run, settings, criterion, network, features)
        after = Masks.from_weights(network)
        if training.none:
            check_removed(str(run.source), settings.sparsity, before.sparsity, after.sparsity)
        run.save(network)
        return dataclasses.replace(figures, sparsity=after.sparsity, channel_permutation=permutation)


@takes_task
def prune(
    model: Union[str, Path],
    task: Task,
    output: Union[str, Path],
    *,
    sparsity: Optional[float] = None,
    pattern: Optional[str] = None,
    method: Optional[str] = None,
    pruning: Optional[Pruning] = None,
    training: Optional[Training] = None,
    distillation: Optional[Distillation] = None,
    limit: Optional[int] = None,
    progress: bool = True,
    overwrite: bool = False,
) -> StageReport:
    """Prune a fine-tuned model folder.

    With ``training.epochs`` (or ``max_steps``) at 0 the weights go in one pruning step and nothing is
    trained. Otherwise they go on the schedule of ``pruning``, the learning rate rewinds as it says,
    and the model learns from the teacher.

    Args:
        model: folder of the dense model, fine-tuned on the task.
        task: from :func:`obert_edge.host.data.load_task`.
        output: folder to write; appears only when everything is in it.
        sparsity: short for ``pruning.sparsity``; so are ``pattern`` and ``method``.
        pattern: see ``sparsity``.
        method: see ``sparsity``.
        pruning: what is pruned, how and when.
        training: steps and rates.
        distillation: the teacher; default: ``model`` itself, hardness 1.
        limit: use only the first rows of train.
        progress: show progress on stderr.
        overwrite: replace an existing output.

    Returns:
        What ``stage.json`` of the output holds.

    Raises:
        UsageError: a value is out of range, or the output exists.
        CheckpointError: the model cannot be used.
        DataError: the data cannot be used.
    """
    from obert_edge.host.stages.runner import run_stage

    short = {"sparsity": sparsity, "pattern": pattern, "method": method}
    told: Dict[str, Any] = dict(vars((pruning or Pruning()).narrow(Pruning)))
    told.update({key: value for key, value in short.items() if value is not None})
    settings = PruneSettings(
        **told, training=training or Training(), distillation=distillation or Distillation()
    )
    return run_stage(
        Prune(), model, task, output, settings, limit=limit, progress=progress, overwrite=overwrite
    )


def _permute(
    run: StageRun, settings: PruneSettings, criterion: Criterion, network: nn.Module, features: List[Feature]
) -> Optional[Dict[str, float]]:
    """Permute output channels before anything is pruned, when asked to; what that keeps.

    A run that goes on from a checkpoint has the permuted weights in it, and the shares in its work folder.
    """
    from obert_edge.host.pruning import Surgeon, permute_channels
    from obert_edge.host.stages.folders import CHECKPOINTS
    from obert_edge.host.stages.resume import last_complete_checkpoint
    from obert_edge.host.stages.training import flushed_denormals

    if not settings.channel_permutation or not isinstance(criterion, Surgeon):
        return None
    record = run.work / _PERMUTATION
    if last_complete_checkpoint(run.work / CHECKPOINTS) is None:
        # Training flushes denormals, too: a run that goes on from there must find the same groups.
        with flushed_denormals(), shown(run.progress) as progress:
            permuted = permute_channels(
                network,
                _gradient_batches(run, settings, features),
                pattern=Pattern.parse(settings.pattern),
                sparsity=settings.sparsity,
                surgeon=criterion,
                loss_fn=_loss(run, settings),
                progress=progress,
            )
        with atomic_file(record) as path:
            path.write_text(json.dumps(dataclasses.asdict(permuted) if permuted else None))
    kept: Optional[Dict[str, float]] = json.loads(record.read_text("utf-8"))
    return kept


def _prune_at_once(
    run: StageRun, settings: PruneSettings, criterion: Criterion, network: nn.Module, features: List[Feature]
) -> PruneFigures:
    """One pruning step, without training."""
    from obert_edge.host.pruning import Masks, prune_one_shot
    from obert_edge.host.stages.batching import inputs_alone

    batches = _gradient_batches(run, settings, features)
    with shown(run.progress) as progress:
        report = prune_one_shot(
            network,
            batches if CRITERIA[settings.method].needs_labels else inputs_alone(network, batches),
            masks=Masks.all_kept(network) if settings.training.dense else None,
            sparsity=settings.sparsity,
            pattern=settings.pattern,
            criterion=criterion,
            scope=settings.scope,
            gradients=settings.gradients,
            loss_fn=_loss(run, settings),
            progress=progress,
        )
    return PruneFigures(report.sparsity, [report.to_dict()])


def _prune_gradually(
    run: StageRun, settings: PruneSettings, criterion: Criterion, network: nn.Module, features: List[Feature]
) -> PruneFigures:
    """Pruning steps on a schedule while the model is trained."""
    from obert_edge.host.pruning import PruningCallback

    training = settings.training
    steps, epoch = total_steps(training, len(features)), steps_per_epoch(training, len(features))
    schedule = make_schedule(settings, steps)
    callback = PruningCallback(
        schedule,
        criterion=criterion,
        pattern=settings.pattern,
        scope=settings.scope,
        gradients=settings.gradients,
        gradient_batch_size=settings.gradient_batch_size,
        loss_fn=_loss(run, settings),
        seed=training.seed,
        keep_zeros=not training.dense,
        progress=run.bar.within_step if run.bar else None,
    )
    if run.bar is not None:
        run.bar.pauses_from = callback.steps_to_come
    figures = run.train(
        network,
        features,
        training,
        distillation=settings.distillation,
        rates=make_rates(training, settings, schedule, steps, epoch),
        callbacks=[callback],
        log_extra=lambda: {"sparsity": callback.masks.sparsity if callback.masks else 0.0},
    )
    return PruneFigures(settings.sparsity, callback.history, training=figures)


def _loss(run: StageRun, settings: PruneSettings) -> Optional[LossFunction]:
    """What gradients are taken of; None: the model's own loss on labels."""
    asked = settings.gradients_of or ("outputs" if run.task.head == ENCODER else "labels")
    return run.output_loss if asked == "outputs" else None


def _gradient_batches(
    run: StageRun, settings: PruneSettings, features: List[Feature]
) -> Iterator[Dict[str, Tensor]]:
    """Random batches with labels for a pruning step without training, ``settings.gradients`` of them."""
    import torch

    from obert_edge.host.stages.batching import PadCollator

    collate = PadCollator(run.pad_token_id)
    generator = torch.Generator().manual_seed(settings.training.seed)
    size, augment = settings.gradient_batch_size, run.task.augment
    drawn: List[int] = []
    for _ in range(settings.gradients):
        while len(drawn) < size:
            drawn += torch.randperm(len(features), generator=generator).tolist()
        rows, drawn = drawn[:size], drawn[size:]
        yield collate([augment(features[row], row) for row in rows])
