"""Gradients of outputs: the Gauss-Newton matrix is their covariance; no labels, no random state."""

import numpy as np
import pytest
import torch
from torch import nn

from obert_edge.errors import UsageError
from obert_edge.host.pruning import EmbeddingDistillation, OutputLoss
from obert_edge.host.pruning.output_gradients import read_logits

IDS = torch.tensor([[1, 2, 3], [4, 5, 0]])
MASK = torch.tensor([[1, 1, 1], [1, 1, 0]])


class Model(nn.Module):
    """A mean of word vectors through a matrix; knows no token types."""

    def __init__(self, outputs: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.linear = nn.Embedding(8, 4), nn.Linear(4, outputs)

    def forward(self, input_ids, attention_mask, labels=None):
        assert labels is None
        weights = attention_mask.float() / attention_mask.sum(dim=1, keepdim=True)
        return {"logits": self.linear((self.words(input_ids) * weights.unsqueeze(-1)).sum(dim=1))}


def read(outputs, batch):
    return outputs["logits"]


def batch(**more):
    return {"input_ids": IDS, "attention_mask": MASK, "token_type_ids": torch.zeros_like(IDS), **more}


def gradient(model, loss):
    (found,) = torch.autograd.grad(loss, [model.linear.weight])
    return found.flatten()


def test_the_covariance_of_the_gradients_is_the_gauss_newton_matrix_whatever_the_batch():
    model = Model()
    rows = []
    for row in model(IDS, MASK)["logits"]:
        rows += [gradient(model, value) for value in model_row(model, row)]
    jacobian = torch.stack(rows)
    exact = jacobian.T @ jacobian / len(IDS)
    found = torch.stack([gradient(model, OutputLoss(read, seed)(model, batch())) for seed in range(4000)])
    assert torch.allclose(found.T @ found / len(found), exact, atol=0.1 * float(exact.diagonal().max()))


def model_row(model, row):
    """The outputs of a row, each with a graph of its own."""
    index = next(i for i, other in enumerate(model(IDS, MASK)["logits"]) if torch.equal(other, row))
    return [model(IDS, MASK)["logits"][index, channel] for channel in range(3)]


def test_the_same_batch_gives_the_same_gradient_and_no_random_state_moves():
    model, state = Model(), torch.get_rng_state()
    first, again = (gradient(model, OutputLoss(read)(model, batch())) for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(torch.get_rng_state(), state)
    other = {**batch(), "input_ids": IDS.flip(0)}
    assert not torch.equal(first, gradient(model, OutputLoss(read)(model, other)))


def test_labels_are_not_looked_at():
    model = Model()
    with_labels = OutputLoss(read)(model, batch(labels=torch.tensor([0, 1])))
    assert torch.equal(with_labels, OutputLoss(read)(model, batch()))


def test_a_loss_against_the_own_embeddings_has_no_gradients_where_outputs_have_some():
    model, teacher = Model(), Model()
    loss, _ = EmbeddingDistillation(teacher, read)(model, batch())
    assert float(gradient(model, loss).abs().max()) < 1e-6
    assert float(gradient(model, OutputLoss(read)(model, batch())).abs().max()) > 1e-2


def test_what_changes_no_answer_does_not_count():
    logits = torch.randn(2, 3, 5)
    assert torch.allclose(
        read_logits({"logits": logits + 7.0}, {}), read_logits({"logits": logits}, {}), atol=1e-5
    )
    changed = logits.clone()
    changed[1, 2] = 9.0  # padding
    given = {"attention_mask": MASK}
    assert torch.equal(read_logits({"logits": changed}, given), read_logits({"logits": logits}, given))
    spans = {"start_logits": torch.randn(2, 3), "end_logits": torch.randn(2, 3)}
    padded = {key: value.masked_fill(MASK == 0, 50.0) for key, value in spans.items()}
    moved = {key: value + 3.0 for key, value in spans.items()}
    assert torch.allclose(read_logits(padded, given), read_logits(moved, given), atol=1e-5)


def test_a_single_output_is_a_number_and_counts_as_it_is():
    values = torch.tensor([[1.0], [2.0]])
    assert np.allclose(read_logits({"logits": values}, {}), values)


def test_outputs_without_logits_are_refused_by_name():
    with pytest.raises(UsageError, match="no logits, they have \\['last_hidden_state'\\]"):
        read_logits({"last_hidden_state": torch.zeros(1)}, {})
