"""What a stage can be told: training, pruning, quantization, distillation.

Every value is checked where it is stored; an error names the key, the value found, and what to
write instead. Nothing here imports torch.
"""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass
from typing import ClassVar, Optional, Tuple

from obert_edge.errors import UsageError


def check(good: bool, key: str, value: object, expected: str) -> None:
    """Raise :class:`UsageError` unless ``good``: ``key`` is ``value`` and must be ``expected``."""
    if not good:
        raise UsageError(f"{key} is {value!r}", hint=f"{key} must be {expected}")


def one_of(key: str, value: str, choices: Tuple[str, ...]) -> None:
    """Raise :class:`UsageError` unless ``value`` is one of ``choices``; names the nearest."""
    if value not in choices:
        near = difflib.get_close_matches(str(value), choices, n=1)
        raise UsageError(
            f"{key} is {value!r}",
            hint=f"did you mean {near[0]!r}?" if near else f"{key} must be one of {', '.join(choices)}",
        )


@dataclass(frozen=True)
class Training:
    """How a stage trains; every stage has its own.

    Args:
        epochs: passes over the train split; 0 means no training (one shot).
        max_steps: optimizer steps, instead of ``epochs`` when given.
        learning_rate: peak of the linear decay (with warm-up and rewinds).
        final_learning_rate: where the decay ends.
        warmup: share of all steps spent rising from 0.
        batch_size: examples per step and device.
        max_length: tokens per feature; ``None``: the task's default.
        weight_decay: AdamW's, on weights only.
        accumulate: batches whose gradients are added up before a step.
        precision: ``fp32``, ``bf16`` or ``fp16`` (autocast; ``fp16`` needs a GPU).
        gradient_checkpointing: compute activations again in the backward pass: less memory, about a
            third more time, the same weights.
        seed: of data order, dropout and new heads.
        dropout: probability in every dropout layer while training; ``None``: the checkpoint's own.
            0 suits short runs, and is several times faster on a CPU.
        freeze_embeddings: leave the embedding tables as they are (faster, and a regularizer).
        save_steps: steps between checkpoints to resume from; ``None``: ten per run.
        evaluate_steps: steps between scores on split ``tune`` (else ``dev``) for the log; ``None``: no
            scores before the end.
    """

    epochs: float = 3.0
    max_steps: Optional[int] = None
    learning_rate: float = 5e-5
    final_learning_rate: float = 0.0
    warmup: float = 0.06
    batch_size: int = 32
    max_length: Optional[int] = None
    weight_decay: float = 0.01
    accumulate: int = 1
    precision: str = "fp32"
    gradient_checkpointing: bool = False
    seed: int = 42
    dropout: Optional[float] = None
    freeze_embeddings: bool = False
    save_steps: Optional[int] = None
    evaluate_steps: Optional[int] = None

    def __post_init__(self) -> None:
        check(self.epochs >= 0, "epochs", self.epochs, "0 (no training) or more")
        check(self.max_steps is None or self.max_steps >= 0, "max_steps", self.max_steps, "0 or more")
        check(
            0 < self.learning_rate < 1, "learning_rate", self.learning_rate, "between 0 and 1, such as 5e-5"
        )
        check(
            0 <= self.final_learning_rate <= self.learning_rate,
            "final_learning_rate",
            self.final_learning_rate,
            "from 0 to learning_rate",
        )
        check(0 <= self.warmup < 1, "warmup", self.warmup, "a share of the steps in [0, 1)")
        check(self.batch_size >= 1, "batch_size", self.batch_size, "1 or more")
        check(
            self.max_length is None or self.max_length >= 8, "max_length", self.max_length, "8 or more tokens"
        )
        check(self.weight_decay >= 0, "weight_decay", self.weight_decay, "0 or more")
        check(self.accumulate >= 1, "accumulate", self.accumulate, "1 or more batches")
        one_of("precision", self.precision, ("fp32", "bf16", "fp16"))
        check(self.dropout is None or 0 <= self.dropout < 1, "dropout", self.dropout, "in [0, 1)")
        for key in ("save_steps", "evaluate_steps"):
            value = getattr(self, key)
            check(value is None or value >= 1, key, value, "1 or more steps")

    @property
    def none(self) -> bool:
        """Whether there is nothing to train: a stage that acts in one shot."""
        return self.max_steps == 0 or (self.max_steps is None and self.epochs == 0)


