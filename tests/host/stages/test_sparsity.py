"""What is pruned stays pruned, in every stage, until somebody asks otherwise."""

from __future__ import annotations

import dataclasses
import json
import logging
import re

import pytest
import torch
from safetensors.torch import load_file

from obert_edge.errors import UsageError
from obert_edge.host.stages import drop_layers, finetune, prune, quantize, transfer, trim_vocabulary
from obert_edge.host.stages.models import load_model
from obert_edge.host.stages.recipe import Distillation, Pruning, QuantizeSettings, Training
from obert_edge.host.stages.runner import run_stage
from obert_edge.host.stages.sparsity import PRUNED_SHARE, is_pruned
from obert_edge.host.stages.stage_quantize import Quantize

SHORT = Training(max_steps=4, learning_rate=1e-2, batch_size=16, max_length=16, dropout=0.0, weight_decay=0.1)
AT_ONCE = dataclasses.replace(SHORT, max_steps=0)
PLAN = Pruning(method="magnitude", sparsity=0.8, pattern="4x1")


@pytest.fixture(scope="module")
def pruned(dense, task, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sparsity") / "pruned"
    prune(dense, task, folder, pruning=PLAN, training=AT_ONCE, progress=False)
    return folder


def linears(folder):
    return {
        name: value
        for name, value in load_file(folder / "model.safetensors").items()
        if ".layer." in name and name.endswith("weight") and value.ndim == 2
    }


def further(pruned, task, name, output, training, **options):
    """A stage that trains, from the pruned model."""
    if name == "finetune":
        return finetune(pruned, task, output, training=training, progress=False)
    if name == "drop":
        return drop_layers(pruned, task, output, keep=[0], training=training, progress=False)
    if name == "transfer":
        return transfer(pruned, task, output, training=training, progress=False)
    if name == "quantize":
        return quantize(pruned, task, output, training=training, progress=False)
    plan = dataclasses.replace(PLAN, sparsity=0.9, steps=1)
    return prune(pruned, task, output, pruning=plan, training=training, progress=False)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"precision": "bf16"},
        {"gradient_checkpointing": True},
        {"freeze_embeddings": True},
        {"accumulate": 2},
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["finetune", "drop", "transfer", "quantize", "prune"])
def test_zeros_stay_in_every_stage_that_trains(pruned, task, tmp_path, name, changes):
    report = further(pruned, task, name, tmp_path / "o", dataclasses.replace(SHORT, **changes))
    before, after = linears(pruned), linears(tmp_path / "o")
    assert after and all(bool((value[before[key] == 0] == 0).all()) for key, value in after.items())
    assert any(not torch.equal(value, before[key]) for key, value in after.items())  # the others are trained
    share = sum(int((v == 0).sum()) for v in after.values()) / sum(v.numel() for v in after.values())
    figures = json.loads((tmp_path / "o" / "stage.json").read_text())["figures"]
    assert figures["sparsity"] == pytest.approx(share)
    assert f"sparsity {share:.4g}" in str(report)


