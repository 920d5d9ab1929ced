"""What a training run tells while it runs: a CSV file, TensorBoard events, and a bar."""

from __future__ import annotations

import csv
import logging
import math
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

from torch import nn
from transformers import TrainerCallback

from obert_edge.errors import ObertEdgeError
from obert_edge.files import atomic_file
from obert_edge.host.stages.folders import EVENTS, LOG_FILE
from obert_edge.progress import Lines

FIELDS = ("step", "epoch", "loss", "learning_rate", "grad_norm", "sparsity", "metric", "seconds")
_SERIES = ("loss", "learning_rate", "grad_norm", "sparsity", "metric")

_log = logging.getLogger(__name__)


class LogCallback(TrainerCallback):
    """Append loss, learning rate, sparsity and metric to a CSV file and TensorBoard, every logged step.

    Args:
        folder: where the files go.
        extra: further columns of a row.
        score: the metric of a model; None: no scores while training.
        every: steps between scores.
    """

    def __init__(
        self,
        folder: Path,
        extra: Optional[Callable[[], Dict[str, float]]] = None,
        score: Optional[Callable[[nn.Module], float]] = None,
        every: Optional[int] = None,
    ) -> None:
        self._path = folder / LOG_FILE
        self._events = folder / EVENTS
        self._extra = extra
        self._score = score
        self._every = every
        self._metric: Optional[float] = None
        self._writer: Any = None
        self._start = time.monotonic()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Remove the rows of steps after the checkpoint that the run goes on from: they are done again."""
        if not state.is_world_process_zero:
            return
        self._writer = _event_writer(self._events, state.global_step)
        if self._path.exists():
            kept = [row for row in read_log(self._path) if int(row["step"]) <= state.global_step]
            with atomic_file(self._path) as path, path.open("w", newline="", encoding="utf-8") as stream:
                writer = csv.DictWriter(stream, FIELDS)
                writer.writeheader()
                writer.writerows(kept)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Score the model when it is time, and ask for a row to write it in."""
        due = self._every is not None and state.global_step % self._every == 0
        if self._score is not None and due and state.is_world_process_zero:
            self._metric = self._score(model)
            control.should_log = True

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Write one row; evaluation summaries without a loss are skipped.

        Raises:
            ObertEdgeError: the loss is not a number: training has diverged.
        """
        if logs and not math.isfinite(logs.get("loss", 0.0)):
            raise ObertEdgeError(
                f"training diverged: the loss is {logs['loss']} at step {state.global_step}",
                hint="use a lower learning rate (--learning-rate), a longer --warmup, or --precision fp32",
            )
        if not state.is_world_process_zero or not logs or "loss" not in logs:
            return
        row = {
            "step": state.global_step,
            "seconds": round(time.monotonic() - self._start, 1),
            **logs,
            **(self._extra() if self._extra else {}),
        }
        if self._metric is not None:
            row["metric"], self._metric = self._metric, None
        new = not self._path.exists()
        with self._path.open("a", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, FIELDS, extrasaction="ignore")
            if new:
                writer.writeheader()
            writer.writerow(row)
        if self._writer is not None:
            for name in _SERIES:
                if name in row:
                    self._writer.add_scalar(f"train/{name}", float(row[name]), state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Close the files."""
        self.close()

    def close(self) -> None:
        """Write the events that are still in memory; also called when training is interrupted."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def read_log(path: Path) -> List[Dict[str, str]]:
    """The whole rows of a log; one that a kill cut off is left out."""
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    return [row for row in rows if str(row.get("step")).isdigit() and None not in row.values()]


def _event_writer(folder: Path, step: int) -> Any:
    """A TensorBoard writer that takes the place of events after ``step``, or None."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        _log.info("no TensorBoard events: pip install tensorboard to get them (the CSV log has the same)")
        return None
    writer: Any = SummaryWriter  # untyped
    return writer(str(folder), purge_step=step + 1)


def _time_left(title: str, work: Lines) -> Any:
    """A column of a bar with the time that is left, and for training the one that counts pruning steps."""
    from rich.progress import Task, TimeRemainingColumn
    from rich.text import Text

    class Column(TimeRemainingColumn):
        def render(self, task: Task) -> Text:
            if task.description != title:
                return super().render(task)
            seconds = work.seconds_left(title)
            left = "-:--:--" if seconds is None else str(timedelta(seconds=round(seconds)))
            return Text(left, style="progress.remaining")

    return Column()


class ProgressCallback(TrainerCallback):
    """Loss and time left on stderr, and how far a pruning step is: bars on a terminal, lines in a log.

    Args:
        title: what is done.

    Attributes:
        pauses_from: how many pauses, such as pruning steps, there are from before an optimizer step on.
    """

    def __init__(self, title: str) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
        )

        console = Console(file=sys.stderr)
        self.pauses_from: Callable[[int], int] = lambda step: 0
        # On a terminal it writes nothing, and knows the time that is left.
        self._work = Lines(every=math.inf) if console.is_terminal else Lines()
        self._lines = None if console.is_terminal else self._work
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            _time_left(title, self._work),
            TextColumn("{task.fields[loss]}"),
            console=console,
        )
        self._title = title
        self._loss = ""
        self._task: Any = None
        self._inner: Dict[str, Any] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Show the bar at the step training starts or resumes from."""
        if self._lines is not None:
            self._lines.__enter__()
        self._work.show(self._title, state.global_step, state.max_steps)
        self._work.go_on(self._title, self.pauses_from(state.global_step))
        if self._lines is not None:
            return
        self._bar.start()
        self._task = self._bar.add_task(
            self._title, total=state.max_steps, completed=state.global_step, loss=""
        )

    def within_step(self, stage: str, done: int, total: int) -> None:
        """Show how far a pruning step is: a row per part of it, gone when the part is done."""
        self._work.rest(self._title)
        if self._lines is not None:
            if done < total:
                self._lines.show(stage, done, total)
            else:
                self._lines.drop(stage)
            return
        if stage not in self._inner:
            self._inner[stage] = self._bar.add_task(f"  {stage}", total=total, loss="")
        self._bar.update(self._inner[stage], completed=done, total=total)
        if done >= total:
            self._bar.remove_task(self._inner.pop(stage))

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A pruning step before this optimizer step, if there was one, is over."""
        self._work.go_on(self._title, self.pauses_from(state.global_step + 1))

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Advance."""
        self._work.go_on(self._title, self.pauses_from(state.global_step))
        self._work.show(self._title, state.global_step, state.max_steps, self._loss)
        if self._lines is not None:
            return
        for row in self._inner.values():
            self._bar.remove_task(row)
        self._inner.clear()
        self._bar.update(self._task, completed=state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Show the loss."""
        if logs and "loss" in logs:
            self._loss = f"loss {float(logs['loss']):.4f}"
            if self._lines is None:
                self._bar.update(self._task, loss=self._loss)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Close the bar."""
        self.close()

    def close(self) -> None:
        """Restore the terminal; also called when training is interrupted."""
        if self._lines is not None:
            self._lines.__exit__()
        else:
            self._bar.stop()
