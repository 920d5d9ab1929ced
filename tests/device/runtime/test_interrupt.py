"""Ctrl-C ends a run of many seconds soon, and nothing else: the session goes on, and so do other threads."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from obert_edge.device.runtime.library import installed_library
from tests.engine.models import EncoderBuilder, batch_of

GOLDEN = Path(__file__).parents[2] / "golden" / "v2.oeb"

#: A profile counts the runs that came to their end, so that a run which did not can be told without a clock.
#: An alarm ends a process that hangs.
PROGRAM = """
import os, signal, sys, threading, time
import numpy as np
import obert_edge

scenario, threads = sys.argv[2], int(sys.argv[3])
signal.alarm(120)
# A process that is started in the background by a shell ignores it.
signal.signal(signal.SIGINT, signal.default_int_handler)
session = obert_edge.load(sys.argv[1], threads=threads, implementation="scalar")
model = session.manifest.model
ids = np.random.default_rng(1).integers(1, model.vocabulary, (16, model.max_length))
expected = session.run(ids)["logits"].tobytes()
started = time.monotonic()
session.run(ids)
seconds = time.monotonic() - started


def lasting(wanted):
    return np.tile(ids, (int(wanted / seconds) + 2, 1))


def same():
    assert session.run(ids)["logits"].tobytes() == expected, "other bits"


def soon(number, process=0):
    threading.Timer(0.3, os.kill, (process or os.getpid(), number)).start()


def ended_by(error, batch):
    with session.profiling() as profile:
        try:
            session.run(batch)
        except error as raised:
            found = raised
        else:
            raise AssertionError("nothing was raised")
    assert profile.runs == 0, "the run came to its end"
    same()
    return found


if scenario == "Ctrl-C":
    for _ in range(3):
        soon(signal.SIGINT)
        ended_by(KeyboardInterrupt, lasting(20))
elif scenario == "another exception":
    def handler(*_):
        raise TimeoutError("too long")
    signal.signal(signal.SIGUSR1, handler)
    soon(signal.SIGUSR1)
    assert str(ended_by(TimeoutError, lasting(20))) == "too long"
elif scenario == "a handler that returns":
    runs = []
    signal.signal(signal.SIGUSR1, lambda *_: runs.append(session._model.profile()[1]))
    soon(signal.SIGUSR1)
    with session.profiling() as profile:
        found = session.run(lasting(2))["logits"][:16]
    assert (runs, profile.runs) == ([0], 1), "it was called after the run"
    assert found.tobytes() == expected
elif scenario == "another thread":
    other, found = obert_edge.load(sys.argv[1], threads=1, implementation="scalar"), []
    thread = threading.Thread(target=lambda: found.append(other.run(lasting(2))["logits"][:16].tobytes()))
    thread.start()
    soon(signal.SIGINT)
    ended_by(KeyboardInterrupt, lasting(20))
    thread.join()
    assert found == [expected], "the other thread's run was disturbed"
elif scenario == "what a thread asks":
    asked = []

    def poll():
        asked.append(1)
        if len(asked) == 3:
            raise TimeoutError("nobody waits")

    def work():
        with session.polling(poll):
            session.run(ids)
            assert asked, "it was not asked before a short run"
            asked.clear()
            assert str(ended_by(TimeoutError, lasting(20))) == "nobody waits"
        asked.clear()
        same()
        assert not asked, "it was asked behind the block"
        found.append(1)

    found = []
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found
    with session.polling(poll):  # on the main thread, too
        ended_by(TimeoutError, lasting(20))
elif scenario == "a fork":
    child = os.fork()
    if child == 0:
        try:
            soon(signal.SIGINT)
            ended_by(KeyboardInterrupt, lasting(20))
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
same()
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, "a handler was installed"
"""


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "scenario",
    [
        "Ctrl-C",
        "another exception",
        "a handler that returns",
        "another thread",
        "what a thread asks",
        "a fork",
    ],
)
def test_a_signal_is_handled_while_a_run_is_under_way(scenario, threads):
    words = [sys.executable, "-c", PROGRAM, GOLDEN, scenario, threads]
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_run_that_nobody_ends_has_the_bits_of_one_that_is_not_asked():
    builder, batch = EncoderBuilder(), batch_of([150] * 40)
    with installed_library().open(builder.program.to_bytes(), builder.weights, threads=2) as model:
        expected = [array.tobytes() for array in model.run(batch)]
        asked = []
        signal.signal(signal.SIGALRM, lambda *_: asked.append(1))
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        try:
            for _ in range(20):
                assert [array.tobytes() for array in model.run(batch)] == expected
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
        assert asked
