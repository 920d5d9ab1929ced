"""One training run with transformers' own Trainer: distillation, logs, progress, resumption."""

from __future__ import annotations

import contextlib
import csv
import inspect
import math
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence

import torch
from torch import nn
from torch.nn import functional as F
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from obert_edge.recipe import Training
from obert_edge.tasks import Feature
from obert_edge.workflow.batching import FeatureDataset, PadCollator

CHECKPOINTS = "checkpoints"
LOG_FILE = "train_log.csv"
_LOG_FIELDS = ("step", "epoch", "loss", "learning_rate", "grad_norm", "sparsity", "seconds")


class StageTrainer(Trainer):
    """Trainer whose loss may come from a teacher.

    ``total = (1 - h) * task + h * T^2 * KL(teacher || student)``, the KL summed over classes and
    averaged over the batch and over the output keys (oBERT: start and end logits alike); for
    regression (one class) the mean squared difference of the outputs takes the place of the KL.

    Args:
        teacher: a fine-tuned model of the same task, or ``None`` for the task's loss alone.
        hardness: the weight ``h`` of the teacher; 1 leaves no label loss at all.
        temperature: ``T``.
    """

    def __init__(
        self,
        *args: Any,
        teacher: Optional[nn.Module] = None,
        hardness: float = 1.0,
        temperature: float = 2.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._teacher = teacher.eval().requires_grad_(False) if teacher is not None else None
        if self._teacher is not None:
            self._teacher.to(self.args.device)
            self._teacher_inputs = set(inspect.signature(self._teacher.forward).parameters)
        self._hardness = hardness
        self._temperature = temperature

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Optional[torch.Tensor] = None,
    ) -> Any:
        """The loss of one batch; see the class."""
        if self._teacher is None:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        outputs = model(**inputs)
        with torch.no_grad():
            expected = self._teacher(**{k: v for k, v in inputs.items() if k in self._teacher_inputs})
        loss = self._hardness * distillation_loss(
            outputs, expected, self._temperature, inputs["attention_mask"]
        ) + (1 - self._hardness) * outputs["loss"]
        return (loss, outputs) if return_outputs else loss


def distillation_loss(
    student: Any, teacher: Any, temperature: float, attention_mask: torch.Tensor
) -> torch.Tensor:
    """``T^2 * KL(teacher || student)`` of softened outputs, batch mean, mean over output keys.

    Args:
        student: model output with ``logits`` [batch, classes] or [batch, tokens, classes], or with
            ``start_logits`` and ``end_logits`` [batch, tokens].
        teacher: the same keys and shapes.
        temperature: ``T``.
        attention_mask: 0 where a token is padding; padding never counts.
    """
    losses = []
    for key in (key for key in student if key.endswith("logits")):
        ours, theirs = student[key].float(), teacher[key].float()
        if ours.shape[-1] == 1:
            losses.append(F.mse_loss(ours, theirs))
            continue
        if key in ("start_logits", "end_logits"):
            padding = attention_mask == 0
            ours, theirs = ours.masked_fill(padding, -1e4), theirs.masked_fill(padding, -1e4)
        elif ours.ndim == 3:
            ours, theirs = ours[attention_mask == 1], theirs[attention_mask == 1]
        divergence = F.kl_div(
            F.log_softmax(ours / temperature, dim=-1),
            F.log_softmax(theirs / temperature, dim=-1),
            log_target=True,
            reduction="batchmean",
        )
        losses.append(divergence * temperature**2)
    return torch.stack(losses).mean()