@dataclass(frozen=True)
class Pruning:
    """What is pruned, how and when.

    Args:
        sparsity: share of the encoder's linear weights that are zero in the end, in [0, 1).
        pattern: ``unstructured``, ``4x1``, ``2x1``, ``1x4``, ``2:4``, ... (blocks are OUTxIN).
        method: ``obert``, ``magnitude``, ``movement``, ``soft-movement``, ``wanda`` or ``sparsegpt``.
        scope: where one threshold holds: ``global``, ``layer`` or ``row``; ``None``: the method's own.
        initial_sparsity: reached by the first pruning step.
        schedule: how sparsity rises from there: ``cubic`` (fast, then slowly) or ``linear``.
        steps: pruning steps, evenly over the first part of training, the first before it begins.
        until: share of training after which nothing more is pruned.
        start_epoch: with ``end_epoch`` and ``frequency``: pruning steps at these epochs, in place of
            ``steps`` and ``until``.
        end_epoch: of the last pruning step.
        frequency: epochs between pruning steps.
        rewind: learning rate: ``each`` (it starts again at every pruning step) or ``none``.
        rewind_epochs: epochs at which it starts again, in place of ``rewind``.
        gradients: m, mini-batch gradients per pruning step.
        gradient_batch_size: examples in each.
        block_size: B, weights in a Fisher block.
        dampening: lambda of the paper.
        layout: Fisher blocks along a ``row``, or of the ``flat`` matrix as in the paper.
        solver: ``joint`` or ``paper``.
        selection: ``independent`` saliencies, or ``greedy``: one removal after the other.
        rescorings: saliencies per Fisher matrix.
        recomputations: Fisher matrices per pruning step.
        channel_permutation: obert only: before anything is pruned, permute output channels so that the
            blocks of a pattern of several rows keep more of the saliency; see
            :mod:`obert_edge.host.pruning.permutation`.
        memory_budget: bytes the Fisher matrix may take beside the model; ``None``: half of what is free.
    """

    sparsity: float = 0.8
    pattern: str = "4x1"
    method: str = "obert"
    scope: Optional[str] = None
    initial_sparsity: float = 0.5
    schedule: str = "cubic"
    steps: int = 4
    until: float = 0.5
    start_epoch: Optional[float] = None
    end_epoch: Optional[float] = None
    frequency: Optional[float] = None
    rewind: str = "each"
    rewind_epochs: Optional[Tuple[float, ...]] = None
    gradients: int = 256
    gradient_batch_size: int = 16
    block_size: int = 32
    dampening: float = 1e-7
    layout: str = "row"
    solver: str = "joint"
    selection: str = "independent"
    rescorings: int = 1
    recomputations: int = 1
    channel_permutation: bool = False
    memory_budget: Optional[int] = None

    METHODS: ClassVar[Tuple[str, ...]] = (
        "obert",
        "magnitude",
        "movement",
        "soft-movement",
        "wanda",
        "sparsegpt",
    )

    def __post_init__(self) -> None:
        for key in ("sparsity", "initial_sparsity"):
            value = getattr(self, key)
            check(0 <= value < 1, key, value, "a share of the weights in [0, 1), such as 0.8 for 80 %")
        one_of("method", self.method, self.METHODS)
        one_of("layout", self.layout, ("row", "flat"))
        one_of("solver", self.solver, ("joint", "paper"))
        one_of("selection", self.selection, ("independent", "greedy"))
        if self.scope is not None:
            one_of("scope", self.scope, ("global", "layer", "row"))
        if self.memory_budget is not None:
            check(self.memory_budget >= 1, "memory_budget", self.memory_budget, "bytes, such as 8000000000")
        one_of("schedule", self.schedule, ("cubic", "linear"))
        one_of("rewind", self.rewind, ("each", "none"))
        given = [key for key in ("start_epoch", "end_epoch", "frequency") if getattr(self, key) is not None]
        check(
            len(given) in (0, 3),
            "start_epoch, end_epoch, frequency",
            given,
            "given all three, or none (steps and until then say when)",
        )
        if self.start_epoch is not None and self.end_epoch is not None:
            epochs = (self.start_epoch, self.end_epoch)
            check(0 <= epochs[0] <= epochs[1], "start_epoch, end_epoch", epochs, "0 or more, and rising")
            check((self.frequency or 0) > 0, "frequency", self.frequency, "above 0 epochs")
        rewinds = self.rewind_epochs or ()
        check(
            list(rewinds) == sorted(set(rewinds)) and all(epoch > 0 for epoch in rewinds),
            "rewind_epochs",
            list(rewinds),
            "epochs above 0, rising",
        )
        check(0 < self.until <= 1, "until", self.until, "a share of training in (0, 1]")
        for key in (
            "steps",
            "gradients",
            "gradient_batch_size",
            "block_size",
            "rescorings",
            "recomputations",
        ):
            check(getattr(self, key) >= 1, key, getattr(self, key), "1 or more")
        check(self.dampening > 0, "dampening", self.dampening, "above 0, such as 1e-7")


