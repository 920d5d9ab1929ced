"""The thread pool, seen from outside: crowded, shared, opened and closed many times."""

from __future__ import annotations

import concurrent.futures
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Set

import numpy as np
import pytest

from obert_edge.device.runtime import machine
from obert_edge.device.runtime.native import Library
from obert_edge.targets import build
from tests.engine.models import EncoderBuilder, batch_of

ENCODER = EncoderBuilder(layers=1)
BLOBS = ENCODER.program.to_bytes(), ENCODER.weights


def test_many_more_threads_than_cores(library: Library) -> None:
    batch = batch_of([100, 30, 60])
    with library.open(*BLOBS) as model:
        expected = model.run(batch)
    with library.open(*BLOBS, threads=8 * (os.cpu_count() or 1)) as model:
        for _ in range(20):
            assert all(a.tobytes() == b.tobytes() for a, b in zip(model.run(batch), expected))


def test_thousands_of_short_runs(library: Library) -> None:
    """Every run is a dozen loops: a lost wake-up or a stale task would hang or corrupt one of them."""
    batch = batch_of([40])
    with library.open(*BLOBS, threads=2) as model:
        expected = model.run(batch)[0]
        for _ in range(2000):
            assert np.array_equal(model.run(batch)[0], expected)


def test_models_are_independent(library: Library) -> None:
    def run(seed: int) -> bool:
        batch = batch_of([50, 20], seed=seed)
        with library.open(*BLOBS, implementation="scalar") as model:
            expected = model.run(batch)[2]
        with library.open(*BLOBS, threads=2) as model:
            return all(np.array_equal(model.run(batch)[2], expected) for _ in range(20))

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert all(pool.map(run, range(8)))


def test_a_model_used_from_another_thread(library: Library) -> None:
    batch = batch_of([12])
    with library.open(*BLOBS, threads=2) as model:
        expected = model.run(batch)[0]
        found = []
        worker = threading.Thread(target=lambda: found.append(model.run(batch)[0]))
        worker.start()
        worker.join()
    assert np.array_equal(found[0], expected)


def native_threads() -> Set[str]:
    """The ids of this process's threads; a joined thread leaves /proc a moment later."""
    return {path.name for path in Path("/proc/self/task").iterdir()}


def test_closing_ends_the_threads(library: Library) -> None:
    before = native_threads()
    models = [library.open(*BLOBS, threads=4) for _ in range(5)]
    started = native_threads() - before
    assert len(started) == 15
    for model in models:
        model.close()
    deadline = time.monotonic() + 10
    while native_threads() & started and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not native_threads() & started


@pytest.mark.skipif(machine.affinity() < 2, reason="this process may use one CPU only")
@pytest.mark.skipif(shutil.which("g++") is None, reason="no system compiler (g++)")
@pytest.mark.parametrize("program", ["thread_pool_late", "thread_pool_help"])
def test_no_thread_waits_for_another_that_makes_no_headway(tmp_path: Path, program: str) -> None:
    sources = [Path(__file__).parent / f"{program}.cpp", build.ENGINE / "exec" / "thread_pool.cpp"]
    flags = ["-std=c++17", "-O1", *build.include_flags(), "-lpthread"]
    subprocess.run(["g++", *map(str, sources), *flags, "-o", str(tmp_path / program)], check=True)
    done = subprocess.run([str(tmp_path / program)], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout


@pytest.mark.skipif(machine.affinity() < 2, reason="this process may use one CPU only")
def test_the_same_bits_beside_processes_that_take_every_cpu(library: Library) -> None:
    batch = batch_of([100, 30, 60])
    with library.open(*BLOBS) as model:
        expected = model.run(batch)
    usual = os.sched_getaffinity(0)
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in usual]
    try:
        with library.open(*BLOBS, threads=2) as model:
            for _ in range(200):
                assert all(a.tobytes() == b.tobytes() for a, b in zip(model.run(batch), expected))
    finally:
        for other in others:
            other.kill()
            other.wait()
    assert os.sched_getaffinity(0) == usual
