"""The options of ``run`` that the tasks bring: the fields of their pipelines, on the command line."""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, List, Sequence

from obert_edge.bundle.manifest import Manifest
from obert_edge.device.commands.option import TASK, Option, written
from obert_edge.device.pipelines import PIPELINES, TaskOption, bundle_options, task_options
from obert_edge.errors import UsageError

_HEADING = "Options of the task"


def declared() -> Sequence[Option]:
    """The options of all tasks, each once; what it is to each task stands in its help."""
    found: Dict[str, Dict[str, TaskOption]] = {}
    for task in PIPELINES:
        for name, option in task_options(task).items():
            found.setdefault(name, {})[task] = option
    return [_option(name, by_task) for name, by_task in found.items()]


def flag(name: str) -> str:
    """What a pipeline's field is called on the command line."""
    return f"--{name.replace('_', '-')}"


def require(manifest: Manifest, options: Dict[str, Any]) -> None:
    """Check options that a command line gave against what the bundle's task takes.

    Raises:
        UsageError: the task has no such option, or not this value of it.
    """
    own = bundle_options(manifest)
    for name, value in options.items():
        if name not in own:
            task = manifest.task
            kind = f" ({task.problem_type})" if task.problem_type else ""
            takes = ", ".join(map(flag, own))
            raise UsageError(
                f"{flag(name)} means nothing to this bundle, whose task is {task.type}{kind}",
                hint=f"leave it out; this bundle takes {takes or 'no options of its task'}",
            )
        own[name].check(value, flag(name))


def in_effect(manifest: Manifest, options: Dict[str, Any]) -> Dict[str, Any]:
    """The value of every option of the bundle's task in a run.

    Args:
        manifest: of the bundle.
        options: those that were given.

    Returns:
        By name; ``None`` where neither the user nor the manifest says anything.
    """
    values = {name: options.get(name, option.default) for name, option in bundle_options(manifest).items()}
    # What a pipeline leaves to the manifest has the same name there.
    return {
        name: getattr(manifest.task, name, None) if value is None else value for name, value in values.items()
    }


def _option(name: str, by_task: Dict[str, TaskOption]) -> Option:
    first = next(iter(by_task.values()))
    if any((one.kind, one.several) != (first.kind, first.several) for one in by_task.values()):
        raise TypeError(f"the tasks {', '.join(by_task)} have options {name!r} of different types")
    choices = [choice for one in by_task.values() for choice in one.choices]
    return Option(
        flag(name),
        " ".join(_sentences(by_task)),
        type=first.kind,
        repeatable=first.several,
        name=TASK + name,
        choices=tuple(dict.fromkeys(choices)) if all(one.choices for one in by_task.values()) else (),
        heading=_HEADING,
        metavar="TEXT" if first.kind is str else "",
    )


def _sentences(by_task: Dict[str, TaskOption]) -> List[str]:
    """One sentence for the tasks to which the option means the same."""
    alike: Dict[TaskOption, List[str]] = {}
    for task, option in by_task.items():
        alike.setdefault(_hashable(option), []).append(task)
    found = []
    for option, tasks in alike.items():
        help = option.help.replace("None:", "not given:").rstrip(".")
        default = "" if option.default in (None, (), []) else f"  [default: {_typed(option.default)}]"
        found.append(f"{', '.join(tasks)}: {help}{default}.")
    return found


def _typed(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ",".join(map(written, value)) if isinstance(value, (list, tuple)) else written(value)


def _hashable(option: TaskOption) -> TaskOption:
    default = tuple(option.default) if isinstance(option.default, list) else option.default
    return dataclasses.replace(option, default=default)
