"""An option of the device's command line, for ``argparse`` and for click alike."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Tuple

from obert_edge.errors import UsageError

#: Before the names of the parameters of a task's options, which stand beside a verb's own.
TASK = "task__"


@dataclass(frozen=True)
class Option:
    """An option of a verb.

    Args:
        flag: as it is typed, such as ``--batch-size``.
        help: one sentence.
        type: what the value is read as; ``None``: the option has no value, and is true where it is given;
            ``bool``: it has none either, and ``--no-...`` beside it says the opposite.
        default: the value where it is not given.
        otherwise: for people: what happens where it is not given and there is no plain default.
        repeatable: whether it may be given several times; its value is then a sequence.
        name: of the verb's parameter; default: the flag's.
        metavar: what stands for the value in a usage line; default: by its type.
        choices: the texts it may be; empty: any.
        minimum: the lowest number it may be.
        maximum: the highest.
        heading: what the help lists it below; empty: with the verb's own options.
    """

    flag: str
    help: str
    type: Optional[type] = None
    default: Any = None
    otherwise: str = ""
    repeatable: bool = False
    name: str = ""
    metavar: str = ""
    choices: Tuple[str, ...] = ()
    minimum: Optional[float] = None
    maximum: Optional[float] = None
    heading: str = ""

    @property
    def parameter(self) -> str:
        """The name of the verb's parameter."""
        return self.name or self.flag.lstrip("-").replace("-", "_")

    @property
    def value(self) -> str:
        """What stands for the value in a usage line."""
        if self.choices:
            return "|".join(self.choices)
        return self.metavar or {int: "N", float: "NUMBER"}.get(self.type or str, "NAME")

    @property
    def _full_help(self) -> str:
        """The help, and what happens where the option is not given."""
        return f"{self.help}  [default: {self.otherwise}]" if self.otherwise else self.help

    def add_to(self, parser: Any) -> None:
        """Add the option to a parser or a group of one; its value is an attribute, :attr:`parameter`."""
        stated = "" if self.otherwise or self.default is None else f"  [default: {written(self.default)}]"
        text = f"{self._full_help}{stated}".replace("%", "%%")
        settings: Dict[str, Any] = {"dest": self.parameter, "help": text}
        if self.type is None:
            settings.update(action="store_true")
        elif self.type is bool:
            settings.update(action=argparse.BooleanOptionalAction, default=self.default)
        elif self.repeatable:
            settings.update(type=self.type, metavar=self.value, action="append", default=[])
        else:
            settings.update(type=self.type, metavar=self.value, default=self.default)
        parser.add_argument(self.flag, **settings)

    def check(self, value: Any) -> None:
        """Check a value that a command line gave.

        Raises:
            UsageError: it is out of range, or none of the choices.
        """
        for one in value if self.repeatable else [value]:
            if isinstance(one, (int, float)) and not self._in_range(one):
                end = "or more" if self.maximum is None else f"to {self.maximum:g}"
                expected = f"{self.minimum:g} {end}"
                raise UsageError(
                    f"{self.flag} is {one}; expected {expected}",
                    hint=f"give {expected}, or leave {self.flag} out",
                )
            if one is not None and self.choices and one not in self.choices:
                raise UsageError(
                    f"{self.flag} is {one!r}; expected one of {', '.join(self.choices)}",
                    hint=f"give one of them, or leave {self.flag} out",
                )

    def _in_range(self, number: float) -> bool:
        if self.minimum is None:
            return True
        # Written so that NaN is in no range.
        return self.minimum <= number <= (sys.float_info.max if self.maximum is None else self.maximum)

    def words(self, value: Any) -> List[str]:
        """What to type on a command line for a value of the verb's parameter."""
        if self.type is None:
            return [self.flag] if value else []
        values = value if self.repeatable else [] if value is None else [value]
        return [word for item in values for word in (self.flag, str(item))]

    def for_click(self) -> Tuple[Tuple[str, str], Dict[str, Any]]:
        """Positional and keyword arguments of ``click.option``."""
        settings: Dict[str, Any] = {"help": self._full_help}
        flag = self.flag
        if self.type is None:
            settings.update(is_flag=True)
        elif self.type is bool:
            flag = f"{flag}/--no-{flag[2:]}"
            settings.update(default=self.default)
        elif self.repeatable:
            settings.update(type=self.type, metavar=self.value, multiple=True)
        else:
            settings.update(type=self.type, metavar=self.value, default=self.default)
            settings.update(show_default=self.default is not None)
        return (flag, self.parameter), settings


def written(value: Any) -> str:
    """A value as one would type it."""
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)
