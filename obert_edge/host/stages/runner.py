"""Runs a stage: its folders, the resumption of an interrupted run, its logs and its report."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Optional, Union, cast

from obert_edge.errors import CheckpointError, DataError, UsageError
from obert_edge.files import check_apart, check_folder
from obert_edge.host.checkpoints.checkpoint import CONFIG, read_model_config
from obert_edge.host.data.base import ENCODER
from obert_edge.host.hub.download import model_folder
from obert_edge.host.hub.source import keep_source
from obert_edge.host.options import Settings
from obert_edge.host.stages.companions import transformer_folder
from obert_edge.host.stages.folders import (
    EVENTS,
    LOG_FILE,
    output_folder,
    remove_work,
    work_folder,
    write_json,
)
from obert_edge.host.stages.reports import StageReport
from obert_edge.host.stages.settings import Rows, training_of
from obert_edge.host.stages.stage import REPORT, S, Stage, StageRun
from obert_edge.packages import require_packages

if TYPE_CHECKING:
    from obert_edge.host.data import Task


#: What a model is made of: its weights, its configuration and its tokenizer.
_MODEL_SUFFIXES = (".safetensors", ".bin", ".json", ".txt", ".model")


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
        model: folder of the model it starts from, or its name on a hub.
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
        HubError: it is not on the hub, or that cannot be reached.
        DataError: the data cannot be used.
    """
    source, target = Path(model), Path(output)
    Rows.check(limit=limit)
    check_stage(stage, settings, task)
    check_output(stage, source, target, overwrite=overwrite)
    source = model_folder(source)
    check_folder_is_model(source)
    features = f"features of stage {stage.name}"
    task = _with_head(stage, settings, source, with_length(settings, source, task, features))

    def run(place: Path, work: Path) -> StageReport:
        as_it_is = not stage.needs_labels(settings)
        told = StageRun(stage.name, source, task, place, work, limit, progress, as_it_is)
        figures = stage.apply(told, settings)
        name = None if task is None else task.name
        return StageReport(stage.name, name, stage.recorded(settings), figures, target)

    if stage.writes_file:
        return run(target, target.parent)
    identity = {
        "stage": stage.name,
        "source": [str(source.resolve()), _files(source)],
        "task": None if task is None else task.identity(),
        "settings": dataclasses.asdict(cast(Any, settings)),
        "named": {name: _files(Path(name)) for name in sorted(_paths(settings))},
        "limit": limit,
    }
    with output_folder(target, overwrite=overwrite) as folder, work_folder(target, identity) as work:
        report = dataclasses.replace(run(folder, work), sparsity=_sparsity(folder))
        keep_source(source, folder)
        write_json(folder / REPORT, report.to_dict())
        if (work / LOG_FILE).is_file():
            shutil.copyfile(work / LOG_FILE, folder / LOG_FILE)
        if (work / EVENTS).is_dir():
            shutil.copytree(work / EVENTS, folder / EVENTS)
    remove_work(target)
    return report


def check_stage(stage: Stage[S], settings: S, task: Optional[Task]) -> None:
    """Refuse a stage that cannot do what it was told with the task there is.

    Raises:
        UsageError: it needs a task, its settings do not go together, or a package is not installed.
        DataError: it learns from labels, and the task has none.
    """
    require_packages(f"stage {stage.name}", stage.needed_packages(settings))
    if task is None and stage.needs_task:
        raise UsageError(f"stage {stage.name} needs a task", hint="name one with --task and --data")
    check_settings(stage, settings, task)


def check_settings(stage: Stage[S], settings: S, task: Optional[Task]) -> None:
    """As :func:`check_stage`, whether the packages are installed or not, and the task is at hand or not.

    Raises:
        UsageError: the settings do not go together.
        DataError: it learns from labels, and the task has none.
    """
    stage.check(settings, task)
    _check_teacher(settings, task)
    if task is not None and not task.labeled and stage.needs_labels(settings):
        raise DataError(
            f"stage {stage.name} learns from labels, and the rows of task {task.name!r} have none",
            hint="add labels, or prune with --epochs 0 --method wanda, sparsegpt or magnitude",
        )


