"""Options of the command line, made from the declarations of settings; see :mod:`obert_edge.host.options`."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple, Type, TypeVar

import click

from obert_edge.host.options import Option, S, Settings

Function = TypeVar("Function", bound=Callable[..., Any])

#: Separates the name of a part from that of its option.
_BELOW = "__"


class HeadedOption(click.Option):
    """An option that the help shows below a heading."""

    def __init__(self, *arguments: Any, heading: str = "", **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.heading = heading


class HeadedCommand(click.Command):
    """A command whose help has its options below headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, those without a heading first."""
        sections: Dict[str, List[Tuple[str, str]]] = {"Options": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
            if record is not None:
                heading = getattr(parameter, "heading", "") or "Options"
                sections.setdefault(heading, []).append(record)
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)


class _Declared(click.ParamType):  # type: ignore[type-arg]
    """A value of a declared option; what is wrong with it is said as everywhere else."""

    name = "declared"

    def __init__(self, option: Option) -> None:
        self._option = option

    def convert(self, value: Any, param: Optional[click.Parameter], ctx: Optional[click.Context]) -> Any:
        """The value of a text."""
        return self._option.from_text(value) if isinstance(value, str) else value


def declared(
    kind: Type[Settings], *, below: str = "", optional: bool = False
) -> Callable[[Function], Function]:
    """All options of settings, those of nested parts too, as one decorator.

    Args:
        kind: the settings.
        below: put before the names of the parameters, for settings beside others.
        optional: whether even what must be given may be left out.
    """

    def decorate(function: Function) -> Function:
        for option in reversed(_options(kind, below, optional)):
            function = option(function)
        return function

    return decorate


def read(kind: Type[S], values: Mapping[str, Any], *, below: str = "") -> S:
    """The settings that the user gave; what is not given has its default.

    Args:
        kind: the settings.
        values: of the parameters that :func:`declared` made.
        below: as for :func:`declared`.

    Raises:
        UsageError: a value is out of range.
    """
    told: Dict[str, Any] = {one.name: values.get(below + one.name) for one in kind.options()}
    told = {name: value for name, value in told.items() if value not in (None, ())}
    for name, part in kind.parts().items():
        prefix = below + name + _BELOW
        given = any(values[key] not in (None, ()) for key in values if key.startswith(prefix))
        if given:
            told[name] = read(part, values, below=prefix)
    return kind(**told)


def given(kind: Type[Settings], values: Mapping[str, Any]) -> List[str]:
    """The options that are there, by their path: ``sparsity``, and below a part ``training.epochs``.

    Args:
        kind: the settings.
        values: of the parameters that :func:`declared` made.
    """
    return [path for path in _paths(kind) if values.get(path.replace(".", _BELOW)) not in (None, ())]


def _paths(kind: Type[Settings]) -> List[str]:
    """The options of settings, those of nested parts too."""
    own = [one.name for one in kind.options()]
    return own + [f"{name}.{path}" for name, part in kind.parts().items() for path in _paths(part)]


def _options(kind: Type[Settings], below: str, optional: bool) -> List[Callable[[Function], Function]]:
    found = [
        _click_option(one, heading, below, optional)
        for heading, options in kind.sections()
        for one in options
        if not one.declared.recipe_only
    ]
    for name, part in kind.parts().items():
        found += _options(part, below + name + _BELOW, optional)
    return found


def _click_option(one: Option, heading: str, below: str, optional: bool) -> Callable[[Function], Function]:
    settings: Dict[str, Any] = {"cls": HeadedOption, "heading": heading, "help": _help(one)}
    flag = one.flag
    if one.kind is bool:
        settings.update(default=None)
        flag = f"{flag}/--no-{flag[2:]}"
    else:
        several = one.several and one.kind is str
        settings.update(type=str if several else _Declared(one), multiple=several, metavar=_metavar(one))
        settings.update(required=one.required and not optional)
    return click.option(flag, below + one.name, **settings)


def _help(one: Option) -> str:
    facts = [fact for fact in ("repeatable" if one.several and one.kind is str else "", one.range) if fact]
    if not one.required:
        shown = one.default_text
        facts.insert(0, f"default: {shown}")
    return f"{one.declared.help}  [{'; '.join(facts)}]" if facts else one.declared.help


def _metavar(one: Option) -> str:
    if one.declared.choices:
        return "|".join(one.declared.choices)
    if one.several and one.kind is not str:
        return "N,N,..."
    if one.declared.path:
        return "PATH"
    return {str: "TEXT", int: "INTEGER", float: "NUMBER"}[one.kind]
