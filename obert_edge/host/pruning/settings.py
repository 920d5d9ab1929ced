"""What is pruned, how and when, and what is learned from a teacher meanwhile. Nothing here imports torch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, Optional, Tuple

from obert_edge.host.options import Settings, option, refusal
from obert_edge.host.pruning.criteria import CRITERIA, CriterionOptions


@dataclass(frozen=True)
class Pruning(CriterionOptions):
    """What is pruned, how and when."""

    heading: ClassVar[str] = "Pruning"

    sparsity: float = option(
        0.8, minimum=0, below=1, help="Share of the encoder's linear weights that are zero in the end."
    )
    pattern: str = option(
        "4x1",
        help="What is removed together: single weights (unstructured), blocks OUTxIN (4x1, 2x1, 1x4, ...) or "
        "all but N of M inputs (2:4).",
    )
    method: str = option(
        "obert",
        choices=tuple(CRITERIA),
        help="Which weights go: " + "; ".join(f"{name}: {row.help}" for name, row in CRITERIA.items()) + ".",
    )
    scope: Optional[str] = option(
        None,
        choices=("global", "layer", "row"),
        absent="the method's",
        help="Where one threshold holds: over all matrices, in each matrix, or in each output unit.",
    )
    initial_sparsity: float = option(0.5, minimum=0, below=1, help="Sparsity of the first pruning step.")
    schedule: str = option(
        "cubic",
        choices=("cubic", "linear"),
        help="How sparsity rises from there: fast at first and slowly at the end, or in equal steps.",
    )
    steps: int = option(
        4,
        minimum=1,
        help="Pruning steps, evenly over the first part of training, the first before it begins.",
    )
    until: float = option(
        0.5, above=0, maximum=1, help="Share of training after which nothing more is pruned."
    )
    start_epoch: Optional[float] = option(
        None,
        minimum=0,
        absent="steps and until say when",
        example=2,
        help="Epoch of the first pruning step; with end_epoch and frequency, in place of steps and until.",
    )
    end_epoch: Optional[float] = option(
        None, minimum=0, absent="steps and until say when", example=26, help="Epoch of the last pruning step."
    )
    frequency: Optional[float] = option(
        None, above=0, absent="steps and until say when", example=4, help="Epochs between pruning steps."
    )
    rewind: str = option(
        "each",
        choices=("each", "none"),
        help="Whether the learning rate starts again at every pruning step (paper section 4.1).",
    )
    rewind_epochs: Optional[Tuple[float, ...]] = option(
        None,
        above=0,
        absent="what rewind says",
        example=(2, 6, 10),
        help="Epochs at which the learning rate starts again, ascending; in place of rewind.",
    )
    gradients: int = option(
        256, minimum=1, help="m, the mini-batches that gradients or inputs are taken of in a pruning step."
    )
    gradients_of: Optional[str] = option(
        None,
        choices=("labels", "outputs"),
        absent="labels; task embedding: outputs",
        help="What the gradients are of: the loss on labels, or the outputs times random vectors, which "
        "needs no labels (Gauss-Newton).",
    )
    gradient_batch_size: int = option(
        16,
        minimum=1,
        help="Examples in each of them; sets the scale of the gradients, and so how much a given dampening "
        "dampens.",
    )
    channel_permutation: bool = option(
        False,
        help="obert only: before anything is pruned, permute output channels so that the blocks of a pattern "
        "of several rows keep more of the saliency.",
    )

    @property
    def steps_once(self) -> bool:
        """Whether there is a single pruning step."""
        return self.steps == 1 if self.start_epoch is None else self.start_epoch == self.end_epoch

    def __post_init__(self) -> None:
        super().__post_init__()
        names = ("start_epoch", "end_epoch", "frequency")
        given = [name for name in names if getattr(self, name) is not None]
        if len(given) not in (0, 3):
            raise refusal(", ".join(names), given, "all three of them or none", hint="give the others too")
        if self.start_epoch is not None and self.end_epoch is not None and self.start_epoch > self.end_epoch:
            epochs = (self.start_epoch, self.end_epoch)
            raise refusal("start_epoch, end_epoch", epochs, "epochs that rise", hint="exchange them")
        rewinds = self.rewind_epochs or ()
        if list(rewinds) != sorted(set(rewinds)):
            raise refusal("rewind_epochs", rewinds, "epochs that rise", hint="name each once, in order")


#: The options of :class:`Pruning` that say how it goes along with training.
SCHEDULING = (
    "initial_sparsity",
    "schedule",
    "steps",
    "until",
    "start_epoch",
    "end_epoch",
    "frequency",
    "rewind",
    "rewind_epochs",
)


@dataclass(frozen=True)
class Distillation(Settings):
    """Learning from a teacher."""

    heading: ClassVar[str] = "Learning from a teacher"

    teacher: Optional[str] = option(
        None,
        path=True,
        hub=True,
        absent="the stage's own input; in a recipe the fine-tuned model",
        help="Folder of a fine-tuned model of the task to learn from, or its name on a hub.",
    )
    hardness: float = option(
        1.0, minimum=0, maximum=1, help="Share of the teacher's loss: 1 uses no labels, 0 no teacher."
    )
    temperature: float = option(
        2.0,
        above=0,
        help="T of the softmax of teacher and student; the oBERT paper has 2 downstream, 5.5 upstream.",
    )
    similarities: float = option(
        1.0,
        minimum=0,
        help="Task embedding: weight of the squared difference between the similarities of a batch's texts, "
        "beside one minus the cosine to the teacher's embedding.",
    )
    hidden_states: float = option(
        0.0,
        minimum=0,
        help="Weight of the squared difference between the hidden states of both, beside the loss on logits; "
        "teacher and student must be equally wide.",
    )

    @property
    def none(self) -> bool:
        """Whether no teacher is needed."""
        return self.hardness == 0 and self.hidden_states == 0

    def with_teacher(self, teacher: Optional[str]) -> Distillation:
        """These settings with ``teacher`` where none is named."""
        return self if self.teacher is not None else dataclasses.replace(self, teacher=teacher)
