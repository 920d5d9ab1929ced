"""One training run with transformers' own Trainer: distillation, logs, progress, resumption."""

from __future__ import annotations

import contextlib
import logging
import time
from pathlib import Path
from typing import (
    Any,
    Callable,
    Dict,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    Union,
    cast,
)

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import Trainer, TrainerCallback, TrainerState, TrainingArguments

from obert_edge.errors import CheckpointError, ObertEdgeError, UsageError
from obert_edge.files import check_room
from obert_edge.host.checkpoints.pytorch import quiet_transformers
from obert_edge.host.checkpoints.sentence_embedding import SentenceEmbedding
from obert_edge.host.data import Feature, Task
from obert_edge.host.data.base import ENCODER, IGNORED
from obert_edge.host.data.labels import listed
from obert_edge.host.hub.download import model_folder
from obert_edge.host.pruning import DistillationLoss, EmbeddingDistillation, RewindingLearningRate
from obert_edge.host.pruning.settings import Distillation
from obert_edge.host.stages.batching import (
    AnswerReader,
    FeatureDataset,
    LengthGroupedSampler,
    PadCollator,
    answer_features,
)
from obert_edge.host.stages.folders import CHECKPOINTS, is_main_process
from obert_edge.host.stages.lengths import longest_sequence
from obert_edge.host.stages.logs import LogCallback, ProgressCallback
from obert_edge.host.stages.models import check_head, has_head, load_model, read_config
from obert_edge.host.stages.reports import TrainingFigures
from obert_edge.host.stages.resume import (
    CompleteCheckpoint,
    last_complete_checkpoint,
    step_of,
    whole_checkpoints,
)
from obert_edge.host.stages.settings import Training
from obert_edge.host.stages.timing import total_steps

#: What a teacher's answers are learned by.
Learned = Union[DistillationLoss, EmbeddingDistillation]

#: Rows that a score during training looks at, at most.
_SCORED_ROWS = 1000

_log = logging.getLogger(__name__)


class Counts(NamedTuple):
    """What the parts of a loss are means over.

    Attributes:
        answers: labeled tokens, where there is a label per token; else rows.
        tokens: tokens that are not padding, which hidden states are compared at.
    """

    answers: float
    tokens: float

    @classmethod
    def of(cls, batch: Mapping[str, Any]) -> Counts:
        """Count in one batch."""
        ids, labels = batch["input_ids"], batch.get("labels")
        per_token = (
            isinstance(labels, Tensor) and labels.shape == ids.shape and not labels.is_floating_point()
        )
        answers = (cast(Tensor, labels) != IGNORED).sum() if per_token else len(ids)
        return cls(float(answers), float(batch["attention_mask"].sum()))


