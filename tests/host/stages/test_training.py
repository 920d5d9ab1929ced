from __future__ import annotations

import dataclasses

import pytest
import torch
from safetensors.torch import load_file

from obert_edge.errors import UsageError
from obert_edge.host.stages.models import load_model
from obert_edge.host.stages.recipe import Training
from obert_edge.host.stages.timing import total_steps
from obert_edge.host.stages.training import flushed_denormals, training_mode


def test_dropout_and_frozen_embeddings_last_only_while_training(encoder, task):
    model = load_model(encoder, task, new_head=True)
    with training_mode(model, Training(dropout=0.0, freeze_embeddings=True)):
        assert {m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)} == {0.0}
        assert not model.bert.embeddings.word_embeddings.weight.requires_grad
        assert model.classifier.weight.requires_grad
    assert {m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)} == {0.1}
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(
    ("epochs", "max_steps", "steps"), [(1, None, 4), (0.5, None, 2), (3, 7, 7), (0.01, None, 1)]
)
def test_the_steps_of_a_run_follow_from_epochs_or_are_given(epochs, max_steps, steps):
    assert total_steps(Training(epochs=epochs, max_steps=max_steps, batch_size=32), rows=100) == steps


def test_several_processes_share_the_rows_of_an_epoch(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert total_steps(Training(epochs=1, batch_size=16), rows=128) == 4


def test_batches_are_added_up_to_a_step():
    assert total_steps(Training(epochs=1, batch_size=16, accumulate=4), rows=100) == 2


def test_gradient_checkpointing_changes_no_weight(encoder, task, tmp_path):
    from obert_edge.host.stages import finetune, quantize

    tiny = Training(max_steps=3, batch_size=8, max_length=16, learning_rate=1e-3)
    for name, options in (("a", tiny), ("b", dataclasses.replace(tiny, gradient_checkpointing=True))):
        finetune(encoder, task, tmp_path / name, training=options, progress=False)
        quantize(tmp_path / "a", task, tmp_path / f"{name}-int8", training=options, progress=False)
    for kind in ("", "-int8"):
        one, other = (load_file(tmp_path / f"{name}{kind}" / "model.safetensors") for name in ("a", "b"))
        assert all(torch.equal(one[key], other[key]) for key in one)
    records = [(tmp_path / f"{name}-int8" / "quantization.json").read_text() for name in ("a", "b")]
    assert records[0] == records[1]  # a forward pass computed again is not observed again


def test_half_precision_without_a_gpu_is_refused(encoder, task, tmp_path):
    from obert_edge.host.stages import finetune

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(UsageError, match="fp16 needs a GPU"):
        finetune(encoder, task, tmp_path / "o", training=Training(precision="fp16"), progress=False)


@pytest.mark.parametrize("before", [False, True])
def test_denormals_are_flushed_only_while_training(before):
    def flushes() -> bool:
        return (torch.tensor(torch.finfo(torch.float32).tiny) / 2).item() == 0

    torch.set_flush_denormal(before)
    try:
        with flushed_denormals():
            assert flushes()
        assert flushes() is before
    finally:
        torch.set_flush_denormal(False)
