"""Runs a stage: its folders, the resumption of an interrupted run, its logs and its report."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, List, Optional, Union, cast

from obert_edge.errors import UsageError
from obert_edge.host.checkpoints.checkpoint import read_model_config
from obert_edge.host.stages.folders import (
    EVENTS,
    LOG_FILE,
    output_folder,
    remove_work,
    work_folder,
    write_json,
)
from obert_edge.host.stages.reports import StageReport
from obert_edge.host.stages.stage import REPORT, S, Stage, StageRun

if TYPE_CHECKING:
    from obert_edge.host.data import Task


def run_stage(
    stage: Stage[S],
    model: Union[str, Path],
    task: Optional[Task],
    output: Union[str, Path],
    settings: S,
    *,
    limit: Optional[int] = None,
    progress: bool = True,
    overwrite: bool = False,
) -> StageReport:
    """Run one stage.

    Its output appears only when everything is in it. When the same stage was interrupted before, it goes on
    from its last checkpoint.

    Args:
        stage: what to do.
        model: folder of the model it starts from.
        task: from :func:`obert_edge.host.data.load_task`; None for a stage that needs none.
        output: the folder, or file, to write.
        settings: what the stage was told.
        limit: use only the first rows of train.
        progress: show progress on stderr.
        overwrite: replace an existing output.

    Returns:
        What ``stage.json`` of the output holds.

    Raises:
        UsageError: settings do not go together, or the output exists.
        CheckpointError: the model cannot be used.
        DataError: the data cannot be used.
    """
    source, target, fitted = Path(model), Path(output), task
    if task is None and stage.needs_task:
        raise UsageError(f"stage {stage.name} needs a task", hint="name one with --task and --data")
    stage.check(settings, task)

    def run(place: Path, work: Path) -> StageReport:
        figures = stage.apply(StageRun(stage.name, source, fitted, place, work, limit, progress), settings)
        name = None if task is None else task.name
        return StageReport(stage.name, name, stage.recorded(settings), figures, target)

    if stage.writes_file:
        return run(target, target.parent)
    config = read_model_config(source)  # whatever is no model is refused before a folder is made
    if task is not None and stage.needs_task and stage.needs_labels(settings):
        from obert_edge.host.stages.models import check_head

        fitted = check_head(source, config, task, new_head=stage.makes_head)
    identity = {
        "stage": stage.name,
        "source": str(source.resolve()),
        "task": None if fitted is None else _task_identity(fitted),
        "settings": dataclasses.asdict(cast(Any, settings)),
        "limit": limit,
    }
    with output_folder(target, overwrite=overwrite) as folder, work_folder(target, identity) as work:
        report = run(folder, work)
        write_json(folder / REPORT, report.to_dict())
        if (work / LOG_FILE).is_file():
            shutil.copyfile(work / LOG_FILE, folder / LOG_FILE)
        if (work / EVENTS).is_dir():
            shutil.copytree(work / EVENTS, folder / EVENTS)
    remove_work(target)
    return report


def _task_identity(task: Task) -> List[Any]:
    """What an interrupted run and the one that goes on must have in common: what labels mean to the model."""
    meaning = [] if task.classes == task.labels else [list(task.classes)]
    return [
        task.name,
        list(task.labels),
        *meaning,
        *([task.problem_type] if task.problem_type == "multi_label" else []),
    ]
