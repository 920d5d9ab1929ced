"""A log that is no terminal gets a line every half minute, whatever the work tells or does not tell."""

from __future__ import annotations

import io
import re
import threading
import time
from typing import List

import pytest

from obert_edge import progress
from obert_edge.progress import Bar, Lines


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log() -> io.StringIO:
    return io.StringIO()


def test_a_line_comes_every_half_minute_with_the_time_that_is_left(clock, log) -> None:
    lines = Lines(log, clock)
    for second in range(0, 91):
        clock.now = 100.0 + second
        lines.show("finetune text", second, 3600, "loss 0.5000")
    assert log.getvalue().splitlines() == [
        "finetune text: 30 of 3600, loss 0.5000, 30 s, about 60 min left",
        "finetune text: 60 of 3600, loss 0.5000, 60 s, about 59 min left",
        "finetune text: 90 of 3600, loss 0.5000, 2 min, about 58 min left",
    ]


def test_short_work_says_nothing(clock, log) -> None:
    lines = Lines(log, clock)
    for done in range(10):
        clock.now += 2
        lines.show("building", done, 10)
    assert log.getvalue() == ""


def test_the_time_left_counts_from_where_a_run_went_on(clock, log) -> None:
    lines = Lines(log, clock)
    lines.show("prune", 800, 1000)
    clock.now += 60
    lines.show("prune", 900, 1000)
    assert log.getvalue() == "prune: 900 of 1000, 60 s, about 60 s left\n"


def left_of(lines, clock, log, steps) -> List[float]:
    """The minutes left that the log tells, while steps take the seconds they are said to."""
    lines.show("prune", 0, len(steps))
    for done, seconds in enumerate(steps, start=1):
        clock.now += seconds
        lines.show("prune", done, len(steps))
    found = re.findall(r"about (\d+) (s|min) left", log.getvalue())
    return [int(number) / (60 if unit == "s" else 1) for number, unit in found]


def test_a_pruning_step_where_training_begins_does_not_count_in_the_time_that_is_left(clock, log) -> None:
    lines = Lines(log, clock)
    left = left_of(lines, clock, log, [47.0] + [1.0] * 299)
    assert log.getvalue().splitlines()[:2] == [
        "prune: 1 of 300, 47 s",  # one step of so many tells nothing of those to come
        "prune: 31 of 300, 77 s, about 4 min left",
    ]
    assert left[:4] == [4, 4, 3, 3]


def test_the_time_left_does_not_jump_about_where_a_pause_comes_once(clock, log) -> None:
    lines = Lines(log, clock)
    left = left_of(lines, clock, log, [1.0] * 200 + [90.0] + [1.0] * 799)
    assert all(0 <= before - after <= 2 for before, after in zip(left, left[1:]))


def test_pauses_that_come_again_and_again_count_as_often_as_they_come(clock, log) -> None:
    lines = Lines(log, clock)
    steps = ([40.0] + [1.0] * 19) * 20  # nearly three seconds a step
    left = left_of(lines, clock, log, steps)
    whole = sum(steps) / 60
    times = [whole * (1 - at / len(left)) for at in range(len(left))]
    assert all(abs(found - true) < 0.15 * whole for found, true in zip(left[4:], times[4:]))


def test_the_time_left_follows_steps_that_become_slower(clock, log) -> None:
    lines = Lines(log, clock)
    left_of(lines, clock, log, [1.0] * 300 + [3.0] * 300)
    assert "prune: 400 of 600, 10 min, about 10 min left" in log.getvalue()


def test_the_time_left_becomes_less_within_a_long_step(clock, log) -> None:
    lines = Lines(log, clock)
    lines.show("scoring", 0, 4)
    for second in range(1, 331):
        clock.now += 1
        lines.show("scoring", second // 300, 4)
    assert log.getvalue().splitlines()[-2:] == [
        "scoring: 1 of 4, 5 min, about 15 min left",
        "scoring: 1 of 4, 6 min, about 14 min left",
    ]


def test_parts_of_a_step_stand_behind_it_and_go_when_they_are_done(clock, log) -> None:
    lines = Lines(log, clock)
    lines.show("prune", 10, 100)
    lines.show("gradients", 3, 8)
    clock.now += 7200
    lines.tell_if_due()
    lines.drop("gradients")
    clock.now += 30
    lines.tell_if_due()
    assert log.getvalue().splitlines() == [
        "prune: 10 of 100, 2 h 0 min; gradients: 3 of 8",
        "prune: 10 of 100, 2 h 0 min",
    ]


def test_a_line_comes_where_the_work_tells_nothing_for_long(log) -> None:
    with Lines(log, every=0.01) as lines:
        lines.show("scoring", 1, 4)
        until = time.monotonic() + 20
        while log.getvalue().count("\n") < 3 and time.monotonic() < until:
            time.sleep(0.01)
    assert log.getvalue().startswith("scoring: 1 of 4, 0 s\n")
    told = log.getvalue()
    time.sleep(0.05)
    assert log.getvalue() == told  # and none after the end


def test_a_log_that_cannot_be_written_stops_no_work(clock) -> None:
    stream = io.StringIO()
    stream.close()
    lines = Lines(stream, clock)
    lines.show("scoring", 0, 4)
    clock.now += 40
    lines.show("scoring", 1, 4)


def test_work_that_nobody_counts_is_shown_with_its_time_alone(clock, log) -> None:
    lines = Lines(log, clock)
    lines.show("finding activation ranges", 0, 0)
    clock.now += 40
    lines.tell_if_due()
    lines.show("copying", 0, 0)
    lines.show("copying", 7, 0)
    clock.now += 40
    lines.tell_if_due()
    assert log.getvalue().splitlines() == [
        "finding activation ranges, 40 s",
        "finding activation ranges, 80 s; copying: 7",
    ]


def test_a_bar_on_a_terminal_moves_to_and_fro_for_work_that_nobody_counts(monkeypatch, capsys) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as rich asks for a terminal
    with Bar() as bar:
        for what, done, total in (
            ("copying", 1, 2),
            ("thinking", 0, 0),
            ("thinking", 0, 0),
            ("cutting", 1, 3),
        ):
            bar.show(what, done, total)
            (row,) = bar._progress.tasks
            assert (row.description, row.completed, row.total) == (what, done, total or None)


def test_a_bar_without_a_terminal_writes_lines_of_what_is_done_just_then(monkeypatch, capsys) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.0)
    monkeypatch.setattr(Lines.__init__, "__defaults__", (None, time.monotonic, 0.0))
    with Bar() as bar:
        bar.show("copying", 1, 2)
        bar.show("verifying", 1, 4)
    said = capsys.readouterr().err
    assert "copying: 1 of 2" in said and "verifying: 1 of 4" in said
    assert "\x1b" not in said and "copying" not in said.splitlines()[-1]


@pytest.mark.parametrize("terminal", [True, False])
def test_work_goes_on_where_no_thread_can_be_started(monkeypatch, capsys, terminal) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")  # what Python says where memory is short

    monkeypatch.setattr(threading.Thread, "start", refuse)
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
    with Bar() as bar:
        bar.show("verifying", 1, 2)
        bar.show("verifying", 0, 0)
    assert ("verifying" in capsys.readouterr().err) == terminal


def test_a_process_without_stderr_gets_no_bar(monkeypatch, clock) -> None:
    monkeypatch.setattr("sys.stderr", None)
    with Bar() as bar:
        bar.show("verifying", 1, 2)
    with Lines(clock=clock, every=0.0) as lines:
        lines.show("verifying", 1, 2)
