"""One training run with transformers' own Trainer: distillation, logs, progress, resumption."""

from __future__ import annotations

import contextlib
import csv
import json
import math
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, cast

import torch
from torch import nn
from torch.optim import Optimizer
from transformers import Trainer, TrainerCallback, TrainingArguments

from obert_edge.pruning import DistillationLoss, RewindingLearningRate
from obert_edge.recipe import Training
from obert_edge.tasks import Feature
from obert_edge.workflow.batching import FeatureDataset, PadCollator
from obert_edge.workflow.models import quiet_transformers

CHECKPOINTS = "checkpoints"
LOG_FILE = "train_log.csv"
_LOG_FIELDS = ("step", "epoch", "loss", "learning_rate", "grad_norm", "sparsity", "seconds")


class StageTrainer(Trainer):
    """Trainer whose loss may come from a teacher, and whose rate may rewind.

    Args:
        distillation: the loss that replaces the model's own; see ``pruning.DistillationLoss``.
        rates: a learning rate that starts again at given steps, in place of one linear decay.
    """

    def __init__(
        self,
        *args: Any,
        distillation: Optional[DistillationLoss] = None,
        rates: Optional[RewindingLearningRate] = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._distillation = distillation
        self._rates = rates
        if distillation is not None:
            # The distillation loss is a mean over the batch: the Trainer must divide it by the
            # number of accumulated batches, which it does only without this flag.
            self.model_accepts_loss_kwargs = False

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """The loss of one batch."""
        if self._distillation is None:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        loss, outputs = self._distillation(model, inputs)
        return (loss, outputs) if return_outputs else loss

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """The linear decay of the arguments, or the rates given."""
        if self._rates is None:
            return super().create_scheduler(num_training_steps, optimizer)
        if self.lr_scheduler is None:
            self.lr_scheduler = self._rates.scheduler(
                cast(Optimizer, optimizer or self.optimizer), steps_per_epoch=1
            )
        return self.lr_scheduler


class LogCallback(TrainerCallback):
    """Append loss, learning rate and whatever ``extra`` returns to a CSV file, every logged step."""

    def __init__(self, path: Path, extra: Optional[Callable[[], Dict[str, float]]] = None) -> None:
        self._path = path
        self._extra = extra
        self._start = time.monotonic()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Forget rows of steps that were lost with a kill and will be done again."""
        if not state.is_world_process_zero or not self._path.exists():
            return
        with self._path.open(newline="", encoding="utf-8") as stream:
            kept = [row for row in csv.DictReader(stream) if int(row["step"]) <= state.global_step]
        with self._path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, _LOG_FIELDS)
            writer.writeheader()
            writer.writerows(kept)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Write one row; evaluation summaries without a loss are skipped."""
        if not state.is_world_process_zero or not logs or "loss" not in logs:
            return
        seconds = round(time.monotonic() - self._start, 1)
        row = {
            "step": state.global_step,
            "seconds": seconds,
            **logs,
            **(self._extra() if self._extra else {}),
        }
        new = not self._path.exists()
        with self._path.open("a", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, _LOG_FIELDS, extrasaction="ignore")
            if new:
                writer.writeheader()
            writer.writerow(row)


class ProgressCallback(TrainerCallback):
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
    """Optimiser steps of a run over ``rows`` features, shared by the processes of ``torchrun``."""
    if options.max_steps is not None:
        return options.max_steps
    per_step = options.batch_size * int(os.environ.get("WORLD_SIZE", "1"))
    return max(1, math.ceil(options.epochs * math.ceil(rows / per_step)))


def last_complete_checkpoint(folder: Path) -> Optional[Path]:
    """The newest checkpoint that was written to its end, or ``None``.

    The Trainer writes a checkpoint file by file, its state last, and removes the one before only
    then: after a kill the newest folder may be a torso. Torsos are removed.
    """
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    for checkpoint in reversed(found):
        try:
            json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            shutil.rmtree(checkpoint, ignore_errors=True)
        else:
            return checkpoint
    return None


def train(
    model: nn.Module,
    features: Sequence[Feature],
    options: Training,
    work: Path,
    *,
    title: str,
    distillation: Optional[DistillationLoss] = None,
    rates: Optional[RewindingLearningRate] = None,
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
        distillation: loss against a teacher, in place of the model's own.
        rates: learning rate per step with rewinds, in place of one linear decay.
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
        distillation=distillation,
        rates=rates,
    )
    from transformers.trainer_callback import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    checkpoints = work / CHECKPOINTS
    last = last_complete_checkpoint(checkpoints)
    try:
        with training_mode(model, options), quiet_transformers():
            result = trainer.train(resume_from_checkpoint=str(last) if last else None)
    finally:
        if bar:
            bar.close()
    return {
        "steps": float(steps),
        "seconds": float(result.metrics["train_runtime"]),
        "loss": float(result.training_loss),
    }
