"""The model learns to live with the engine's INT8 arithmetic, or is calibrated for it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, List, Optional, Tuple, Union

from obert_edge.errors import UsageError
from obert_edge.host.checkpoints.quantization_format import AUTO, EMBEDDINGS
from obert_edge.host.options import part
from obert_edge.host.pruning.settings import Distillation
from obert_edge.host.stages.reports import Figures, StageReport, TrainingFigures
from obert_edge.host.stages.settings import Quantization, Training
from obert_edge.host.stages.stage import PlannedStage, RecipeContext, Stage, StageRun
from obert_edge.host.stages.tasks import takes_task
from obert_edge.host.stages.timing import TrainingPlan, plan_training
from obert_edge.packages import TORCH_PACKAGES

if TYPE_CHECKING:
    from torch import Tensor

    from obert_edge.host.data import Feature, Task

_CALIBRATION_BATCH = 8


@dataclass(frozen=True)
class QuantizeSettings(Quantization):
    """What :class:`Quantization` says, with how to train meanwhile."""

    training: Training = part(Training, help="Steps and rates of quantization-aware training (QAT).")
    distillation: Distillation = part(Distillation, help="The teacher of QAT; by default the dense model.")

    @property
    def quantization(self) -> Quantization:
        """The part that is about quantization."""
        return self.narrow(Quantization)

    @property
    def qat(self) -> bool:
        """Whether the model is trained."""
        return self.method == "qat"


@dataclass(frozen=True)
class QuantizeFigures(Figures):
    """What quantizing came to.

    Attributes:
        training: of QAT; None: the model was calibrated.
        examples: rows that ranges were found with; None: the model was trained.
    """

    training: Optional[TrainingFigures] = None
    examples: Optional[int] = None


class Quantize(Stage[QuantizeSettings]):
    """Quantize MODEL to INT8; what is pruned stays pruned."""

    name = "quantize"
    verb = "quantize"
    settings = QuantizeSettings

    def needs_labels(self, settings: QuantizeSettings) -> bool:
        """Calibration looks at ranges alone."""
        return settings.qat

    def check(self, settings: QuantizeSettings, task: Optional[Task]) -> None:
        """QAT must train, and keep what is pruned."""
        if settings.training.dense:
            raise UsageError(
                "quantizing keeps zeros, and dense gives them up",
                hint="train them first with `obert-edge finetune --dense`, or leave --dense out",
            )
        if settings.qat and settings.activations == AUTO:
            raise UsageError(
                "activations are chosen by measurement where ranges are calibrated, and QAT trains them",
                hint="take static or dynamic activations, or method calibrate",
            )
        if settings.qat and settings.training.none:
            raise UsageError(
                "quantization-aware training of 0 steps finds no ranges",
                hint="use method calibrate, or give --epochs or --max-steps",
            )

    def in_recipe(self, settings: QuantizeSettings, context: RecipeContext) -> QuantizeSettings:
        """The dense model is the teacher, and embeddings are those of the bundle, unless they are named."""
        return dataclasses.replace(
            settings,
            embeddings=settings.embeddings or context.embeddings,
            distillation=settings.distillation.with_teacher(context.dense or context.start),
        )

    def needed_packages(self, settings: QuantizeSettings) -> Tuple[str, ...]:
        """Calibrating trains nothing."""
        return super().needed_packages(settings) if settings.qat else TORCH_PACKAGES

    def plan(self, settings: QuantizeSettings, rows: Callable[[Training], int]) -> PlannedStage:
        """See :meth:`Stage.plan`."""
        about = {name: getattr(settings, name) for name in ("method", "activations", "embeddings")}
        training, planned = settings.training, None
        if settings.qat:
            planned = TrainingPlan(0)
            if not training.none:
                planned = plan_training(training, rows(training), distillation=settings.distillation)
        return PlannedStage(self.name, about, planned)

    def recorded(self, settings: QuantizeSettings) -> Dict[str, Any]:
        """See :meth:`Stage.recorded`."""
        return {
            "training": dataclasses.asdict(settings.training),
            "quantization": dataclasses.asdict(settings.quantization),
            "distillation": dataclasses.asdict(settings.distillation) if settings.qat else None,
        }

    def apply(self, run: StageRun, settings: QuantizeSettings) -> QuantizeFigures:
        """See :meth:`Stage.apply`."""
        from obert_edge.calibration import calibrate
        from obert_edge.host.checkpoints.pytorch import quiet_transformers
        from obert_edge.host.pruning import prunable_weights
        from obert_edge.host.quantization import QATCallback, save_quantized
        from obert_edge.host.stages.batching import inputs_alone
        from obert_edge.host.stages.companions import copy_companions
        from obert_edge.host.stages.sparsity import write_sparsity

        training, embeddings = settings.training, settings.embeddings or EMBEDDINGS[0]
        features = run.features(training)
        network = run.load_network(training)
        if settings.qat:
            callback = QATCallback(settings.activations, settings.observe, embeddings)
            trained = run.train(
                network, features, training, distillation=settings.distillation, callbacks=[callback]
            )
            figures = QuantizeFigures(training=trained)
        else:
            batches = inputs_alone(network, _calibration_batches(run, settings, features))
            calibrate(network, batches, settings.observer, settings.activations, embeddings)
            figures = QuantizeFigures(examples=min(settings.calibration_examples, len(features)))
        with quiet_transformers():
            save_quantized(network, None, run.output, settings.method)
        copy_companions(run.source, run.output)
        write_sparsity(prunable_weights(network), run.output)
        return figures


@takes_task
def quantize(
    model: Union[str, Path],
    task: Task,
    output: Union[str, Path],
    *,
    method: Optional[str] = None,
    quantization: Optional[Quantization] = None,
    training: Optional[Training] = None,
    distillation: Optional[Distillation] = None,
    limit: Optional[int] = None,
    progress: bool = True,
    overwrite: bool = False,
) -> StageReport:
    """Quantize a model folder, dense or pruned; zeros stay zero.

    Args:
        model: folder of a float model of the task.
        task: from :func:`obert_edge.host.data.load_task`.
        output: folder to write; appears only when everything is in it.
        method: short for ``quantization.method``: ``qat`` or ``calibrate``.
        quantization: method, activations, observers.
        training: steps and rates of QAT.
        distillation: the teacher of QAT; default: ``model`` itself, hardness 1.
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

    told: Dict[str, Any] = dict(vars((quantization or Quantization()).narrow(Quantization)))
    if method is not None:
        told["method"] = method
    settings = QuantizeSettings(
        **told, training=training or Training(), distillation=distillation or Distillation()
    )
    return run_stage(
        Quantize(), model, task, output, settings, limit=limit, progress=progress, overwrite=overwrite
    )


def _calibration_batches(
    run: StageRun, settings: QuantizeSettings, features: List[Feature]
) -> Iterator[Dict[str, Tensor]]:
    """Batches of random features, rows of similar length together."""
    import torch

    from obert_edge.host.stages.batching import PadCollator

    generator = torch.Generator().manual_seed(settings.training.seed)
    chosen = torch.randperm(len(features), generator=generator)[: settings.calibration_examples]
    rows = sorted((features[index] for index in chosen.tolist()), key=lambda f: len(f["input_ids"]))
    collate = PadCollator(run.pad_token_id)
    for start in range(0, len(rows), _CALIBRATION_BATCH):
        yield collate(rows[start : start + _CALIBRATION_BATCH])