def test_zeros_stay_where_a_killed_run_goes_on(pruned, task, tmp_path, monkeypatch):
    from transformers import Trainer

    told = dataclasses.replace(SHORT, save_steps=1)
    finetune(pruned, task, tmp_path / "whole", training=told, progress=False)
    step, done = Trainer.training_step, []

    def die_at_the_third(*arguments, **options):
        done.append(1)
        if len(done) == 3:
            raise KeyboardInterrupt
        return step(*arguments, **options)

    monkeypatch.setattr(Trainer, "training_step", die_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        finetune(pruned, task, tmp_path / "o", training=told, progress=False)
    monkeypatch.undo()
    finetune(pruned, task, tmp_path / "o", training=told, progress=False)
    whole, resumed = linears(tmp_path / "whole"), linears(tmp_path / "o")
    assert all(torch.equal(resumed[key], whole[key]) for key in whole)


def test_trimming_the_vocabulary_reports_the_zeros(pruned, task, tmp_path):
    report = trim_vocabulary(pruned, tmp_path / "o", task=task, progress=False)
    assert report.sparsity == pytest.approx(0.8, abs=0.01)
    assert all(torch.equal(value, linears(pruned)[key]) for key, value in linears(tmp_path / "o").items())


@pytest.mark.parametrize("name", ["finetune", "drop"])
def test_dense_trains_the_zeros(pruned, task, tmp_path, name):
    report = further(pruned, task, name, tmp_path / "o", dataclasses.replace(SHORT, dense=True))
    assert report.sparsity < 0.01


@pytest.mark.parametrize("name", ["transfer", "quantize"])
def test_stages_that_keep_zeros_refuse_to_give_them_up(pruned, task, tmp_path, name):
    with pytest.raises(UsageError, match="keeps zeros"):
        further(pruned, task, name, tmp_path / "o", dataclasses.replace(SHORT, dense=True))


def test_a_model_counts_as_pruned_from_a_share_of_zeros_in_one_matrix(dense, task):
    model = load_model(dense, task)
    assert not is_pruned(model)
    weight = model.bert.encoder.layer[1].attention.self.key.weight
    flat = weight.detach().reshape(-1)
    with torch.no_grad():
        flat[: int(PRUNED_SHARE * len(flat)) - 1] = 0.0
        assert not is_pruned(model)
        flat[: int(PRUNED_SHARE * len(flat)) + 1] = 0.0
    assert is_pruned(model)


@pytest.mark.parametrize("training", [SHORT, AT_ONCE], ids=["gradual", "at once"])
def test_a_model_is_not_pruned_to_less_than_it_is(pruned, task, tmp_path, training):
    plan = dataclasses.replace(PLAN, sparsity=0.5, steps=1)
    with pytest.raises(UsageError, match=r"is 80\.\d+% sparse already, and zeros stay"):
        prune(pruned, task, tmp_path / "o", pruning=plan, training=training, progress=False)
    with pytest.raises(UsageError, match="pattern 2:4 cannot be 90.0% sparse"):
        prune(pruned, task, tmp_path / "o", sparsity=0.9, pattern="2:4", training=training, progress=False)
    assert not (tmp_path / "o").exists()


def test_pruning_at_once_to_what_a_model_is_already_is_nothing_done(pruned, dense, task, tmp_path):
    with pytest.raises(UsageError, match="would remove nothing"):
        prune(pruned, task, tmp_path / "o", pruning=PLAN, training=AT_ONCE, progress=False)
    with pytest.raises(UsageError, match="would remove nothing"):
        prune(dense, task, tmp_path / "o", sparsity=0.0, method="magnitude", training=AT_ONCE, progress=False)
    assert list(tmp_path.iterdir()) == []  # nor a work folder, of which the next run would speak


@pytest.mark.parametrize("pattern", ["1x4", "8x1", "2:4", "unstructured"])
def test_another_pattern_says_what_it_will_come_to(dense, task, tmp_path, caplog, pattern):
    start = "4x1" if pattern != "2:4" else "unstructured"
    first = dataclasses.replace(PLAN, sparsity=0.4, pattern=start)
    prune(dense, task, tmp_path / "p", pruning=first, training=AT_ONCE, progress=False)
    with caplog.at_level(logging.WARNING):
        plan = dataclasses.replace(PLAN, sparsity=0.5, pattern=pattern)
        report = prune(tmp_path / "p", task, tmp_path / "o", pruning=plan, training=AT_ONCE, progress=False)
    said = [record.getMessage() for record in caplog.records if "will be between" in record.getMessage()]
    if pattern == "unstructured":
        assert not said
        assert report.sparsity == pytest.approx(0.5, abs=0.001)
        return
    found = re.search(r"between ([\d.]+) % and ([\d.]+) % sparse", said[0])
    low, high = (float(part) / 100 for part in found.groups())
    assert low + 0.001 >= 0.5 and low - 0.001 <= report.sparsity <= high + 0.001


def test_dense_prunes_anew(pruned, task, tmp_path):
    plan = dataclasses.replace(PLAN, sparsity=0.5, pattern="1x4", steps=1)
    told = dataclasses.replace(SHORT, dense=True, max_steps=12)
    report = prune(
        pruned,
        task,
        tmp_path / "o",
        pruning=plan,
        training=told,
        distillation=Distillation(hardness=0.0),
        progress=False,
    )
    # Trained, the zeros in blocks that stay are no longer what they were.
    assert report.sparsity == pytest.approx(0.5, abs=0.02)


def test_gradients_of_zeros_do_not_count_when_gradients_are_clipped(pruned, task, tmp_path):
    """A callback that only writes the zeros back would let them scale what the others learn."""
    settings = QuantizeSettings(training=SHORT, distillation=Distillation(hardness=0.0))
    run_stage(Quantize(), pruned, task, tmp_path / "o", settings, progress=False)
    rows = (tmp_path / "o" / "train_log.csv").read_text().splitlines()
    at = rows[0].split(",").index("sparsity")
    assert [float(row.split(",")[at]) for row in rows[1:]] == pytest.approx([0.8] * 4, abs=0.01)


@pytest.mark.parametrize("pattern", ["5x1", "1x3", "1:3"])
@pytest.mark.parametrize("training", [AT_ONCE, SHORT], ids=["at once", "gradually"])
def test_a_pattern_that_does_not_divide_a_matrix_is_refused(dense, task, tmp_path, pattern, training):
    plan = dataclasses.replace(PLAN, pattern=pattern, sparsity=0.5)
    with pytest.raises(UsageError, match=f"pattern {pattern} does not fit .*query of shape"):
        prune(dense, task, tmp_path / "o", pruning=plan, training=training, progress=False)


@pytest.mark.parametrize("dense_again", [True, False])
def test_pruning_at_once_that_removes_nothing_is_refused(dense, task, tmp_path, dense_again):
    """The zeros of the first are a weight short of the share, or more than is asked for: nothing to do."""
    first = dataclasses.replace(PLAN, pattern="unstructured")
    prune(dense, task, tmp_path / "p", pruning=first, training=AT_ONCE, progress=False)
    plan = dataclasses.replace(first, sparsity=0.5 if dense_again else 0.8)
    told = dataclasses.replace(AT_ONCE, dense=dense_again)
    with pytest.raises(UsageError, match="remove"):
        prune(tmp_path / "p", task, tmp_path / "o", pruning=plan, training=told, progress=False)
    assert not (tmp_path / "o").exists()


def test_dense_without_training_says_that_zeros_stay(dense, task, tmp_path, caplog):
    first = dataclasses.replace(PLAN, pattern="unstructured")
    prune(dense, task, tmp_path / "p", pruning=first, training=AT_ONCE, progress=False)
    plan = dataclasses.replace(PLAN, sparsity=0.7)
    told = dataclasses.replace(AT_ONCE, dense=True)
    with caplog.at_level(logging.WARNING):
        report = prune(tmp_path / "p", task, tmp_path / "o", pruning=plan, training=told, progress=False)
    assert report.sparsity > 0.8
    assert "70.00 % was asked for, and the result is 8" in caplog.text
