"""A process may fork after it loaded a bundle, as servers and ``multiprocessing`` do: the child runs on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parents[2] / "golden" / "v2.oeb"

#: Ends with 0 when all children did. A child that hangs is ended by its alarm, and its status says so.
PROGRAM = """
import os, signal, sys, threading
import numpy as np
import obert_edge

busy, threads, children = sys.argv[2] == "busy", int(sys.argv[3]), int(sys.argv[4])
session = obert_edge.load(sys.argv[1], threads=threads)
ids = np.random.default_rng(1).integers(1, session.manifest.model.vocabulary, (4, 16))
expected = {name: value.tobytes() for name, value in session.run(ids).items()}
stop = threading.Event()

def work():
    rows = 1
    while not stop.is_set():
        session.run(np.repeat(ids, rows, axis=0))
        rows = rows % 64 + 1  # so that the arena grows meanwhile

def child(depth):
    signal.alarm(60)
    found = {name: value.tobytes() for name, value in session.run(ids).items()}
    assert found == expected, "other bits"
    alive = len(os.listdir("/proc/self/task"))
    assert alive == threads, f"{alive} threads"
    if depth:
        wait(start(depth - 1))
    session.close()

def start(depth):
    process = os.fork()
    if process:
        return process
    try:
        child(depth)
        os._exit(0)
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
    os._exit(1)

def wait(process):
    status = os.waitpid(process, 0)[1]
    assert status == 0, f"a child ended with status {status}"

worker = threading.Thread(target=work)
if busy:
    worker.start()
try:
    for _ in range(children):
        wait(start(depth=1))
finally:
    stop.set()
    if busy:
        worker.join()
found = {name: value.tobytes() for name, value in session.run(ids).items()}
assert found == expected, "other bits in the parent"
"""


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(("parent", "children"), [("idle", 3), ("busy", 15)])
def test_a_fork_runs_on_all_threads_and_gives_the_same_bits(parent, children, threads):
    words = [sys.executable, "-c", PROGRAM, GOLDEN, parent, threads, children]
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
