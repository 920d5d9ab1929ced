"""Write the reference of the command line and of recipes from their declarations.

    python -m tools.dev.reference            # writes docs/reference/cli.md and docs/reference/recipe.md
    python -m tools.dev.reference --check    # exits with 1 when one of them is not what would be written

Needs: the host's packages.
Takes: a few seconds.
"""

from __future__ import annotations

import re
import sys
from inspect import getdoc
from pathlib import Path
from typing import Dict, Iterator, List, Type

import click

from obert_edge.cli import cli
from obert_edge.host.options import Option, Settings, help_of, written
from obert_edge.host.pruning.settings import Distillation
from obert_edge.host.stages.recipe import STAGES, Recipe
from obert_edge.host.stages.settings import TaskSettings, Training
from tools import command_line

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "reference"
#: Parts that several stages have, by the key of a recipe.
SHARED: Dict[str, Type[Settings]] = {"training": Training, "distillation": Distillation}
_NOTE = "<!-- Written by tools/dev/reference.py from the declarations: change those, and run it again. -->"


def main() -> int:
    parser = command_line.parser("tools.dev.reference", __doc__)
    parser.add_argument(
        "--check", action="store_true", help="only say whether the pages are as they should be"
    )
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the pages are")
    options = parser.parse_args()
    stale = []
    for name, page in pages().items():
        path = options.folder / name
        if options.check:
            if not path.is_file() or path.read_text(encoding="utf-8") != page:
                stale.append(str(path))
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(page, encoding="utf-8")
    for path in stale:
        print(f"{path} is stale\n  fix: run tools/dev/reference.py", file=sys.stderr)
    return 1 if stale else 0


def pages() -> Dict[str, str]:
    """The pages by their file's name."""
    return {"cli.md": "\n".join(command_line_page()) + "\n", "recipe.md": "\n".join(recipe()) + "\n"}


def command_line_page() -> Iterator[str]:
    """Lines of the page about the command line."""
    yield from (_NOTE, "# The command line", "")
    yield "Every verb is called as `obert-edge VERB ...`."
    yield "The result goes to stdout, as text or as JSON (`--json`, which has the text on stderr)."
    yield "Progress, warnings and errors go to stderr."
    yield (
        "The exit code is 0 when all is well, 1 when a check failed, 2 for a wrong command or value, 3 on a "
        "device that cannot run what was asked, and 130 after an interruption."
    )
    yield ""
    yield from table(
        ("verb", "what it does"),
        [
            (f"[`{name}`](#{name})", first_line(command.help))
            for name, command in sorted(cli.commands.items())
        ],
    )
    for name, command in sorted(cli.commands.items()):
        parameters = command.get_params(click.Context(command))
        arguments = [one.make_metavar(click.Context(command)) for one in parameters if is_argument(one)]
        yield from ("", f"## {name}", "", f"    obert-edge {' '.join([name, *arguments])} [OPTIONS]", "")
        yield from sentences(command.help or "")
        headings: Dict[str, List[click.Option]] = {"": []}
        for one in parameters:
            if isinstance(one, click.Option) and "--help" not in one.opts:
                headings.setdefault(getattr(one, "heading", ""), []).append(one)
        for heading, found in headings.items():
            if heading:
                yield from ("", f"### {heading} ({name})")
            yield ""
            yield from table(("option", "value", "meaning"), [option_row(command, one) for one in found])


def is_argument(one: click.Parameter) -> bool:
    return isinstance(one, click.Argument)


def option_row(command: click.Command, one: click.Option) -> List[str]:
    names = ", ".join(f"`{name}`" for name in [*one.opts, *one.secondary_opts])
    value = "" if one.is_flag else f"`{one.make_metavar(click.Context(command))}`"
    facts = ["required"] if one.required else []
    if not facts and one.show_default and not one.is_flag:
        facts = [f"default: {one.default}"]
    return [names, value, (one.help or "") + (f" [{facts[0]}]" if facts else "")]


def recipe() -> Iterator[str]:
    """Lines of the page about recipes."""
    yield from (_NOTE, "# The keys of a recipe", "")
    yield "A recipe is one YAML file; what is not on this page is refused before anything runs."
    yield "Paths are relative to the recipe's own folder."
    yield "`extends: other.yaml` takes another recipe beside it, over which this one's keys are laid."
    yield "A stage whose key is absent does not run, and a key with nothing below it asks for the defaults."
    yield "Stages run in the order of this page; MODEL is the result of the stage before, or the recipe's."
    yield "Where a key is an option of a verb too, the third column says how it is called there."
    yield from ("", *key_table(Recipe))
    yield from ("", "## task", "", *sentences(help_of(Recipe, "task")), "", *key_table(TaskSettings))
    for stage in STAGES:
        yield from ("", f"## {stage.name}", "")
        yield f"Verb: [`{stage.verb}`](cli.md#{stage.verb})."
        yield from sentences(getdoc(stage) or "")
        yield from sentences(help_of(Recipe, stage.name))
        if stage.settings in SHARED.values():
            yield "Its keys are those of [training](#training)."
        else:
            yield from ("", *key_table(stage.settings))
    for name, kind in SHARED.items():
        yield from ("", f"## {name}", "", *sentences(getdoc(kind) or ""), "", *key_table(kind))


def key_table(kind: Type[Settings]) -> Iterator[str]:
    """The keys of settings, a table per heading, those of parts last."""
    sections = kind.sections()
    for number, (heading, options) in enumerate(sections):
        if number:
            yield from ("", f"{heading}:", "")
        rows = [key_row(one, recipe_only=kind is Recipe) for one in options]
        if number == 0:
            rows += [part_row(kind, name) for name in kind.parts()]
        yield from table(("key", "value", "option", "default", "meaning"), rows)
    if not sections:
        rows = [part_row(kind, name) for name in kind.parts()]
        yield from table(("key", "value", "option", "default", "meaning"), rows)


def key_row(one: Option, *, recipe_only: bool) -> List[str]:
    declared = one.declared
    value = one.expected if not declared.choices else ", ".join(f"`{choice}`" for choice in declared.choices)
    default = (
        f"`{written(one.default)}`" if not one.required and one.default is not None else one.default_text
    )
    flag = "" if recipe_only or declared.recipe_only else f"`{one.flag}`"
    note = f" In a recipe only: {declared.recipe_only}." if declared.recipe_only else ""
    return [f"`{one.name}`", value, flag, "required" if one.required else default, declared.help + note]


def part_row(kind: Type[Settings], name: str) -> List[str]:
    required = "required" if name in kind.required() else ""
    return [f"`{name}`", f"keys of [{name}](#{name})", "", required, help_of(kind, name)]


def table(head: tuple[str, ...], rows: List[List[str]] | List[tuple[str, str]]) -> Iterator[str]:
    """A Markdown table."""
    yield "| " + " | ".join(head) + " |"
    yield "|---" * len(head) + "|"
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|").replace("  [", " [") for cell in row) + " |"


def first_line(text: str | None) -> str:
    return next(iter(sentences(text or "")), "")


def sentences(text: str) -> List[str]:
    """A text with one sentence per line."""
    return re.split(r"(?<=\.) (?=[A-Z])", " ".join(text.split()))


if __name__ == "__main__":
    sys.exit(main())
