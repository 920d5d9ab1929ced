"""Some layers of the encoder stay, the others go; what is left learns from the whole (paper section 4.3)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    ClassVar,
    Dict,
    List,
    Mapping,
    Optional,
    Sequence,
    Tuple,
    Union,
)

from obert_edge.errors import UsageError
from obert_edge.host.architectures import Architecture, architecture_of
from obert_edge.host.options import Settings, option, part, refusal
from obert_edge.host.pruning.settings import Distillation
from obert_edge.host.stages.reports import Figures, StageReport, TrainingFigures
from obert_edge.host.stages.settings import Training
from obert_edge.host.stages.stage import PlannedStage, Stage, StageRun
from obert_edge.host.stages.tasks import takes_task
from obert_edge.host.stages.timing import TrainingPlan, plan_training

if TYPE_CHECKING:
    from obert_edge.host.data import Task


@dataclass(frozen=True)
class DropSettings(Settings):
    """What dropping layers can be told."""

    heading: ClassVar[str] = "Layers"

    keep: Tuple[int, ...] = option(
        minimum=0,
        example=(0, 2, 4, 6, 8, 11),
        help="Layers that stay, counted from 0, ascending. The oBERT paper does not say which its models "
        "keep; recipes of its authors keep 0,2,4,6,8,11 and 0,6,11 of twelve.",
    )
    training: Training = part(Training, help="How to train what is left; 0 epochs: not at all.")
    distillation: Distillation = part(
        Distillation, help="The teacher; by default the model before its layers were dropped."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.keep or list(self.keep) != sorted(set(self.keep)):
            raise refusal(
                "keep", self.keep, "layers counted from 0, ascending", hint="write such as 0,2,4,6,8,11"
            )


@dataclass(frozen=True)
class DropFigures(Figures):
    """What dropping came to: the layers that are left, by their old numbers, and their training."""

    layers: List[int]
    training: Optional[TrainingFigures] = None


class Drop(Stage[DropSettings]):
    """Keep some layers of MODEL, which teaches what is left; with --epochs 0 only drop."""

    name = "drop"
    verb = "drop-layers"
    settings = DropSettings

    def needs_labels(self, settings: DropSettings) -> bool:
        """Only what is trained learns from labels."""
        return not settings.training.none

    def plan(self, settings: DropSettings, rows: Callable[[Training], int]) -> PlannedStage:
        """See :meth:`Stage.plan`."""
        training, planned = settings.training, TrainingPlan(0)
        if not training.none:
            planned = plan_training(training, rows(training), distillation=settings.distillation)
        return PlannedStage(self.name, {"keep": list(settings.keep)}, planned)

    def recorded(self, settings: DropSettings) -> Dict[str, Any]:
        """See :meth:`Stage.recorded`."""
        taught = None if settings.training.none else dataclasses.asdict(settings.distillation)
        return {"training": dataclasses.asdict(settings.training), "distillation": taught}

    def apply(self, run: StageRun, settings: DropSettings) -> DropFigures:
        """See :meth:`Stage.apply`."""
        training, keep = settings.training, list(settings.keep)
        features = [] if training.none else run.features(training)
        network = run.load_network(training)
        keep_layers(network, keep)
        figures = None
        if not training.none:
            figures = run.train(network, features, training, distillation=settings.distillation, layers=keep)
        run.save(network)
        return DropFigures(keep, figures)


@takes_task
def drop_layers(
    model: Union[str, Path],
    task: Task,
    output: Union[str, Path],
    *,
    keep: Sequence[int],
    training: Optional[Training] = None,
    distillation: Optional[Distillation] = None,
    limit: Optional[int] = None,
    progress: bool = True,
    overwrite: bool = False,
) -> StageReport:
    """Keep some layers of an encoder, then train with the whole model as teacher.

    Args:
        model: folder of the model, with the task's head where a teacher is needed.
        task: from :func:`obert_edge.host.data.load_task`.
        output: folder to write; appears only when everything is in it.
        keep: layers to keep, counted from 0, ascending.
        training: steps and rates; of 0 epochs: only drop.
        distillation: default: hardness 1, ``model`` itself is the teacher. With hidden states, each layer
            learns from the one it was.
        limit: use only the first rows of train.
        progress: show a progress bar on stderr.
        overwrite: replace an existing output.

    Returns:
        What ``stage.json`` of the output holds.

    Raises:
        UsageError: there is no such layer, or the output exists.
        CheckpointError: a checkpoint cannot be used.
        DataError: the data cannot be used.
    """
    from obert_edge.host.stages.runner import run_stage

    settings = DropSettings(tuple(keep), training or Training(), distillation or Distillation())
    return run_stage(
        Drop(), model, task, output, settings, limit=limit, progress=progress, overwrite=overwrite
    )


def keep_layers(model: Any, keep: Sequence[int]) -> None:
    """Remove all other layers of an encoder, in place.

    Args:
        model: a transformers model of one of ``obert_edge.host.architectures``.
        keep: layers counted from 0, ascending.

    Raises:
        UsageError: it names a layer there is not, or all that there are, or leaves out the first one of a
            model whose first layer differs from the others.
    """
    from torch import nn

    architecture = architecture_of(model.config.to_dict(), type(model).__name__)
    encoder = getattr(model, model.base_model_prefix, model)
    config = model.config.to_dict()
    count = int(config[architecture.fields.layers])
    if keep[-1] >= count:
        raise UsageError(
            f"layers {list(keep)} cannot be kept of {count}",
            hint=f"name layers from 0 to {count - 1}, each once, ascending",
        )
    if len(keep) == count:
        raise UsageError(
            f"layers {list(keep)} are all that the model has: none would be dropped",
            hint="leave some out of --keep",
        )
    if architecture.bare_first_layer and keep[0] != 0:
        raise UsageError(
            f"layers {list(keep)} lack layer 0, which alone has no LayerNorm before its attention",
            hint="keep layer 0 and leave out others",
        )
    if architecture.sharing is None:
        path, _, _ = architecture.layer.rpartition(".")
        parent, _, name = path.rpartition(".")
        layers = encoder.get_submodule(path)
        setattr(encoder.get_submodule(parent), name, nn.ModuleList([layers[index] for index in keep]))
    else:
        _check_shared(architecture, config, keep)
    setattr(model.config, architecture.fields.layers, len(keep))
    types = getattr(model.config, "layer_types", None)
    if architecture.rotary and types:
        model.config.layer_types = [types[index] for index in keep]


def _check_shared(architecture: Architecture, config: Mapping[str, Any], keep: Sequence[int]) -> None:
    """Refuse layers to keep that would not take the same weights in the smaller model.

    Where layers share weights, a layer is a repetition: fewer of them are a smaller number.
    """
    paths = architecture.layer_paths(config)
    inner = len(paths) // int(config[architecture.fields.layers])
    kept = tuple(path for index in keep for path in paths[index * inner : (index + 1) * inner])
    if kept != architecture.layer_paths({**config, architecture.fields.layers: len(keep)}):
        raise UsageError(
            f"layers {list(keep)} would take other weights in a model of {len(keep)} layers, whose sets of "
            "weights serve as many layers each",
            hint="keep as many layers of each set of weights",
        )
