"""The data of a stage called from Python: a task, and in words what to give where something else is given."""

from __future__ import annotations

import functools
import inspect
from typing import Any, Callable, TypeVar, cast

from obert_edge.errors import UsageError
from obert_edge.host.data.base import Task

Function = TypeVar("Function", bound=Callable[..., Any])


def takes_task(function: Function) -> Function:
    """Tell who gives a task's name, or its data, to a function that takes a task how to load one.

    Args:
        function: one of its arguments is ``task``.
    """
    place = list(inspect.signature(function).parameters).index("task")

    @functools.wraps(function)
    def checked(*arguments: Any, **named: Any) -> Any:
        task = named.get("task", arguments[place] if len(arguments) > place else None)
        wrong = "data" in named or not (task is None or isinstance(task, Task))
        if wrong:
            name = task if isinstance(task, str) else "sst2"
            data = str(named.get("data", "DIR"))
            found = "data=" if "data" in named else f"the {type(task).__name__} {str(task)[:60]!r}"
            raise UsageError(
                f"{function.__name__} was given {found}; expected a task, which has its data with it",
                hint="from obert_edge.host.data import load_task, and give "
                f"task=load_task({name!r}, {data!r})",
            )
        return function(*arguments, **named)

    return cast(Function, checked)