class LogCallback(TrainerCallback):  # type: ignore[misc]
    """Append loss, learning rate and whatever ``extra`` returns to a CSV file, every logged step."""

    def __init__(self, path: Path, extra: Optional[Callable[[], Dict[str, float]]] = None) -> None:
        self._path = path
        self._extra = extra

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Write one row; evaluation summaries without a loss are skipped."""
        if not state.is_world_process_zero or not logs or "loss" not in logs:
            return
        row = {"step": state.global_step, **logs, **(self._extra() if self._extra else {})}
        new = not self._path.exists()
        with self._path.open("a", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, _LOG_FIELDS, extrasaction="ignore")
            if new:
                writer.writeheader()
            writer.writerow(row)


class ProgressCallback(TrainerCallback):  # type: ignore[misc]
    """A bar with loss and time left, on stderr."""

    def __init__(self, title: str) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[loss]}"),
            console=Console(file=sys.stderr),
        )
        self._title = title
        self._task: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Show the bar at the step training starts or resumes from."""
        self._bar.start()
        self._task = self._bar.add_task(
            self._title, total=state.max_steps, completed=state.global_step, loss=""
        )

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Advance."""
        self._bar.update(self._task, completed=state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Show the loss."""
        if logs and "loss" in logs:
            self._bar.update(self._task, loss=f"loss {float(logs['loss']):.4f}")

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Close the bar."""
        self.close()

    def close(self) -> None:
        """Restore the terminal; also called when training is interrupted."""
        self._bar.stop()


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


def total_steps(options: Training, rows: int) -> int:
    """Optimiser steps of a run over ``rows`` features on one device."""
    if options.max_steps is not None:
        return options.max_steps
    return max(1, math.ceil(options.epochs * math.ceil(rows / options.batch_size)))


def train(
    model: nn.Module,
    features: Sequence[Feature],
    options: Training,
    work: Path,
    *,
    title: str,
    teacher: Optional[nn.Module] = None,
    hardness: float = 1.0,
    temperature: float = 2.0,
    pad_token_id: int = 0,
    callbacks: Sequence[TrainerCallback] = (),
    log_extra: Optional[Callable[[], Dict[str, float]]] = None,
    progress: bool = True,
) -> Dict[str, float]:
    """Train ``model`` in place.

    Checkpoints go to ``work/checkpoints``; when some are there already, training goes on from the
    last one. Batches hold rows of similar length and are padded to their longest row. Several
    devices: start the command with ``torchrun`` or ``accelerate launch``.

    Args:
        model: a transformers model.
        features: the train split.
        options: steps, rates, precision.
        work: folder for checkpoints and ``train_log.csv``.
        title: shown beside the progress bar.
        teacher: distil from it; see :class:`StageTrainer`.
        hardness: weight of the teacher's loss.
        temperature: of the teacher's loss.
        pad_token_id: of the tokenizer.
        callbacks: further Trainer callbacks (pruning, QAT).
        log_extra: values for the log's other columns.
        progress: show a progress bar.

    Returns:
        ``steps``, ``seconds`` of this call, and the mean ``loss``.
    """
    torch.set_flush_denormal(True)  # denormals of pruned models slow x86 several-fold
    work.mkdir(parents=True, exist_ok=True)
    steps = total_steps(options, len(features))
    arguments = TrainingArguments(
        output_dir=str(work / CHECKPOINTS),
        per_device_train_batch_size=options.batch_size,
        max_steps=steps,
        learning_rate=options.learning_rate,
        lr_scheduler_type="polynomial",
        lr_scheduler_kwargs={"power": 1.0, "lr_end": options.final_learning_rate},
        warmup_steps=round(options.warmup * steps),
        weight_decay=options.weight_decay,
        optim="adamw_torch_fused",
        bf16=options.precision == "bf16",
        seed=options.seed,
        train_sampling_strategy="group_by_length",
        save_strategy="steps",
        save_steps=options.save_steps or max(1, steps // 10),
        save_total_limit=1,
        logging_steps=max(1, min(20, steps // 10)),
        report_to="none",
        disable_tqdm=True,
        dataloader_num_workers=0,
        use_cpu=not torch.cuda.is_available(),
        label_names=["labels", "start_positions", "end_positions"],
    )
    extra: List[TrainerCallback] = [LogCallback(work / LOG_FILE, log_extra), *callbacks]
    bar = ProgressCallback(title) if progress else None
    trainer = StageTrainer(
        model=model,
        args=arguments,
        train_dataset=FeatureDataset(features),
        data_collator=PadCollator(pad_token_id),
        callbacks=extra + ([bar] if bar else []),
        teacher=teacher,
        hardness=hardness,
        temperature=temperature,
    )
    from transformers.trainer_callback import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    checkpoints = work / CHECKPOINTS
    last = get_last_checkpoint(str(checkpoints)) if checkpoints.is_dir() else None
    try:
        with training_mode(model, options):
            result = trainer.train(resume_from_checkpoint=last)
    finally:
        if bar:
            bar.close()
    return {
        "steps": float(steps),
        "seconds": float(result.metrics["train_runtime"]),
        "loss": float(result.training_loss),
    }
