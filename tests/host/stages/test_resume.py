"""A run that is killed, really, at the worst moments ends with the weights of one that was not."""

from __future__ import annotations

import json
import multiprocessing
import signal

import pytest
import torch
from safetensors.torch import load_file

from obert_edge.host.stages.logs import read_log
from obert_edge.host.stages.recipe import PruneSettings, QuantizeSettings, Recipe, TaskSettings, Training
from obert_edge.host.stages.resume import last_complete_checkpoint
from tests.host.stages.killed import Point, run

#: Two epochs, with dropout, so that random states and orders of both count.
SHORT = Training(
    max_steps=18, learning_rate=1e-3, final_learning_rate=1e-4, batch_size=16, max_length=16, save_steps=4
)
POINTS = [
    Point("1-finetune", "step", 17),  # in the second epoch
    Point("1-finetune", "optimizer", 1),  # the checkpoint has its weights, not its optimizer
    Point("1-finetune", "rename", 1),  # everything is done, nothing in its place
    Point("2-prune", "prune", 1),  # inside a pruning step
    Point("2-prune", "masks", 2),  # the Trainer's checkpoint is whole, its masks are not in it
    Point("2-prune", "step", 4),
    Point("2-prune", "log", 1),  # within a row of the log
    Point("3-quantize", "step", 3),  # ranges are moving
    Point("3-quantize", "step", 12),  # ranges are frozen
]


def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bits(encoder, data, tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.host.stages.killed"])

    def recipe(name):
        return Recipe(
            model=str(encoder),
            output=str(tmp_path / name),
            task=TaskSettings("text", str(data)),
            finetune=SHORT,
            prune=PruneSettings(
                sparsity=0.5,
                initial_sparsity=0.25,
                steps=2,
                until=0.6,
                gradients=4,
                gradient_batch_size=4,
                training=SHORT,
            ),
            quantize=QuantizeSettings(training=SHORT),
        ).to_dict()

    def start(name, point):
        process = context.Process(target=run, args=(recipe(name), point))
        process.start()
        process.join(300)
        return process.exitcode

    assert start("whole", None) == 0
    for point in POINTS:
        assert start("killed", point) == -signal.SIGKILL, point
    assert start("killed", None) == 0
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for stage in ("1-finetune", "2-prune", "3-quantize"):
        expected = load_file(whole / stage / "model.safetensors")
        found = load_file(killed / stage / "model.safetensors")
        assert all(torch.equal(found[name], expected[name]) for name in expected), stage
        rows = [
            [
                {k: v for k, v in row.items() if k != "seconds"}
                for row in read_log(folder / stage / "train_log.csv")
            ]
            for folder in (whole, killed)
        ]
        assert rows[0] == rows[1]
    assert (whole / "3-quantize" / "quantization.json").read_text() == (
        killed / "3-quantize" / "quantization.json"
    ).read_text()
    reports = [
        json.loads((folder / "2-prune" / "stage.json").read_text())["figures"]["pruning_steps"]
        for folder in (whole, killed)
    ]
    assert [step["sparsity"] for step in reports[0]] == [step["sparsity"] for step in reports[1]]
    assert len(reports[1]) == 2
    assert sorted(path.name for path in killed.iterdir()) == sorted(path.name for path in whole.iterdir())
    # The lock that keeps a second command out stays: who removed it could remove that of another.
    assert {path.name for path in killed.iterdir() if path.name.startswith(".")} <= {".lock"}


def test_only_a_checkpoint_that_is_marked_complete_counts(tmp_path):
    assert last_complete_checkpoint(tmp_path) is None
    for step, complete in ((50, True), (200, True), (1000, False)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "trainer_state.json").write_text("{}")
        if complete:
            (folder / "complete").touch()
    assert last_complete_checkpoint(tmp_path) == tmp_path / "checkpoint-200"
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-200"]


@pytest.mark.parametrize("tail", ["", "4,0.2", "4,0.2,1.5,1e-4,2.0,0.5,\n5"])
def test_a_log_that_was_cut_off_is_read_to_its_last_whole_row(tmp_path, tail):
    path = tmp_path / "train_log.csv"
    path.write_text(
        "step,epoch,loss,learning_rate,grad_norm,sparsity,metric,seconds\n2,0.1,1,1,1,,,3\n" + tail
    )
    assert [row["step"] for row in read_log(path)] == ["2"]
