"""The engine and the scalar kernels under the address, undefined-behavior and thread sanitizers.

The vector kernels take minutes to compile this way; to check them too, run
``OBERT_EDGE_CXX=g++ python targets/build.py --sanitize address,undefined --out DIR`` and these tests' command
with ``OBERT_EDGE_TEST_LIBRARY`` set to the library it leaves.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from obert_edge.targets import build

ROOT = Path(__file__).parent.parent.parent

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="no system compiler (g++)")


def test_memory_and_undefined_behavior(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests of whole graphs, hostile programs and odd shapes, on a sanitized library."""
    monkeypatch.setenv("OBERT_EDGE_CXX", "g++")
    plan = build.plans()["x86_avx"]
    own = tuple(source for source in plan.sources if not source[0].startswith("x86_avx/"))
    library = tmp_path / plan.library
    build.build(
        dataclasses.replace(plan, sources=own),
        library,
        cache=tmp_path / "objects",
        sanitize="address,undefined",
    )
    runtime = subprocess.run(
        ["g++", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    environment = {
        **os.environ,
        "LD_PRELOAD": runtime,
        "ASAN_OPTIONS": "detect_leaks=0",  # Python's own
        "OBERT_EDGE_TEST_LIBRARY": str(library),
    }
    environment.pop("OBERT_EDGE_IMPLEMENTATION", None)
    # The sanitizer keeps memory that was given back, to find who uses it still.
    executor = "(test_executor and not arena_shrinks and not trimming_gives)"
    chosen = (
        f"(test_program and not altered_byte) or test_checks or {executor} or test_padded or test_inputs "
        "or test_odd_sizes"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-s", "-p", "no:cacheprovider", "-k", chosen,
         "tests/engine", "tests/kernels"],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert " passed" in done.stdout


def test_thread_pool_has_no_races(tmp_path: Path) -> None:
    program = tmp_path / "stress"
    subprocess.run(
        ["g++", "-std=c++17", "-O1", "-g", "-fsanitize=thread", *build.include_flags(),
         str(Path(__file__).parent / "exec" / "thread_pool_stress.cpp"),
         str(build.ENGINE / "exec" / "thread_pool.cpp"),
         "-lpthread", "-o", str(program)],
        check=True,
    )  # fmt: skip
    done = subprocess.run([str(program)], capture_output=True, text=True, check=False, timeout=120)
    if "unexpected memory mapping" in done.stderr:
        pytest.skip("the thread sanitizer cannot run on this kernel")
    assert done.returncode == 0, done.stdout + done.stderr
