"""An option is declared once: a typed field with its default, its range or choices, and one line of help.

From the declaration come the key of a recipe, the option of the command line, the check of a value with its
error message, and the reference pages. Nothing here imports torch or click.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import reprlib
import typing
from dataclasses import MISSING, dataclass
from typing import Any, ClassVar, Dict, List, Optional, Tuple, Type, TypeVar, Union, cast

from obert_edge.errors import UsageError

S = TypeVar("S", bound="Settings")

_METADATA = "obert_edge.option"
_ONE = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
_SEVERAL = {str: "a list of texts", int: "a list of whole numbers", float: "a list of numbers"}


@dataclass(frozen=True)
class Declared:
    """What :func:`option` says about a field beside its type and default; see there."""

    help: str
    choices: Tuple[str, ...] = ()
    minimum: Optional[float] = None
    maximum: Optional[float] = None
    above: Optional[float] = None
    below: Optional[float] = None
    absent: str = ""
    example: Any = None
    flag: str = ""
    recipe_only: str = ""
    path: bool = False
    hub: bool = False


def option(
    default: Any = MISSING,
    *,
    help: str,
    choices: Tuple[str, ...] = (),
    minimum: Optional[float] = None,
    maximum: Optional[float] = None,
    above: Optional[float] = None,
    below: Optional[float] = None,
    absent: str = "",
    example: Any = None,
    flag: str = "",
    recipe_only: str = "",
    path: bool = False,
    hub: bool = False,
) -> Any:
    """Declare an option as a field of a :class:`Settings` dataclass.

    The field's annotation is the type: ``bool``, ``int``, ``float``, ``str``, a ``Tuple[..., ...]`` of one of
    the last three, or ``Optional`` of any of these.

    Args:
        default: used where the option is not given; left out: the option must be given.
        help: one sentence for the command line and the reference.
        choices: the texts it may be.
        minimum: the lowest value it may have.
        maximum: the highest value it may have.
        above: it must be above this.
        below: it must be below this.
        absent: what ``None`` stands for, such as "the task's"; for options whose default is ``None``.
        example: a value for error messages, where the default is not a good one.
        flag: name on the command line, where it is not the field's.
        recipe_only: why the command line has no such option; empty: it has.
        path: whether the text names a file or folder, which in a recipe is relative to the recipe's own.
        hub: whether it may be the name of a model on a hub instead.
    """
    declared = Declared(
        help, choices, minimum, maximum, above, below, absent, example, flag, recipe_only, path, hub
    )
    return dataclasses.field(default=default, metadata={_METADATA: declared})


def part(factory: Any = MISSING, *, help: str) -> Any:
    """Declare a field that holds settings of its own: a mapping below its key in a recipe.

    Args:
        factory: a function that makes the default; ``None``: the part is absent unless it is given; left out:
            the part must be given.
        help: one sentence for the reference.
    """
    metadata = {_METADATA: Declared(help)}
    if factory is MISSING:
        return dataclasses.field(metadata=metadata)
    if factory is None:
        return dataclasses.field(default=None, metadata=metadata)
    return dataclasses.field(default_factory=factory, metadata=metadata)


@dataclass(frozen=True)
class Option:
    """A declared option with all that follows from its field.

    Attributes:
        name: of the field, and so the key of a recipe.
        kind: type of the value, or of each where there are several.
        several: whether the value is a tuple.
        optional: whether it may be ``None``.
        default: ``dataclasses.MISSING`` where it must be given.
        declared: range, choices and help.
        owner: the class that declares it.
    """

    name: str
    kind: Type[Any]
    several: bool
    optional: bool
    default: Any
    declared: Declared
    owner: Type[Settings]

    @property
    def required(self) -> bool:
        """Whether it must be given."""
        return self.default is MISSING

    @property
    def flag(self) -> str:
        """Its name on the command line."""
        return self.declared.flag or "--" + self.name.replace("_", "-")

    @property
    def expected(self) -> str:
        """What a value must be, as it completes "expected ..."."""
        declared = self.declared
        if declared.choices:
            return f"one of {', '.join(declared.choices)}"
        if declared.path:
            return "a list of paths" if self.several else "a path"
        wanted = _SEVERAL[self.kind] if self.several else _ONE[self.kind]
        link = " of " if self.range.endswith("more") else " "
        return f"{wanted}{link}{self.range}".strip()

    @property
    def range(self) -> str:
        """The values allowed, such as ``in [0, 1)``; empty where all are."""
        d = self.declared
        low = d.minimum if d.minimum is not None else d.above
        high = d.maximum if d.maximum is not None else d.below
        if low is not None and high is not None:
            opening, closing = "[" if d.minimum is not None else "(", "]" if d.maximum is not None else ")"
            return f"in {opening}{written(low)}, {written(high)}{closing}"
        if d.minimum is not None:
            return f"{written(d.minimum)} or more"
        return f"above {written(d.above)}" if d.above is not None else ""

    @property
    def default_text(self) -> str:
        """The default in words; empty where the option must be given."""
        if self.required:
            return ""
        if self.default is None:
            return self.declared.absent or "none"
        return written(self.default)

    def from_text(self, text: str) -> Any:
        """The value that a command line's text stands for.

        Raises:
            UsageError: it stands for none.
        """
        value: Any = text
        try:
            if self.several and self.kind is not str:
                value = [self.kind(item) for item in text.split(",")]
            elif self.kind in (int, float):
                value = self.kind(text)
        except ValueError:
            pass  # refused below with the text as it is
        return self.parse(value)

    def parse(self, value: Any, where: str = "") -> Any:
        """Check a value's type, as YAML gives it: whole numbers may stand for numbers, ``5e-5`` too.

        Args:
            value: what was found.
            where: its place for the message; default: the option's name.

        Raises:
            UsageError: it is of another type.
        """
        if value is None and self.optional:
            return None
        if self.several:
            alone = isinstance(value, str) if self.kind is str else isinstance(value, (int, float))
            items = [value] if alone else value
            if isinstance(items, (list, tuple)):
                accepted = (str, int) if self.kind is str else (int, self.kind)
                if all(isinstance(item, accepted) and not isinstance(item, bool) for item in items):
                    return tuple(map(self.kind, items))
        elif self.kind is float and isinstance(value, (int, float, str)) and not isinstance(value, bool):
            # YAML 1.1 reads 5e-5 as text: it wants 5.0e-5.
            try:
                return float(value)
            except (ValueError, OverflowError):
                pass
        elif isinstance(value, self.kind) and not (self.kind is int and isinstance(value, bool)):
            return value
        raise self.refusal(value, where)

    def check(self, value: Any) -> None:
        """Check that a value is of the type, in the range and among the choices.

        Raises:
            UsageError: it is not.
        """
        if isinstance(value, str) and self.kind is not str:
            raise self.refusal(value)  # a number in quotes is one for recipes only
        parsed = self.parse(value)
        d = self.declared
        largest = _LARGEST.get(self.kind)
        for item in [] if parsed is None else parsed if self.several else [parsed]:
            # Comparisons are written so that a NaN fails them.
            good = (
                (not d.choices or item in d.choices)
                and (d.minimum is None or item >= d.minimum)
                and (d.maximum is None or item <= d.maximum)
                and (d.above is None or item > d.above)
                and (d.below is None or item < d.below)
            )
            if not good:
                raise self.refusal(value)
            if largest is not None and not abs(item) <= largest:
                raise self.refusal(value, beyond=written(largest))

    def refusal(self, value: Any, where: str = "", beyond: str = "") -> UsageError:
        """The error that says what was found, what is expected, and what to write instead.

        Args:
            value: what was found.
            where: its place; default: the option's name.
            beyond: the largest number of this type, where the value is beyond it.
        """
        near = difflib.get_close_matches(brief(value).strip("'\""), self.declared.choices, n=1)
        example = self.declared.example
        if example is None and not self.required:
            example = self.default
        if example is None and self.declared.choices:
            example = self.declared.choices[0]
        hint = (
            f"use a value such as {written(example)}"
            if example not in (None, ())
            else f"give {self.expected}"
        )
        return refusal(
            where or self.name,
            value,
            f"{self.expected}, at most {beyond}" if beyond else self.expected,
            hint=f"did you mean {near[0]!r}?" if near else hint,
        )


def refusal(name: str, value: Any, expected: str, *, hint: str) -> UsageError:
    """The one message about a value that is not accepted; for checks that concern several options.

    Args:
        name: the option or options.
        value: what was found.
        expected: what it must be.
        hint: what to write instead.
    """
    shown = list(value) if isinstance(value, tuple) else value
    return UsageError(f"{name} is {brief(shown)}; expected {expected}", hint=hint)


def brief(value: Any) -> str:
    """A value for a message: its ``repr``, of which the middle is left out where it is long."""
    return _BRIEF.repr(value)


_BRIEF = reprlib.Repr()
_BRIEF.maxstring = _BRIEF.maxother = _BRIEF.maxlong = 200
_BRIEF.maxlist = _BRIEF.maxtuple = _BRIEF.maxdict = _BRIEF.maxset = 20
_BRIEF.maxlevel = 4


class Settings:
    """Base of dataclasses whose fields are declared with :func:`option` and :func:`part`.

    A subclass with checks that concern several options has a ``__post_init__`` that calls this one first.
    """

    #: What the options that a class declares are about, as a heading.
    heading: ClassVar[str] = ""

    def __post_init__(self) -> None:
        for one in self.options():
            one.check(getattr(self, one.name))

    @classmethod
    def options(cls) -> Tuple[Option, ...]:
        """The declared options, those of nested parts left out."""
        if cls not in _OPTIONS:
            _OPTIONS[cls] = _options(cls)
        return _OPTIONS[cls]

    @classmethod
    def parts(cls) -> Dict[str, Type[Settings]]:
        """The classes of nested parts by the name of their field."""
        hints = typing.get_type_hints(cls)
        names = [field.name for field in dataclasses.fields(cast(Any, cls))]
        kinds = {name: _without_none(hints[name])[0] for name in names}
        kinds = {name: kind for name, kind in kinds.items() if isinstance(kind, type)}
        return {name: kind for name, kind in kinds.items() if issubclass(kind, Settings)}

    @classmethod
    def keys(cls) -> List[str]:
        """The names of all options, as the sections have them, and of the parts."""
        return [one.name for _, options in cls.sections() for one in options] + list(cls.parts())

    @classmethod
    def required(cls) -> List[str]:
        """The options and parts that must be given."""
        fields = dataclasses.fields(cast(Any, cls))
        return [f.name for f in fields if f.default is MISSING and f.default_factory is MISSING]

    @classmethod
    def check(cls, **values: Any) -> None:
        """Check single values by their declarations.

        Raises:
            UsageError: one is of the wrong type or out of range.
        """
        by_name = {one.name: one for one in cls.options()}
        for name, value in values.items():
            by_name[name].check(value)

    @classmethod
    def sections(cls) -> List[Tuple[str, List[Option]]]:
        """The options by heading: a class's own before those of its bases, without nested parts."""
        found: Dict[str, List[Option]] = {}
        for owner in cls.__mro__:
            own = [one for one in cls.options() if one.owner is owner]
            if own:
                found.setdefault(own[0].owner.heading, []).extend(own)
        return list(found.items())

    def narrow(self, kind: Type[S]) -> S:
        """These settings as a base class, without what a subclass adds."""
        fields = dataclasses.fields(cast(Any, kind))
        return kind(**{field.name: getattr(self, field.name) for field in fields})