class StageTrainer(Trainer):
    """Trainer whose loss may come from a teacher, and whose rate may rewind.

    The gradient of a step is that of one large batch, however many batches are added up for it and whatever
    their sizes: every batch counts by its rows, or by its labeled tokens where there is a label per token.

    Args:
        distillation: the loss that replaces the model's own; see ``pruning.DistillationLoss``.
        rates: a learning rate that starts again at given steps, in place of one linear decay.
    """

    def __init__(
        self,
        *args: Any,
        distillation: Optional[Learned] = None,
        rates: Optional[RewindingLearningRate] = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._distillation = distillation
        self._rates = rates
        # The Trainer takes a model's **kwargs for a promise to divide its loss by the items of all batches
        # of a step, which only some models of transformers keep. Without the flag the model gives the mean
        # of each batch, which the Trainer divides by the number of batches; compute_loss does the rest.
        self.model_accepts_loss_kwargs = False
        self._together: Optional[Counts] = None

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Tuple[List[Any], Any]:
        """The batches of one step; what their losses are means over is counted, over all processes."""
        batches, items = super().get_batch_samples(*args, **kwargs)
        self._together = None
        if batches and (len(batches) > 1 or self.args.world_size > 1):
            counted = torch.tensor([Counts.of(batch) for batch in batches], dtype=torch.float64).sum(dim=0)
            if self.args.world_size > 1:
                # The gradients of processes are averaged, so each divides by the mean count.
                shared = self.accelerator.reduce(counted.float().to(self.args.device), "sum")
                counted = cast(Tensor, shared).double().cpu() / self.args.world_size
            self._together = Counts(*counted.tolist())
        return batches, items

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """The loss of one batch, times the share that the batch has in its step."""
        counts = Counts.of(inputs)
        hidden: Optional[Tensor] = None
        if self._distillation is None:
            loss, outputs = super().compute_loss(model, inputs, return_outputs=True)
        else:
            loss, hidden, outputs = self._distillation.parts(model, inputs)
        if counts.answers == 0:
            loss = outputs["logits"].sum() * 0.0  # a mean over no token would be NaN
        together = self._together
        if together is not None:
            # The Trainer divides by the number of batches afterward.
            batches = self.current_gradient_accumulation_steps
            loss = loss * (batches * counts.answers / max(together.answers, 1.0))
            if hidden is not None:
                hidden = hidden * (batches * counts.tokens / together.tokens)
        if hidden is not None:
            loss = loss + hidden
        return (loss, outputs) if return_outputs else loss

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        dataset = cast(FeatureDataset, self.train_dataset if train_dataset is None else train_dataset)
        return LengthGroupedSampler(dataset.lengths, self.args.train_batch_size, self.args.seed)

    def take(self, checkpoint: Path) -> None:
        """Load the model of a checkpoint after the last step: resuming there, the Trainer would train on."""
        self._load_from_checkpoint(str(checkpoint))
        self.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        handler = self.callback_handler
        handler.train_dataloader = self.get_train_dataloader()
        self.control = handler.on_train_begin(self.args, self.state, self.control)
        self.control = handler.on_train_end(self.args, self.state, self.control)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """The linear decay of the arguments, or the rates given."""
        if self._rates is None:
            return super().create_scheduler(num_training_steps, optimizer)
        if self.lr_scheduler is None:
            self.lr_scheduler = self._rates.scheduler(
                cast(Optimizer, optimizer or self.optimizer), steps_per_epoch=1
            )
        return self.lr_scheduler


@contextlib.contextmanager
def training_mode(model: nn.Module, options: Training) -> Iterator[None]:
    """Apply ``dropout`` and ``freeze_embeddings`` while training, and take them back after."""
    dropouts = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    before = [module.p for module in dropouts]
    frozen = [
        parameter
        for name, parameter in model.named_parameters()
        if options.freeze_embeddings and "embeddings." in name and parameter.requires_grad
    ]
    for parameter in frozen:
        parameter.requires_grad_(False)
    if options.dropout is not None:
        for module in dropouts:
            module.p = options.dropout
    try:
        yield
    finally:
        for module, probability in zip(dropouts, before):
            module.p = probability
        for parameter in frozen:
            parameter.requires_grad_(True)


@contextlib.contextmanager
def flushed_denormals() -> Iterator[None]:
    """Treat denormal floats as zero within the ``with`` block: they slow pruned models several-fold on x86.

    The CPU's mode is given back afterward, so that what runs later in the process computes as it does in a
    process of its own.
    """
    smallest = torch.tensor(torch.finfo(torch.float32).tiny)
    flushed = bool((smallest / 2 == 0).item())
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(flushed)


def train(
    model: nn.Module,
    features: Sequence[Feature],
    options: Training,
    work: Path,
    *,
    distillation: Optional[Learned] = None,
    rates: Optional[RewindingLearningRate] = None,
    pad_token_id: int = 0,
    callbacks: Sequence[TrainerCallback] = (),
    log_extra: Optional[Callable[[], Dict[str, float]]] = None,
    augment: Optional[Callable[[Feature, int], Feature]] = None,
    score: Optional[Callable[[nn.Module], float]] = None,
    bar: Optional[ProgressCallback] = None,
    name: str = "training",
) -> TrainingFigures:
    """Train ``model`` in place.

    Checkpoints go to ``work/checkpoints``; when some are there already, training goes on from the
    last one and ends with the very weights it would have ended with. Batches hold rows of similar
    length and are padded to their longest row. Several devices: start the command with ``torchrun`` or
    ``accelerate launch``.

    Args:
        model: a transformers model.
        features: the train split.
        options: steps, rates, precision.
        work: folder for checkpoints, ``train_log.csv`` and TensorBoard events.
        distillation: loss against a teacher, in place of the model's own.
        rates: learning rate per step with rewinds, in place of one linear decay.
        pad_token_id: of the tokenizer.
        callbacks: further Trainer callbacks (pruning, QAT).
        log_extra: values for the log's other columns.
        augment: see :meth:`Task.augment`.
        score: metric of the model, every ``options.evaluate_steps`` steps.
        bar: shows progress; None: nothing is shown.
        name: what is trained, for the line that says where training goes on.

    Raises:
        UsageError: ``fp16`` without a GPU.
        ObertEdgeError: the disk has no room for a checkpoint.
    """
    if options.precision == "fp16" and not torch.cuda.is_available():
        raise UsageError("precision fp16 needs a GPU, and there is none", hint="use bf16 or fp32")
    began = time.monotonic()
    work.mkdir(parents=True, exist_ok=True)
    steps = total_steps(options, len(features))
    arguments = TrainingArguments(
        output_dir=str(work / CHECKPOINTS),
        per_device_train_batch_size=options.batch_size,
        gradient_accumulation_steps=options.accumulate,
        max_steps=steps,
        learning_rate=options.learning_rate,
        lr_scheduler_type="polynomial",
        lr_scheduler_kwargs={"power": 1.0, "lr_end": options.final_learning_rate},
        warmup_steps=round(options.warmup * steps),
        weight_decay=options.weight_decay,
        optim="adamw_torch_fused",
        bf16=options.precision == "bf16",
        fp16=options.precision == "fp16",
        seed=options.seed,
        save_strategy="steps",
        save_steps=options.save_steps or max(1, steps // 10),
        logging_steps=max(1, min(20, steps // 10)),
        logging_nan_inf_filter=False,  # a loss that is no number is told, not replaced by those before it
        report_to="none",
        disable_tqdm=True,
        dataloader_num_workers=0,
        use_cpu=not torch.cuda.is_available(),
        label_names=["labels", "start_positions", "end_positions"],
        # What the loss of embeddings needs beside the model's inputs; it hands the model only these.
        remove_unused_columns=not isinstance(distillation, EmbeddingDistillation),
    )
    log = LogCallback(work, log_extra, score, options.evaluate_steps)
    shown: List[TrainerCallback] = [bar] if bar else []
    trainer = StageTrainer(
        model=model,
        args=arguments,
        train_dataset=FeatureDataset(features, augment),
        data_collator=PadCollator(pad_token_id),
        callbacks=[log, *callbacks, *shown, CompleteCheckpoint()],
        distillation=distillation,
        rates=rates,
    )
    from transformers.trainer_callback import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    last = last_complete_checkpoint(work / CHECKPOINTS)
    if last is not None and is_main_process():
        _log.warning("%s: going on from step %d of %d", name, step_of(last), steps)
    if options.gradient_checkpointing:
        model.gradient_checkpointing_enable()  # type: ignore[operator]
    try:
        with (
            whole_checkpoints(work / CHECKPOINTS),
            contextlib.closing(log),
            flushed_denormals(),
            training_mode(model, options),
            quiet_transformers(),
        ):
            if last is not None and step_of(last) >= steps:
                trainer.take(last)
            else:
                check_room(work, "a checkpoint", checkpoint_bytes(model))
                trainer.train(resume_from_checkpoint=str(last) if last else None)
    finally:
        if bar:
            bar.close()
        if options.gradient_checkpointing:
            model.gradient_checkpointing_disable()  # type: ignore[operator]
    if trainer.state.global_step < steps:
        raise ObertEdgeError(
            f"training ended after {trainer.state.global_step} of {steps} steps",
            hint="run the same command again, which goes on from the last checkpoint; if it stays, report it",
        )
    return TrainingFigures(
        steps=float(steps),
        seconds=round(time.monotonic() - began, 1),
        loss=next((row["loss"] for row in reversed(trainer.state.log_history) if "loss" in row), None),
    )


def checkpoint_bytes(model: nn.Module) -> int:
    """About what a checkpoint takes: the weights, and Adam's two moments of those that are trained."""
    return sum(
        parameter.numel() * parameter.element_size() * (3 if parameter.requires_grad else 1)
        for parameter in model.parameters()
    )


def make_score(
    task: Task,
    tokenizer: Any,
    options: Training,
    pad_token_id: int,
    read: Optional[AnswerReader] = None,
) -> Optional[Callable[[nn.Module], float]]:
    """The task's deciding metric on split ``tune``, else ``dev``; None: none was asked for, or there is none.

    Args:
        task: in the terms of the model's head.
        tokenizer: the model's.
        options: how often, and the size of batches.
        pad_token_id: of the tokenizer.
        read: see :func:`answer_features`.
    """
    split = next((name for name in ("tune", "dev") if name in task.splits), None)
    if options.evaluate_steps is None or split is None or not task.scores(split):
        return None
    features = task.features(split, tokenizer, max_length=options.max_length, limit=_SCORED_ROWS)

    def score(model: nn.Module) -> float:
        answers = answer_features(
            model,
            features,
            pad_token_id=pad_token_id,
            batch_size=options.batch_size,
            condense=task.condense,
            read=read,
        )
        return task.score(split, features, answers)[task.metric]

    return score


def make_distillation(
    plan: Distillation,
    source: Path,
    task: Task,
    layers: Optional[Sequence[int]] = None,
    max_length: Optional[int] = None,
) -> Optional[Learned]:
    """The loss against a teacher, or ``None`` when ``plan`` gives it no weight.

    Args:
        plan: teacher, hardness, temperature, hidden states.
        source: the folder the stage starts from; the teacher unless the plan names one.
        task: the task of teacher and student.
        layers: the teacher's layer for each of the student's; default: evenly spaced.
        max_length: tokens of the longest feature; default: the task's.

    Raises:
        CheckpointError: the teacher is missing, is not fine-tuned on a task, has other labels or
            another vocabulary, or fewer positions than the longest feature.
    """
    if plan.none:
        return None
    folder = model_folder(plan.teacher) if plan.teacher is not None else source
    theirs, ours = read_config(folder), read_config(source)
    if not has_head(folder, theirs, task):
        head = "is no embedder" if task.head == ENCODER else f"has no {task.head} head"
        raise CheckpointError(
            f"the teacher {folder} {head} to learn from",
            hint="fine-tune it first (`obert-edge finetune`), name another --teacher, or set --hardness 0",
        )
    if plan.teacher is not None:
        check_head(folder, theirs, task)
    if theirs.get("vocab_size") != ours.get("vocab_size"):
        raise CheckpointError(
            f"the teacher {folder} knows {theirs.get('vocab_size')} tokens, "
            f"{source} {ours.get('vocab_size')}",
            hint="teacher and student read the same token ids: use a teacher with the same tokenizer",
        )
    longest, length = longest_sequence(folder), max_length or task.default_length
    if length > longest:
        raise CheckpointError(
            f"the teacher {folder} has positions for {longest} tokens, features may have {length}",
            hint=f"use --max-length {longest} or less, or another teacher",
        )
    teacher: Any = load_model(folder, task)
    if task.head == ENCODER:
        ours_read, theirs_read = (SentenceEmbedding.of(place) for place in (source, folder))
        return EmbeddingDistillation(
            teacher,
            ours_read.compared,
            read_teacher=theirs_read.compared,
            similarities=plan.similarities,
            hidden_states=plan.hidden_states,
            layers=layers,
        )
    if len(task.classes) != teacher.config.num_labels and task.classes:
        raise CheckpointError(
            f"the teacher {folder} has {teacher.config.num_labels} classes, the model to train "
            f"{len(task.classes)}: {listed(task.classes)}",
            hint="use a teacher of the same classes, or set --hardness 0",
        )
    return DistillationLoss(
        teacher,
        hardness=plan.hardness,
        temperature=plan.temperature,
        hidden_states=plan.hidden_states,
        layers=layers,
        multi_label=task.problem_type == "multi_label",
    )
