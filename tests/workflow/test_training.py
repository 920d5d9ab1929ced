from __future__ import annotations

import pytest
import torch

from obert_edge.recipe import Training
from obert_edge.workflow.models import load_model
from obert_edge.workflow.training import last_complete_checkpoint, total_steps, training_mode


def test_dropout_and_frozen_embeddings_last_only_while_training(encoder, task):
    model = load_model(encoder, task)
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


def test_a_checkpoint_that_was_cut_off_is_passed_over(tmp_path):
    assert last_complete_checkpoint(tmp_path) is None
    for step, state in ((50, "{}"), (200, "{}"), (1000, '{"cut'), (1500, None)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        if state is not None:
            (folder / "trainer_state.json").write_text(state)
    assert last_complete_checkpoint(tmp_path) == tmp_path / "checkpoint-200"
    assert not (tmp_path / "checkpoint-1500").exists()
