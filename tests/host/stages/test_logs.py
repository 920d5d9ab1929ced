"""Training without a terminal tells how far it is in lines, and on one it shows bars."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from obert_edge.host.stages.logs import ProgressCallback
from obert_edge.progress import Lines


def test_a_stage_tells_its_steps_its_loss_and_the_parts_of_a_pruning_step(capsys) -> None:
    now = [0.0]
    bar = ProgressCallback("prune text")
    bar._lines = bar._work = Lines(clock=lambda: now[0])
    state = SimpleNamespace(global_step=0, max_steps=40)
    bar.on_train_begin(None, state, None)
    state.global_step, now[0] = 10, 40.0
    bar.on_log(None, state, None, logs={"loss": 0.25})
    bar.on_step_end(None, state, None)
    bar.within_step("gradients", 2, 8)
    now[0] = 75.0
    bar.within_step("gradients", 3, 8)
    bar.within_step("gradients", 8, 8)
    now[0] = 110.0
    bar.on_step_end(None, state, None)
    bar.close()
    assert capsys.readouterr().err.splitlines() == [
        "prune text: 10 of 40, loss 0.2500, 40 s, about 2 min left",
        "prune text: 10 of 40, loss 0.2500, 75 s; gradients: 3 of 8",  # nobody knows yet how long they take
        "prune text: 10 of 40, loss 0.2500, 2 min, about 2 min left",
    ]


def test_the_time_left_counts_the_pruning_steps_to_come(capsys) -> None:
    """Of 40 optimizer steps of a second, with pruning steps of a minute before steps 10, 20 and 30."""
    now, plan = [0.0], (10, 20, 30)
    bar = ProgressCallback("prune text")
    bar._lines = bar._work = Lines(clock=lambda: now[0])
    bar.pauses_from = lambda step: sum(at >= step for at in plan)
    state = SimpleNamespace(global_step=0, max_steps=40)
    bar.on_train_begin(None, state, None)
    told = {}
    for step in range(40):
        if step in plan:
            for batch in range(8):
                bar.within_step("gradients", batch, 8)
                told[step, batch] = bar._work.seconds_left("prune text")
                now[0] += 7.5
            bar.within_step("gradients", 8, 8)
        bar.on_step_begin(None, state, None)
        now[0] += 1
        state.global_step += 1
        bar.on_step_end(None, state, None)
        told[step] = bar._work.seconds_left("prune text")
    bar.close()
    assert told[5] is None  # none of the three was seen yet
    assert told[10, 4] is None
    assert told[10] == 29 + 2 * 60
    assert told[19] == 20 + 2 * 60
    assert told[20, 4] == 20 + 2 * 60 - 30
    assert told[20] == 19 + 60
    assert told[30, 7] == pytest.approx(10 + 7.5)
    assert told[30] == 9
    assert "prune text: 30 of 40, 3 min, about 32 s left; gradients: 5 of 8" in capsys.readouterr().err


def test_pruning_steps_that_take_no_time_leave_the_time_left_as_it_is() -> None:
    now = [0.0]
    bar = ProgressCallback("prune text")
    bar._lines = bar._work = Lines(clock=lambda: now[0], every=1e9)
    bar.pauses_from = lambda step: sum(at >= step for at in (0, 10, 20))
    state = SimpleNamespace(global_step=0, max_steps=40)
    bar.on_train_begin(None, state, None)
    for step in range(1, 5):
        bar.on_step_begin(None, state, None)
        now[0], state.global_step = now[0] + 1, step
        bar.on_step_end(None, state, None)
    assert bar._work.seconds_left("prune text") == 36
    bar.close()


def test_a_bar_on_a_terminal_has_no_time_left_while_nobody_knows_it(monkeypatch, capsys) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as rich asks for a terminal
    now = [0.0]
    bar = ProgressCallback("prune text")
    bar._work._clock = lambda: now[0]
    bar.pauses_from = lambda step: 1
    state = SimpleNamespace(global_step=0, max_steps=40)
    bar.on_train_begin(None, state, None)
    for step in range(1, 5):
        now[0], state.global_step = now[0] + 1, step
        bar.on_step_end(None, state, None)
    columns = [column for column in bar._bar.columns if hasattr(column, "elapsed_when_finished")]
    (task,) = bar._bar.tasks
    assert [str(column.render(task)) for column in columns] == ["-:--:--"]
    bar.pauses_from = lambda step: 0
    bar.on_step_begin(None, state, None)
    assert [str(column.render(task)) for column in columns] == ["0:00:36"]
    bar.close()
