"""Every program says what it does, what it needs and how long it takes, and is run in one way."""

from __future__ import annotations

import ast
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(path.relative_to(ROOT) for path in (ROOT / "tools").rglob("*.py"))
#: Modules that do something when they are run; the others are for them to import.
PROGRAMS = [path for path in SOURCES if 'if __name__ == "__main__":' in (ROOT / path).read_text("utf-8")]
#: The commands that a clone is entered with: files, because nothing is installed yet.
COMMANDS = ["tools/quickstart", "tools/test"]


def module_of(path: Path) -> str:
    return ".".join(path.with_suffix("").parts)


@pytest.mark.parametrize("program", PROGRAMS, ids=module_of)
def test_a_program_answers_help(program, monkeypatch, capsys):
    """As `python -m` does it, but in this process: importing torch once is slow enough."""
    monkeypatch.setattr(sys, "argv", [str(program), "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(module_of(program), run_name="__main__", alter_sys=True)
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    for part in (f"usage: python -m {module_of(program)}", f"    python -m {module_of(program)}"):
        assert part in shown, "--help gives no example"
    for part in ("\nNeeds: ", "\nTakes: "):
        assert part in shown, f"--help does not say {part.strip()}"


def test_a_program_runs_as_a_module_from_the_root():
    command = [sys.executable, "-m", "tools.dev.docstring_corpus", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "usage: python -m tools.dev.docstring_corpus" in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_answers_help_with_nothing_installed(command):
    """Python's -S leaves out the packages that are installed here."""
    arguments = [sys.executable, "-S", str(ROOT / command), "--help"]
    done = subprocess.run(arguments, cwd="/", capture_output=True, text=True, timeout=60, check=True)
    for part in (command, "Needs: ", "Takes: "):
        assert part in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_an_executable_file(command):
    assert (ROOT / command).stat().st_mode & 0o111


@pytest.mark.parametrize("source", SOURCES, ids=module_of)
def test_a_module_imports_no_test_and_changes_no_path(source):
    tree = ast.parse((ROOT / source).read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert (node.module or "").split(".")[0] != "tests", f"line {node.lineno} imports from the tests"
        if isinstance(node, ast.Import):
            assert all(name.name.split(".")[0] != "tests" for name in node.names), f"line {node.lineno}"
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert (node.value.id, node.attr) != ("sys", "path"), f"line {node.lineno} changes sys.path"


@pytest.mark.parametrize("source", SOURCES, ids=module_of)
def test_no_module_has_the_name_of_a_standard_one(source):
    assert source.stem == "__init__" or source.stem not in sys.stdlib_module_names


def test_the_table_of_tools_has_every_program_and_no_other():
    lines = (ROOT / "tools" / "README.md").read_text("utf-8").splitlines()
    rows = [line.split("|")[1].strip().strip("`") for line in lines if line.startswith("| `")]
    assert sorted(rows) == sorted([*map(module_of, PROGRAMS), *COMMANDS])
