"""What stages can be told about training, quantization and the task. Nothing here imports torch.

What they can be told about pruning and a teacher is declared in :mod:`obert_edge.host.pruning.settings`, and
what one stage alone can be told in that stage's own module.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Optional, Tuple

from obert_edge.bundle.manifest import PROBLEM_TYPES
from obert_edge.host.checkpoints.quantization_format import ACTIVATION_CHOICES, ACTIVATIONS, EMBEDDINGS
from obert_edge.host.options import Settings, option, refusal

if TYPE_CHECKING:
    from obert_edge.host.data import Task

_NOT_SCORED = "a single stage is not scored, which `obert-edge evaluate` does"
#: The largest seed that numpy takes.
_LARGEST_SEED = 2**32 - 1


@dataclass(frozen=True)
class TaskSettings(Settings):
    """The data of a task; see :func:`obert_edge.host.data.load_task`."""

    heading: ClassVar[str] = "Task"

    name: str = option(
        flag="--task",
        help="sst2, mrpc, rte, cola, stsb, qnli, mnli, qqp, squad, text, tokens, mlm or embedding.",
    )
    data: str = option(path=True, help="Folder or file of the data, or hub:owner/set.")
    evaluate: str = option("dev", help="Split that every stage is scored on.", recipe_only=_NOT_SCORED)
    tune: int = option(0, minimum=0, help="Rows of train to hold out as split tune.")
    max_length: Optional[int] = option(
        None,
        minimum=8,
        absent="the task's",
        example=128,
        help="Tokens per feature when scoring; when training, max_length of each stage's training.",
        recipe_only=_NOT_SCORED,
    )
    text_columns: Tuple[str, ...] = option(
        ("text",),
        flag="--text-column",
        help="Tasks text and embedding: the column of the text, or two columns for pairs.",
    )
    label_column: str = option(
        "label", help="Task text: the column of the label; task embedding: of the score of a pair."
    )
    labels: Optional[Tuple[str, ...]] = option(
        None,
        flag="--label",
        absent="those of the train split",
        help="Tasks text and tokens: the class names in the order of their ids.",
    )
    label_map: Optional[Tuple[str, ...]] = option(
        None,
        flag="--label-map",
        absent="their names say it",
        help="MODEL=DATA for each class that the model calls otherwise than the data; the id of a class may "
        "stand for the model's name.",
    )
    problem_type: Optional[str] = option(
        None,
        choices=PROBLEM_TYPES,
        absent="what the column of the label holds",
        help="Task text: one class per text, any number of classes, or a number.",
    )
    label_separator: Optional[str] = option(
        None,
        absent="several classes are a list",
        example=";",
        help="Task text: what is between the classes of a text.",
    )
    prompt_names: Optional[Tuple[str, ...]] = option(
        None,
        flag="--prompt-name",
        absent="the model's default prompt, if any",
        example=("query",),
        help="Task embedding: a prompt of the model to put before every text; of two the first comes before "
        "the first text of a pair, the second before the second, and single texts have them in turn.",
    )
    rows: Optional[int] = option(
        None,
        minimum=1,
        absent="counted in the data",
        example=10000,
        help="Training rows, for a dry run where the data are not at hand.",
        recipe_only="only a dry run of a recipe needs it",
    )

    def check_task(self) -> None:
        """Refuse a task that does not exist, or has no such option, before its data are looked at.

        Raises:
            UsageError: it is such a one.
        """
        from obert_edge.host.data.registry import check_task

        check_task(
            self.name,
            text_columns=self.text_columns,
            label_column=self.label_column,
            labels=self.labels,
            problem_type=self.problem_type,
            label_separator=self.label_separator or "",
            prompt_names=self.prompt_names or (),
        )

    def load(self, needs_labels: bool = True) -> Task:
        """Load the task.

        Args:
            needs_labels: whether its rows must have labels.

        Raises:
            UsageError: there is no such task.
            DataError: its data cannot be used.
        """
        from obert_edge.host.data import load_task

        return load_task(
            self.name,
            self.data,
            text_columns=self.text_columns,
            label_column=self.label_column,
            labels=self.labels,
            label_map=self.label_map or (),
            problem_type=self.problem_type,
            label_separator=self.label_separator or "",
            prompt_names=self.prompt_names or (),
            tune=self.tune,
            needs_labels=needs_labels,
        )


@dataclass(frozen=True)
class Rows(Settings):
    """How much of a split is used."""

    limit: Optional[int] = option(
        None,
        minimum=1,
        absent="all",
        example=1000,
        help="Use only the first rows of the split, which for stages is train.",
    )


@dataclass(frozen=True)
class Training(Settings):
    """How a stage trains; every stage has its own."""

    heading: ClassVar[str] = "Training"

    epochs: float = option(3.0, minimum=0, help="Passes over the train split; 0: no training.")
    max_steps: Optional[int] = option(
        None, minimum=0, absent="as many as epochs has", help="Optimizer steps, in place of epochs."
    )
    learning_rate: float = option(
        5e-5, above=0, below=1, help="Peak of the linear decay, after the warm-up and at every rewind."
    )
    final_learning_rate: float = option(0.0, minimum=0, help="Where the decay ends.")
    warmup: float = option(
        0.06, minimum=0, below=1, help="Share of all steps in which the rate rises from 0."
    )
    batch_size: int = option(32, minimum=1, help="Examples per step and device.")
    max_length: Optional[int] = option(
        None, minimum=8, absent="the task's", example=128, help="Tokens per feature."
    )
    weight_decay: float = option(
        0.01, minimum=0, help="Weight decay of AdamW, on weights and not on biases or LayerNorm."
    )
    accumulate: int = option(
        1,
        minimum=1,
        help="Batches whose gradients are added up before a step of the optimizer, which is then that of one "
        "batch so many times as large.",
    )
    precision: str = option(
        "fp32",
        choices=("fp32", "bf16", "fp16"),
        help="Precision of activations (autocast); fp16 needs a GPU.",
    )
    gradient_checkpointing: bool = option(
        False,
        help="Compute activations again in the backward pass: less memory, about a third more time, the same "
        "weights.",
    )
    seed: int = option(
        42,
        minimum=0,
        maximum=_LARGEST_SEED,
        help="Seed of the order of the data, of dropout and of new heads.",
    )
    dropout: Optional[float] = option(
        None,
        minimum=0,
        below=1,
        absent="the checkpoint's",
        example=0,
        help="Probability in every dropout layer; 0 suits short runs and is several times faster on a CPU.",
    )
    freeze_embeddings: bool = option(
        False, help="Leave the embeddings (tables and LayerNorm) as they are: faster, and a regularizer."
    )
    dense: bool = option(
        False,
        help="Train the zeros of a pruned model like its other weights; else what is pruned stays pruned.",
    )
    save_steps: Optional[int] = option(
        None,
        minimum=1,
        absent="a tenth of all",
        example=100,
        help="Steps between checkpoints that an interrupted run goes on from.",
    )
    evaluate_steps: Optional[int] = option(
        None,
        minimum=1,
        absent="no scores",
        example=100,
        help="Steps between scores on split tune (else dev) for the log.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.final_learning_rate > self.learning_rate:
            raise refusal(
                "final_learning_rate",
                self.final_learning_rate,
                f"at most learning_rate, which is {self.learning_rate:g}",
                hint="let the rate fall",
            )

    @property
    def none(self) -> bool:
        """Whether there is nothing to train: a stage that acts in one shot."""
        return self.max_steps == 0 or (self.max_steps is None and self.epochs == 0)


def training_of(settings: Settings) -> Optional[Training]:
    """How the stage of some settings trains; ``None``: it does not."""
    return settings if isinstance(settings, Training) else getattr(settings, "training", None)


@dataclass(frozen=True)
class Quantization(Settings):
    """How weights and activations become 8 bit."""

    heading: ClassVar[str] = "Quantization"

    method: str = option(
        "qat",
        choices=("qat", "calibrate"),
        help="Train with the engine's arithmetic, or find ranges without training.",
    )
    activations: str = option(
        ACTIVATIONS[0],
        choices=ACTIVATION_CHOICES,
        help="Scales that are fixed, made anew for every token, or each linear's as measured (method "
        "calibrate).",
    )
    observe: float = option(
        0.5, above=0, maximum=1, help="QAT: share of the steps in which ranges are still updated."
    )
    observer: str = option(
        "mse", choices=("minmax", "percentile", "mse"), help="Method calibrate: how a range is chosen."
    )
    calibration_examples: int = option(
        256, minimum=1, help="Method calibrate: train rows to find ranges with."
    )
    embeddings: Optional[str] = option(
        None,
        choices=EMBEDDINGS,
        absent="int8; in a recipe what build says",
        help="Word embeddings of eight bits, or of four, which take half the bytes.",
    )
