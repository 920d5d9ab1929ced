"""A session's threads take turns in the order in which they came, and an interrupted one delays nobody."""

from __future__ import annotations

import signal
import threading
import time
from typing import List

import numpy as np
import pytest

import obert_edge
from obert_edge.device.runtime.turns import Turns


def until_queued(turns: Turns, before: object) -> None:
    """Wait until somebody has queued behind the lock that was the last."""
    while turns._last is before:
        time.sleep(0.001)


def queued(turns: Turns, call, *arguments) -> threading.Thread:
    """A thread that waits for its turn."""
    before = turns._last
    thread = threading.Thread(target=turns.take, args=(call, *arguments))
    thread.start()
    until_queued(turns, before)
    return thread


def test_a_thread_that_comes_back_at_once_goes_behind_those_who_wait() -> None:
    turns, order, began, queue_is_made = Turns(), [], threading.Event(), threading.Event()

    def greedy() -> None:
        for turn in range(20):
            turns.take(first if turn == 0 else order.append, "greedy")

    def first(name: str) -> None:
        began.set()
        queue_is_made.wait()
        order.append(name)

    threads = [threading.Thread(target=greedy)]
    threads[0].start()
    began.wait()
    threads += [queued(turns, order.append, name) for name in "abcde"]
    queue_is_made.set()
    for thread in threads:
        thread.join()
    assert order == ["greedy", *"abcde", *["greedy"] * 19]


def test_turns_do_not_overlap() -> None:
    turns, inside, most, done = Turns(), [0], [0], []

    def work() -> None:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0)  # lets other threads go
        inside[0] -= 1
        done.append(1)

    threads = [threading.Thread(target=lambda: [turns.take(work) for _ in range(200)]) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, len(done)) == ([1], 1200)


def test_an_exception_ends_a_turn() -> None:
    turns = Turns()
    with pytest.raises(ZeroDivisionError):
        turns.take(lambda: 1 / 0)
    assert turns.take(lambda value: value, 3) == 3


def test_a_signal_takes_a_thread_out_of_the_queue_and_the_next_one_still_waits_for_the_turn() -> None:
    """The main thread is in the middle of the queue: one thread has the turn, another one is behind."""
    turns, order, go = Turns(), [], threading.Event()
    began = threading.Event()

    def long() -> None:
        began.set()
        go.wait()
        order.append("first")

    def handler(*_: object) -> None:
        raise TimeoutError

    def later() -> None:
        until_queued(turns, first)
        threads.append(queued(turns, order.append, "third"))
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    threads = [threading.Thread(target=turns.take, args=(long,))]
    threads[0].start()
    began.wait()
    first = turns._last
    before = signal.signal(signal.SIGUSR1, handler)
    helper = threading.Thread(target=later)
    try:
        with pytest.raises(TimeoutError):
            helper.start()
            turns.take(order.append, "second")
    finally:
        signal.signal(signal.SIGUSR1, before)
    helper.join()
    assert order == [], "the turn under way was not waited for"
    go.set()
    for thread in threads:
        thread.join()
    assert turns.take(lambda: order) == ["first", "third"]


def test_no_moment_is_the_wrong_one_for_a_signal() -> None:
    """Signals as often as the machine gives them, in a thread that does nothing but take turns."""
    turns, ended, taken = Turns(), [0], [0]

    def handler(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, handler)
    try:
        while ended[0] < 200:
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0002)
                while True:
                    turns.take(taken.__setitem__, 0, taken[0] + 1)
            except TimeoutError:
                ended[0] += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    other: List[int] = []
    thread = threading.Thread(target=turns.take, args=(other.append, 1), daemon=True)
    thread.start()
    thread.join(60)
    assert other == [1], "the turn was never given back"


def test_a_session_gives_its_turn_to_trim_between_two_runs_of_a_loop(classifier) -> None:
    """The runs of a thread that does nothing else: the one under way ends, the next one waits."""
    with obert_edge.load(classifier, threads=1) as session:
        ids = np.ones((1, 4), np.int32)
        order: List[str] = []
        began, go = threading.Event(), threading.Event()
        run, trim = session._model.run, session._model.trim

        def slow_run(*arguments):
            order.append("run")
            began.set()
            go.wait()
            return run(*arguments)

        def told_trim() -> None:
            order.append("trim")
            trim()

        session._model.run, session._model.trim = slow_run, told_trim
        looping = threading.Thread(target=lambda: [session.run(ids) for _ in range(3)])
        looping.start()
        assert began.wait(60)
        before = session._turns._last
        trimming = threading.Thread(target=session.trim)
        trimming.start()
        until_queued(session._turns, before)
        go.set()
        trimming.join()
        looping.join()
        assert order == ["run", "trim", "run", "run"]
