"""`tools/test` runs the suite in a process per CPU that it may use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = Path(__file__).resolve().parents[2] / "tools" / "test"

#: Prints the options for pytest where a process may use only the first of its CPUs, or so many as it has.
PROGRAM = """
import json, os, runpy, sys
sys.path.insert(0, os.path.dirname(sys.argv[1]))
os.sched_setaffinity(0, json.loads(sys.argv[2]))
print(json.dumps(runpy.run_path(sys.argv[1])["workers"]()))
"""


@pytest.mark.parametrize("most", [1, 2])
def test_a_process_per_cpu(most: int) -> None:
    allowed = sorted(os.sched_getaffinity(0))[:most]
    words = [sys.executable, "-c", PROGRAM, COMMAND, json.dumps(allowed)]
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=True)
    options = json.loads(done.stdout)
    if len(allowed) == 1:
        assert options == []
    else:
        assert options == [
            "--numprocesses",
            str(len(allowed)),
            "--dist",
            "loadfile",
            "--no-loadscope-reorder",
        ]
