"""The process that a benchmark runs an engine in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import obert_edge
from obert_edge.device.bench.engine_process import EngineProcess, import_path
from tests.hostile import Hostile


@pytest.fixture
def hostile(tmp_path):
    return Hostile(tmp_path)


BENCH = ("--iterations", "1", "--sequence-length", "8", "--json")


@pytest.mark.parametrize("path", ["", ".", os.curdir + os.sep, None])
def test_a_benchmark_imports_nothing_of_the_working_directory(hostile, classifier, path):
    """Whatever the path of the process says, an empty entry or the folder by its name."""
    entry = str(hostile.folder) if path is None else path
    boot = (
        "import sys; sys.path[:] = [entry for entry in sys.path if entry]; "
        "import json, struct, subprocess, time, ctypes, zlib, numpy; from obert_edge.cli import run_command; "
        f"sys.path.insert(0, {entry!r}); "
        f"sys.exit(run_command(['bench', {str(classifier)!r}, *{list(BENCH)}]))"
    )
    command = [sys.executable, "-c", boot]
    done = subprocess.run(command, cwd=hostile.folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["latency_ms"]["runs"] == 1
    assert hostile.run == []


def test_a_checkout_that_is_not_installed_comes_last(monkeypatch):
    home = Path(obert_edge.__path__[0]).parent
    monkeypatch.chdir(home)
    monkeypatch.setattr(sys, "path", ["", str(home), "/somewhere", "relative"])
    assert import_path() == ["/somewhere", str(home / "relative"), str(home)]


def test_the_search_path_of_the_environment_is_not_read_again(monkeypatch, hostile):
    monkeypatch.setenv("PYTHONPATH", str(hostile.folder))
    with EngineProcess("obert-edge") as process:
        assert process.call("memory")["peak_memory"] > 0
    assert hostile.run == []
