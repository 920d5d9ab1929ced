"""A model becomes a bundle for one target."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, ClassVar, Dict, List, Optional, Tuple

from obert_edge.host.checkpoints.quantization_format import ACTIVATION_CHOICES, ACTIVATIONS, EMBEDDINGS
from obert_edge.host.options import Settings, option
from obert_edge.host.signing import read_signer
from obert_edge.host.stages.reports import Figures
from obert_edge.host.stages.settings import Training
from obert_edge.host.stages.stage import PlannedStage, RecipeContext, Stage, StageRun
from obert_edge.progress import shown

if TYPE_CHECKING:
    from obert_edge.host.data import Task
    from obert_edge.host.data.base import Text


@dataclass(frozen=True)
class BuildSettings(Settings):
    """What building a bundle can be told; see :func:`obert_edge.build`."""

    heading: ClassVar[str] = "Bundle"

    target: str = option("x86", help="What to build for; `obert-edge doctor` lists the targets.")
    embeddings: Optional[str] = option(
        None,
        choices=EMBEDDINGS,
        absent="those the model was quantized with, else int8",
        help="Word embeddings of eight bits, or of four, which take half the bytes.",
    )
    head: Optional[str] = option(
        None,
        flag="--task",
        absent="the checkpoint's",
        choices=(
            "sequence-classification",
            "token-classification",
            "question-answering",
            "masked-lm",
            "encoder",
        ),
        help="The head to compile.",
    )
    pooling: Optional[str] = option(
        None,
        choices=("mean", "cls", "pooler"),
        absent="the checkpoint's, else mean",
        help="How an encoder makes one vector of its tokens.",
    )
    max_length: Optional[int] = option(
        None, minimum=1, absent="the model's", example=128, help="Longest sequence in tokens."
    )
    calibration_data: Optional[str] = option(
        None,
        path=True,
        absent="in a recipe train rows of its task, else a few built-in texts",
        help="File of texts to find activation ranges with, for a model that is not quantized.",
    )
    activations: Optional[str] = option(
        None,
        choices=ACTIVATION_CHOICES,
        absent="static, and dynamic where static loses the model's answers",
        help="Ranges of activations fixed, found per token, or each linear's as measured, for a model that "
        "is not quantized.",
    )
    min_cosine: Optional[float] = option(
        None,
        minimum=-1,
        maximum=1,
        absent="0.95",
        example=0.9,
        help="Refuse a bundle whose outputs have a smaller cosine to the model's.",
    )
    min_agreement: Optional[float] = option(
        None,
        minimum=0,
        maximum=1,
        absent="none",
        example=0.9,
        help="Refuse a bundle that gives a smaller share of the model's answers.",
    )
    card: bool = option(
        True,
        help="Write a model card beside the bundle, its name with .md behind, unless one of yours is there.",
    )
    sign: Optional[str] = option(
        None, path=True, absent="not signed", help="Private key to sign the bundle with, as `keygen` makes."
    )


#: Train rows that a model is calibrated on, as many texts as are read of a file.
_ROWS = 256


@dataclass(frozen=True)
class BuildFigures(Figures):
    """What building came to: the size of the bundle in bytes."""

    bytes: int


class Build(Stage[BuildSettings]):
    """Compile MODEL, dense or sparse, quantized or not, into a bundle."""

    name = "build"
    verb = "build"
    settings = BuildSettings
    needs_task = False
    writes_file = True

    def needs_labels(self, settings: BuildSettings) -> bool:
        """It compiles what is there."""
        return False

    def check(self, settings: BuildSettings, task: Optional[Task]) -> None:
        """See :meth:`Stage.check`; a key that cannot sign is refused before anything is trained."""
        if settings.sign is not None:
            read_signer(settings.sign)

    def check_ahead(
        self, settings: BuildSettings, model: Optional[Path], task: Optional[Task], context: RecipeContext
    ) -> None:
        """See :meth:`Stage.check_ahead`: layers and weights change until then, head and positions do not."""
        from obert_edge.host.compiler.checks import check_asked, check_model
        from obert_edge.host.compiler.ranges import check_activations

        texts = None if settings.calibration_data is None else Path(settings.calibration_data)
        floors = {"min_cosine": settings.min_cosine, "min_agreement": settings.min_agreement}
        check_asked(settings.target, calibration=texts, sign=settings.sign, **floors)
        # What is measured per linear may turn out as anything; texts are calibrated on anew.
        if context.activations in ACTIVATIONS and texts is None:
            check_activations(settings.activations, context.activations, "stage quantize")
        if model is not None:
            check_model(
                model,
                task=settings.head or context.head,
                pooling=settings.pooling,
                max_length=settings.max_length,
                calibration=texts,
                min_agreement=settings.min_agreement,
                problem_type=None if task is None or context.head is None else task.problem_type,
            )

    def needed_packages(self, settings: BuildSettings) -> Tuple[str, ...]:
        """Torch only calibrates and measures, and is asked for where that is due."""
        return ("safetensors",)

    def output_name(self, number: int) -> str:
        """A recipe has one bundle."""
        return "model.oeb"

    def finished(self, output: Path) -> bool:
        """A bundle is there whole or not at all."""
        return output.is_file()

    def plan(self, settings: BuildSettings, rows: Callable[[Training], int]) -> PlannedStage:
        """See :meth:`Stage.plan`."""
        return PlannedStage(self.name, dataclasses.asdict(settings))

    def recorded(self, settings: BuildSettings) -> Dict[str, Any]:
        """See :meth:`Stage.recorded`."""
        return {"build": dataclasses.asdict(settings)}

    def apply(self, run: StageRun, settings: BuildSettings) -> BuildFigures:
        """See :meth:`Stage.apply`."""
        from obert_edge.host.compiler.build import build

        texts = settings.calibration_data
        calibration = _rows_to_calibrate_on(run) if texts is None else Path(texts)
        with shown(run.progress) as progress:
            build(
                run.source,
                settings.target,
                run.output,
                calibration=calibration,
                task=settings.head,
                pooling=settings.pooling,
                max_length=settings.max_length,
                embeddings=settings.embeddings,
                activations=settings.activations,
                min_cosine=settings.min_cosine,
                min_agreement=settings.min_agreement,
                card=settings.card,
                sign=settings.sign,
                # Its parts take very different times, so that a share of the whole tells nothing.
                progress=None if progress is None else lambda stage, fraction: progress(stage, 0, 0),
            )
        return BuildFigures(run.output.stat().st_size)


def _rows_to_calibrate_on(run: StageRun) -> Optional[List[Text]]:
    """Train rows of a recipe's task, for a model without ranges; ``None``: it has some, or rows lack."""
    from obert_edge.host.checkpoints.checkpoint import Checkpoint
    from obert_edge.host.checkpoints.quantization_format import FILE
    from obert_edge.host.checkpoints.sentence_transformers import encoder_folder
    from obert_edge.host.checkpoints.tokenizer_files import has_tokenizer

    task = run.given_task
    if task is None or "train" not in task.splits:
        return None
    folder = encoder_folder(run.source)
    if not has_tokenizer(folder) or (folder / FILE).is_file():
        return None
    if Checkpoint.open(folder).quantization is not None:
        return None
    return task.texts("train", limit=_ROWS) or None