@dataclass(frozen=True)
class Quantization:
    """How activations become 8 bit.

    Args:
        method: ``qat`` (train with the engine's arithmetic) or ``calibrate`` (no training).
        activations: ``static`` or ``dynamic`` (scales per token).
        observe: QAT: share of the steps during which ranges are still updated.
        observer: calibrate: ``minmax``, ``percentile`` or ``mse``.
        calibration_examples: calibrate: train rows to look at.
        embeddings: word embeddings of ``int8``, or of ``int4``, which are half the bytes; ``None``: int8
            (in a recipe: what its ``build`` says).
    """

    method: str = "qat"
    activations: str = "static"
    observe: float = 0.5
    observer: str = "mse"
    calibration_examples: int = 256
    embeddings: Optional[str] = None

    EMBEDDINGS: ClassVar[Tuple[str, ...]] = ("int8", "int4")

    def __post_init__(self) -> None:
        if self.embeddings is not None:
            one_of("embeddings", self.embeddings, self.EMBEDDINGS)
        one_of("method", self.method, ("qat", "calibrate"))
        one_of("activations", self.activations, ("static", "dynamic"))
        one_of("observer", self.observer, ("minmax", "percentile", "mse"))
        check(0 < self.observe <= 1, "observe", self.observe, "a share of training in (0, 1]")
        check(self.calibration_examples >= 1, "calibration_examples", self.calibration_examples, "1 or more")


@dataclass(frozen=True)
class Distillation:
    """Learning from a teacher.

    Args:
        teacher: folder of a fine-tuned model of the task; ``None``: the stage's own input
            (in a recipe: the dense model).
        hardness: share of the teacher's loss; 1 uses no labels, 0 no teacher.
        temperature: T of the softmax.
        hidden_states: weight of the squared difference between the hidden states of both, beside the
            loss on logits; 0: logits only. Teacher and student must be equally wide.
    """

    teacher: Optional[str] = None
    hardness: float = 1.0
    temperature: float = 2.0
    hidden_states: float = 0.0

    def __post_init__(self) -> None:
        check(0 <= self.hardness <= 1, "hardness", self.hardness, "from 0 (labels only) to 1 (teacher only)")
        check(self.temperature > 0, "temperature", self.temperature, "above 0, such as 2")
        check(self.hidden_states >= 0, "hidden_states", self.hidden_states, "0 or more")

    @property
    def none(self) -> bool:
        """Whether no teacher is needed."""
        return self.hardness == 0 and self.hidden_states == 0

    def with_teacher(self, teacher: Optional[str]) -> Distillation:
        """These settings with ``teacher`` where none is named."""
        return self if self.teacher is not None else dataclasses.replace(self, teacher=teacher)
