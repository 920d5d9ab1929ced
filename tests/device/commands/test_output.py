"""What a command says where nothing takes its result, memory is short, or it is stopped early."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from obert_edge.device.commands import bundle_main

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")


@pytest.fixture(params=["obert-edge", "bundle"])
def command(request, classifier, tmp_path):
    """The words that start a verb on a bundle, by the command or by the bundle itself."""
    bundle = shutil.copy(classifier, tmp_path / "model.oeb")
    if request.param == "bundle":
        return lambda verb: [sys.executable, str(bundle), verb]
    return lambda verb: [sys.executable, "-m", "obert_edge.cli", verb, str(bundle)]


def shell(words, redirection):
    """Run a command with a redirection that Python's subprocess has no word for."""
    line = f'exec "$@" {redirection}'
    # Without a buffer argparse hides what keeps its help from being written.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(
        ["sh", "-c", line, "sh", *words], env=environment, capture_output=True, text=True, timeout=120
    )


@needs_full
@pytest.mark.parametrize("words", [(), ("--json",), ("--help",)])
def test_a_result_that_a_full_disk_does_not_take_is_one_error(command, words):
    done = shell([*command("inspect"), *words], ">/dev/full")
    assert done.returncode == 1
    assert done.stderr.startswith("error: the result cannot be written to standard output: No space left")
    assert len(done.stderr.splitlines()) == 2


@needs_full
def test_an_error_is_said_where_its_json_cannot_be_written(command):
    done = shell([*command("run"), "--input", "missing.jsonl", "--json"], ">/dev/full")
    assert done.returncode == 1
    assert done.stderr.startswith("error: missing.jsonl cannot be read")


@pytest.mark.parametrize("stderr", ["2>&-", pytest.param("2>/dev/full", marks=needs_full)])
@pytest.mark.parametrize("words", [("run", "hello", "--json"), ("verify",)])
def test_a_result_needs_no_stderr(command, words, stderr):
    verb, *others = words
    done = shell([*command(verb), *others], stderr)
    assert done.returncode == 0
    assert "predictions" in done.stdout or "verified" in done.stdout


def test_a_verification_needs_no_stdout(command):
    assert shell(command("verify"), ">&-").returncode == 0


def test_inputs_from_a_standard_input_that_is_not_there_are_refused(command):
    done = shell([*command("run"), "--input", "-"], "<&-")
    assert done.returncode == 1
    assert "--input - reads standard input, and this process was started without one" in done.stderr


def test_a_verb_that_gets_no_memory_says_so(classifier, monkeypatch, capsys):
    def too_large(*_: object, **__: object) -> None:
        raise MemoryError  # as numpy does; which arrays a system refuses depends on what else it does

    monkeypatch.setattr("obert_edge.device.commands.verbs.verify", too_large)
    assert bundle_main.main(["verify"], str(classifier)) == 3
    assert capsys.readouterr().err.startswith("error: there is not enough memory\n  fix: end other programs")
