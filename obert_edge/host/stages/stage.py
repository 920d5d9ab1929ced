"""What every stage shares: a work folder that survives a kill, and a report of what was done."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, Iterator, Optional, Sequence, cast

from obert_edge.errors import CheckpointError, ObertEdgeError
from obert_edge.files import atomic_file, atomic_folder
from obert_edge.host.data import Task
from obert_edge.host.pruning import DistillationLoss
from obert_edge.host.stages.logs import EVENTS, LOG_FILE
from obert_edge.host.stages.models import has_head, load_model, read_config
from obert_edge.host.stages.recipe import Distillation, Training

REPORT = "stage.json"
_IDENTITY = "identity.json"
#: Seconds the other processes wait for the main one.
_PATIENCE = 60


@contextlib.contextmanager
def stage_work(output: Path, stage: str, source: Path, task: Task, *options: Any) -> Iterator[Path]:
    """The folder ``.<output>.work`` beside a stage's output: checkpoints and logs while it runs.

    It is kept when the stage is interrupted, so that running the very same stage again goes on from
    the last checkpoint; :func:`remove_work` removes it when the output is in its place. What another
    stage, or the same with other options, has left there is thrown away.

    Args:
        output: the stage's output folder.
        stage: its name.
        source: the folder it starts from.
        task: of the stage.
        options: dataclasses and plain values; together they say what "the very same" means.
    """
    work = output.parent / f".{output.name}.work"
    identity = {
        "stage": stage,
        "source": str(source.resolve()),
        "task": task.name,
        "labels": list(task.labels),
        "options": [
            dataclasses.asdict(cast(Any, option)) if dataclasses.is_dataclass(option) else option
            for option in options
        ],
    }
    identity = json.loads(json.dumps(identity))  # as it will be read: tuples are lists
    record = work / _IDENTITY
    if not is_main_process():
        _wait_for(record, identity)
        yield work
        return
    if work.exists() and (not record.is_file() or json.loads(record.read_text("utf-8")) != identity):
        shutil.rmtree(work)
    work.mkdir(parents=True, exist_ok=True)
    with atomic_file(record) as path:
        path.write_text(json.dumps(identity), encoding="utf-8")
    yield work


def remove_work(output: Path) -> None:
    """Remove the work folder of a stage whose output is in its place."""
    if is_main_process():
        work = output.parent / f".{output.name}.work"
        # The record first: without it, what a kill leaves of the folder is not gone on with.
        (work / _IDENTITY).unlink(missing_ok=True)
        shutil.rmtree(work, ignore_errors=True)


def is_main_process() -> bool:
    """Whether this is the process that writes: rank 0 under ``torchrun`` or ``accelerate launch``."""
    return os.environ.get("RANK", "0") == "0"


@contextlib.contextmanager
def stage_folder(output: Path, *, overwrite: bool) -> Iterator[Path]:
    """The folder a stage writes, whole or not at all; processes other than the main one write to nowhere.

    Raises:
        UsageError: the output exists.
    """
    if is_main_process():
        with atomic_folder(output, overwrite=overwrite) as folder:
            yield folder
    else:
        with tempfile.TemporaryDirectory() as nowhere:
            yield Path(nowhere)


def _wait_for(record: Path, identity: Dict[str, Any]) -> None:
    """Wait until the main process has put the work folder in order."""
    for _ in range(_PATIENCE * 10):
        with contextlib.suppress(OSError, ValueError):
            if json.loads(record.read_text("utf-8")) == identity:
                return
        time.sleep(0.1)
    raise ObertEdgeError(
        f"the main process did not prepare {record.parent} within {_PATIENCE} s",
        hint="all processes must see one file system, and run the same command",
    )


def write_report(
    folder: Path,
    work: Path,
    stage: str,
    task: Task,
    *,
    training: Training,
    figures: Dict[str, Any],
    **more: Any,
) -> Dict[str, Any]:
    """Write ``stage.json``, the training logs and the sparsity report into a finished stage's folder."""
    report = {
        "stage": stage,
        "task": task.name,
        "training": dataclasses.asdict(training),
        "figures": figures,
        **more,
    }
    (folder / REPORT).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if (work / LOG_FILE).is_file():
        shutil.copyfile(work / LOG_FILE, folder / LOG_FILE)
    if (work / EVENTS).is_dir():
        shutil.copytree(work / EVENTS, folder / EVENTS)
    return report


def make_distillation(
    plan: Distillation, source: Path, task: Task, layers: Optional[Sequence[int]] = None
) -> Optional[DistillationLoss]:
    """The loss against a teacher, or ``None`` when ``plan`` gives it no weight.

    Args:
        plan: teacher, hardness, temperature, hidden states.
        source: the folder the stage starts from; the teacher unless the plan names one.
        task: of both.
        layers: the teacher's layer for each of the student's; default: evenly spaced.

    Raises:
        CheckpointError: the teacher is missing, is not fine-tuned on a task, or has other labels or
            another vocabulary.
    """
    if plan.none:
        return None
    folder = Path(plan.teacher) if plan.teacher is not None else source
    theirs, ours = read_config(folder), read_config(source)
    if not has_head(theirs, task):
        raise CheckpointError(
            f"the teacher {folder} has no {task.head} head to learn from",
            hint="fine-tune it first (`obert-edge finetune`), name another --teacher, or set --hardness 0",
        )
    if theirs.get("vocab_size") != ours.get("vocab_size"):
        raise CheckpointError(
            f"the teacher {folder} knows {theirs.get('vocab_size')} tokens, "
            f"{source} {ours.get('vocab_size')}",
            hint="teacher and student read the same token ids: use a teacher with the same tokenizer",
        )
    return DistillationLoss(
        load_model(folder, task),
        hardness=plan.hardness,
        temperature=plan.temperature,
        hidden_states=plan.hidden_states,
        layers=layers,
    )
