"""The options of tasks: what the fields of a pipeline say about themselves.

A field is the one declaration of an option. Its annotation is the type, the class's docstring (``Args:``) the
help, and the command line offers it as soon as it is there. ``metadata`` may add ``minimum`` and ``maximum``.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
import re
import typing
from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional, Tuple, Type, cast

from obert_edge.errors import UsageError

_ONE = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


@dataclass(frozen=True)
class TaskOption:
    """An option of one task.

    Args:
        name: of the pipeline's field.
        kind: type of a value: bool, int, float or str.
        several: whether it takes any number of them.
        may_be_none: whether ``None`` stands for something.
        default: where it is not given.
        help: what it does.
        choices: the texts it may be; empty: any.
        minimum: the lowest number it may be.
        maximum: the highest.
    """

    name: str
    kind: Type[Any]
    several: bool
    may_be_none: bool
    default: Any
    help: str
    choices: Tuple[str, ...] = ()
    minimum: Optional[float] = None
    maximum: Optional[float] = None

    @property
    def expected(self) -> str:
        """What a value has to be, for people."""
        found = f"one of {', '.join(self.choices)}" if self.choices else _ONE[self.kind]
        if self.minimum is not None and self.maximum is not None:
            found += f" from {self.minimum:g} to {self.maximum:g}"
        elif self.minimum is not None:
            found += f" from {self.minimum:g}"
        elif self.maximum is not None:
            found += f" of at most {self.maximum:g}"
        return f"a list, each {found}" if self.several else found

    def check(self, value: Any, called: str = "") -> None:
        """Check a value.

        Args:
            value: as a program or a command line gives it.
            called: what the user calls the option; default: its name.

        Raises:
            UsageError: it is of another type, or out of range.
        """
        if value is None and self.may_be_none:
            return
        several = self.several and isinstance(value, (list, tuple))
        values = value if several else [value]
        if several is not self.several or not all(map(self._is_one, values)):
            raise UsageError(
                f"{called or self.name} is {value!r}; expected {self.expected}",
                hint=f"give {self.expected}, or leave it out",
            )

    def _is_one(self, value: Any) -> bool:
        if self.kind is bool or isinstance(value, bool):
            return self.kind is bool and isinstance(value, bool)
        if self.kind is str:
            return isinstance(value, str) and (not self.choices or value in self.choices)
        # An index or a float32 of numpy is as good as Python's own.
        converted = getattr(value, "__index__" if self.kind is int else "__float__", None)
        if converted is None or isinstance(value, str):
            return False
        number = converted()
        if not math.isfinite(number):
            return False
        return (self.minimum is None or number >= self.minimum) and (
            self.maximum is None or number <= self.maximum
        )


def options_of(pipeline: Type[Any]) -> Mapping[str, TaskOption]:
    """The options of a pipeline by name: the fields with a default, in order."""
    return _options_of(cast(Any, pipeline))


@functools.cache
def _options_of(pipeline: Any) -> Mapping[str, TaskOption]:
    hints = typing.get_type_hints(pipeline)
    helps = _helps(pipeline)
    found = {}
    for field in dataclasses.fields(pipeline):
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            continue  # what the pipeline works with, such as the tokenizer
        found[field.name] = _option(field, hints[field.name], helps.get(field.name, ""))
    return found


def _option(field: Any, hint: Any, help: str) -> TaskOption:
    parts = [part for part in typing.get_args(hint) if part is not type(None)]
    may_be_none = typing.get_origin(hint) is typing.Union
    if may_be_none:
        hint = parts[0]
    several = typing.get_origin(hint) in (tuple, list)
    if several:
        hint = typing.get_args(hint)[0]
    choices: Tuple[str, ...] = ()
    if typing.get_origin(hint) is typing.Literal:
        choices = typing.get_args(hint)
        hint = str
    limits: Mapping[str, Any] = field.metadata
    if hint not in _ONE:
        raise TypeError(f"{field.name} is {hint}; an option of a task is one or several of {list(_ONE)}")
    default = field.default if field.default is not dataclasses.MISSING else field.default_factory()
    return TaskOption(
        field.name,
        hint,
        several,
        may_be_none,
        default,
        help or str(limits.get("help", "")),
        tuple(limits.get("choices", choices)),
        limits.get("minimum"),
        limits.get("maximum"),
    )


def _helps(pipeline: Type[Any]) -> Dict[str, str]:
    """What the docstrings of a class and of its bases say about each field."""
    helps: Dict[str, str] = {}
    for owner in reversed(pipeline.__mro__):
        text = inspect.cleandoc(owner.__doc__ or "")
        _, _, listed = text.partition("\nArgs:\n")
        section = re.split(r"\n(?=\S)", listed)[0]
        for entry in re.split(r"\n(?=    \S)", "\n" + section)[1:]:
            name, _, meaning = entry.strip().partition(":")
            helps[name.strip()] = " ".join(meaning.replace("``", "").split())
    return helps
