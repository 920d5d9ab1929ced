"""The generated reference says what the declarations say."""

from __future__ import annotations

import sys

import pytest

from obert_edge.host.stages.recipe import STAGES, Recipe
from tools.dev import reference


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["reference", *map(str, arguments)])
    return reference.main()


def test_the_pages_are_those_that_would_be_written(monkeypatch, capsys):
    assert run(monkeypatch, "--check") == 0, capsys.readouterr().err


def test_a_page_that_was_changed_or_is_missing_is_named(monkeypatch, capsys, tmp_path):
    assert run(monkeypatch, "--folder", tmp_path) == 0
    assert run(monkeypatch, "--folder", tmp_path, "--check") == 0
    (tmp_path / "cli.md").write_text("something else")
    (tmp_path / "recipe.md").unlink()
    assert run(monkeypatch, "--folder", tmp_path, "--check") == 1
    errors = capsys.readouterr().err
    assert "cli.md is stale" in errors and "recipe.md is stale" in errors


def every_key(kind):
    yield from (one.name for one in kind.options())
    for name, below in kind.parts().items():
        yield name
        yield from every_key(below)


def test_every_key_and_every_verb_is_there():
    pages = reference.pages()
    assert not [key for key in every_key(Recipe) if f"| `{key}` |" not in pages["recipe.md"]]
    assert not [stage.verb for stage in STAGES if f"## {stage.verb}\n" not in pages["cli.md"]]


@pytest.mark.parametrize("name", ["cli.md", "recipe.md"])
def test_tables_are_whole(name):
    lines = reference.pages()[name].splitlines()
    for before, after in zip(lines, lines[1:]):
        if before.startswith("|") and after.startswith("|"):
            columns = [line.replace("\\|", "").count("|") for line in (before, after)]
            assert columns[0] == columns[1], after