def _check_teacher(settings: Settings, task: Optional[Task]) -> None:
    """Refuse to train an embedder on anything but a teacher.

    Raises:
        UsageError: labels are asked for, or there is nobody to learn from.
    """
    training = training_of(settings)
    if task is None or task.head != ENCODER or training is None or training.none:
        return
    plan = getattr(settings, "distillation", None)
    if plan is None:
        raise UsageError(
            f"task {task.name!r} has no labels: an embedder learns from a teacher, and there is none",
            hint="name the dense model with --teacher (in a recipe `distillation: {teacher: ...}`)",
        )
    if plan.hardness < 1.0:
        raise UsageError(
            f"hardness is {plan.hardness:g}, and task {task.name!r} has no labels to mix in",
            hint="leave --hardness out",
        )


def check_output(stage: Stage[Any], source: Path, target: Path, *, overwrite: bool = False) -> None:
    """Refuse an output that cannot be written, or that would take the place of the input.

    Raises:
        UsageError: it is of the other kind, is there already, or is the input or part of it.
        ObertEdgeError: its folder cannot be written.
    """
    if not stage.writes_file:
        check_folder(target, overwrite=overwrite)
        if (source / CONFIG).is_file():  # else it is no model, which is said where it is read
            check_apart(target, source, replaced=overwrite)
        return
    from obert_edge.host.compiler.checks import check_output as check_bundle

    check_bundle(target, source)


def check_folder_is_model(source: Path) -> None:
    """Refuse what is no model folder, before another is made.

    Raises:
        CheckpointError: it is none.
    """
    inner = transformer_folder(source)
    if inner:
        raise CheckpointError(
            f"{source} holds modules of sentence-transformers, its transformer in {inner}",
            hint=f"name {source / inner}, and give `build` the pooling of the other modules (--pooling)",
        )
    read_model_config(source)


def with_length(
    settings: Settings, source: Path, task: Optional[Task], what: str = "features"
) -> Optional[Task]:
    """The task with features that the model has positions for; ``what``: see ``fitted_to``.

    Raises:
        UsageError: more are asked for than the model has positions for.
    """
    training = training_of(settings)
    if task is None or training is None:
        return task
    from obert_edge.host.stages.lengths import fitted_to

    return fitted_to(source, task, training.max_length, what)


def _with_head(stage: Stage[S], settings: S, source: Path, task: Optional[Task]) -> Optional[Task]:
    """The task in the terms of the model's head, for a stage that learns from labels.

    Raises:
        CheckpointError: the head does not fit.
        DataError: there is one class alone.
    """
    if task is None or not stage.needs_task:
        return task
    if not stage.needs_labels(settings) and task.head != ENCODER:
        return task
    from obert_edge.host.stages.models import check_head

    fitted = check_head(source, read_model_config(source), task, new_head=stage.makes_head)
    if len(fitted.classes) == 1 and task.problem_type not in ("regression", "multi_label"):
        raise DataError(
            f"task {task.name!r} has the one label {task.labels[0]!r}: a model that always answers it has "
            "nothing to learn",
            hint="give data with two labels or more, or name them all with --label",
        )
    return fitted


def _files(place: Path) -> Dict[str, List[int]]:
    """Size and time of last change of a file, or of a model folder's: weights are too large to be read.

    An interrupted run must not go on with another model in the place of the one it began with.
    """
    paths = [place]
    if place.is_dir():
        paths = sorted(path for path in place.iterdir() if path.suffix in _MODEL_SUFFIXES)
    facts = {path.name: path.stat() for path in paths if path.is_file()}
    return {name: [fact.st_size, fact.st_mtime_ns] for name, fact in facts.items()}


def _paths(settings: Settings) -> Iterator[str]:
    """The files and folders that settings name, such as a teacher."""
    for one in settings.options():
        value = getattr(settings, one.name)
        if one.declared.path and value is not None:
            yield from value if one.several else [value]
    for name in settings.parts():
        below = getattr(settings, name)
        if below is not None:
            yield from _paths(below)


def _sparsity(folder: Path) -> Optional[float]:
    from obert_edge.host.stages.sparsity import read_sparsity

    return read_sparsity(folder)
