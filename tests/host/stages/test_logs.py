"""Training without a terminal tells how far it is in lines, and on one it shows bars."""

from __future__ import annotations

from types import SimpleNamespace

from obert_edge.host.stages.logs import ProgressCallback
from obert_edge.progress import Lines


def test_a_stage_tells_its_steps_its_loss_and_the_parts_of_a_pruning_step(capsys) -> None:
    now = [0.0]
    bar = ProgressCallback("prune text")
    bar._lines = Lines(clock=lambda: now[0])
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
        "prune text: 10 of 40, loss 0.2500, 75 s, about 2 min left; gradients: 3 of 8",
        "prune text: 10 of 40, loss 0.2500, 2 min, about 2 min left",
    ]