def written(value: Any) -> str:
    """A value as one would write it: ``5e-5``, ``true``, ``0,2,4``."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (tuple, list)):
        return ",".join(map(written, value)) or "none"
    if isinstance(value, float):
        return re.sub(r"e([+-])0*", lambda match: "e" + match[1].strip("+"), f"{value:g}")
    return str(value)


def help_of(kind: Type[Settings], name: str) -> str:
    """The help that a field was declared with."""
    field = next(f for f in dataclasses.fields(cast(Any, kind)) if f.name == name)
    return cast(Declared, field.metadata[_METADATA]).help


#: The largest numbers that count: what is beyond them no library takes. An infinity and a NaN are none.
_LARGEST: Dict[Type[Any], Union[int, float]] = {int: 2**63 - 1, float: 1e300}
#: What was found out once about a class.
_OPTIONS: Dict[Type[Settings], Tuple[Option, ...]] = {}


def _options(cls: Type[Settings]) -> Tuple[Option, ...]:
    hints = typing.get_type_hints(cls)
    found = []
    for field in dataclasses.fields(cast(Any, cls)):
        declared = field.metadata.get(_METADATA)
        wanted, optional = _without_none(hints[field.name])
        if declared is None or dataclasses.is_dataclass(wanted):
            continue
        several = typing.get_origin(wanted) is tuple
        kind = typing.get_args(wanted)[0] if several else wanted
        owner = [base for base in cls.__mro__ if field.name in getattr(base, "__dataclass_fields__", {})][-1]
        found.append(Option(field.name, kind, several, optional, field.default, declared, owner))
    return tuple(found)


def _without_none(hint: Any) -> Tuple[Any, bool]:
    """A type without ``None``, and whether it had it."""
    if typing.get_origin(hint) is not Union:
        return hint, False
    return next(one for one in typing.get_args(hint) if one is not type(None)), True
