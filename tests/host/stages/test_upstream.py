"""Before any task: layers dropped, weights pruned by masked language modeling, then transferred."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import BertForMaskedLM

from obert_edge.errors import CheckpointError, UsageError
from obert_edge.host.data import load_task
from obert_edge.host.stages import drop_layers, evaluate, finetune, prune, transfer
from obert_edge.host.stages.logs import read_log
from obert_edge.host.stages.models import load_model
from obert_edge.host.stages.recipe import Distillation, Pruning, Training
from tests.host.stages.conftest import FAST

SHORT = Training(max_steps=6, learning_rate=1e-3, batch_size=8, max_length=16, evaluate_steps=3)


@pytest.fixture(scope="module")
def text(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    rows = [json.loads(line)["text"] for line in (data / "train.jsonl").read_text().splitlines()]
    path.write_text("\n".join(rows))
    return load_task("mlm", path)


@pytest.fixture(scope="module")
def upstream(encoder, text, tmp_path_factory):
    """A masked language model of the encoder, pruned with its own loss."""
    folder = tmp_path_factory.mktemp("upstream")
    finetune(encoder, text, folder / "dense", training=SHORT, progress=False)
    plan = Pruning(sparsity=0.5, pattern="unstructured", steps=2, gradients=4, gradient_batch_size=4)
    teacher = Distillation(temperature=5.5)
    prune(
        folder / "dense",
        text,
        folder / "sparse",
        pruning=plan,
        training=SHORT,
        distillation=teacher,
        progress=False,
    )
    return folder


def test_pruning_upstream_uses_the_masked_language_models_loss(upstream, text):
    assert json.loads((upstream / "sparse" / "config.json").read_text())["architectures"] == [
        "BertForMaskedLM"
    ]
    sparsity = json.loads((upstream / "sparse" / "sparsity.json").read_text())
    assert sparsity["sparsity"] == pytest.approx(0.5, abs=0.001)
    assert len(sparsity["layers"]) == 12
    assert "50.00 % of" in (upstream / "sparse" / "sparsity.md").read_text()
    result = evaluate(upstream / "sparse", text, max_length=16)
    assert result.metric == "accuracy"
    assert 0 <= result.metrics["accuracy"] <= 100
    assert result.metrics["perplexity"] > 1


def test_the_log_has_sparsity_and_metric(upstream, text):
    rows = read_log(upstream / "sparse" / "train_log.csv")
    assert [row["step"] for row in rows if row["metric"]] == ["3", "6"]
    last = evaluate(upstream / "sparse", text, max_length=16).metrics["accuracy"]
    assert float(rows[-1]["metric"]) == pytest.approx(last)
    assert float(rows[-1]["sparsity"]) == pytest.approx(0.5, abs=0.001)


def test_transfer_keeps_every_zero_and_trains_the_rest(upstream, dense, task, tmp_path):
    report = transfer(
        upstream / "sparse",
        task,
        tmp_path / "o",
        training=FAST,
        distillation=Distillation(teacher=str(dense), temperature=5.5),
        progress=False,
    )
    assert report.stage == "transfer"
    before = load_file(upstream / "sparse" / "model.safetensors")
    after = load_file(tmp_path / "o" / "model.safetensors")
    query = "bert.encoder.layer.0.attention.self.query.weight"
    assert torch.equal(before[query] == 0, after[query] == 0)
    assert not torch.equal(before[query], after[query])
    assert report.figures.sparsity == pytest.approx(0.5, abs=0.001)
    assert evaluate(tmp_path / "o", task).metrics["accuracy"] > 80


def test_transfer_without_a_fine_tuned_teacher_is_refused(upstream, task, tmp_path):
    with pytest.raises(CheckpointError, match="no sequence-classification head"):
        transfer(upstream / "sparse", task, tmp_path / "o", training=SHORT, distillation=Distillation())


def test_dropping_keeps_the_named_layers_and_learns_from_the_whole(dense, task, tmp_path):
    drop_layers(dense, task, tmp_path / "cut", keep=[1], training=Training(epochs=0), progress=False)
    cut, whole = (load_file(folder / "model.safetensors") for folder in (tmp_path / "cut", dense))
    layers = {name.split(".")[3] for name in cut if ".layer." in name}
    assert layers == {"0"}
    name = "bert.encoder.layer.{}.output.dense.weight"
    assert torch.equal(cut[name.format(0)], whole[name.format(1)])
    assert load_model(tmp_path / "cut", task).config.num_hidden_layers == 1
    report = drop_layers(
        dense,
        task,
        tmp_path / "taught",
        keep=[1],
        training=FAST,
        distillation=Distillation(hidden_states=0.1),
        progress=False,
    )
    assert report.options["distillation"]["hidden_states"] == 0.1
    assert evaluate(tmp_path / "taught", task).metrics["accuracy"] > 80


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        ([], "keep is"),
        ([2], "cannot be kept of 2"),
        ([1, 0], "keep is"),
        ([0, 0], "keep is"),
        ([-1], "keep is"),
    ],
)
def test_layers_that_are_not_there_cannot_be_kept(dense, task, tmp_path, keep, message):
    with pytest.raises(UsageError, match=message):
        drop_layers(dense, task, tmp_path / "o", keep=keep, training=Training(epochs=0), progress=False)


def test_tensorboard_events_hold_what_the_log_holds(upstream):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(upstream / "sparse" / "tensorboard")).Reload()
    rows = read_log(upstream / "sparse" / "train_log.csv")
    for series in ("loss", "learning_rate", "sparsity", "metric"):
        found = {event.step: event.value for event in events.Scalars(f"train/{series}")}
        expected = {int(row["step"]): float(row[series]) for row in rows if row[series]}
        assert found == pytest.approx(expected, rel=1e-5)


def test_an_upstream_model_is_a_masked_language_model_of_transformers(upstream):
    model, found = BertForMaskedLM.from_pretrained(upstream / "sparse", output_loading_info=True)
    assert not found["missing_keys"]
    assert model.config.num_hidden_layers == 2
