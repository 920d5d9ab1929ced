"""The loss on embeddings."""

import pytest
import torch
from torch import nn

from obert_edge.errors import UsageError
from obert_edge.host.pruning.embedding_distillation import EmbeddingDistillation, embedding_loss


@pytest.fixture
def vectors():
    torch.manual_seed(0)
    return nn.functional.normalize(torch.randn(2, 5, 8), dim=-1)


def test_of_vectors_of_length_one_it_is_one_minus_the_cosine(vectors):
    student, teacher = vectors
    cosine = nn.functional.cosine_similarity(student, teacher).mean()
    assert float(embedding_loss(student, teacher, similarities=0.0)) == pytest.approx(
        1 - float(cosine), abs=1e-6
    )


def test_similarities_are_compared_between_different_texts(vectors):
    student, teacher = vectors
    pairs = [(i, j) for i in range(5) for j in range(5) if i != j]
    differences = [float(student[i] @ student[j] - teacher[i] @ teacher[j]) ** 2 for i, j in pairs]
    alone = float(embedding_loss(student, teacher, similarities=0.0))
    together = float(embedding_loss(student, teacher, similarities=3.0))
    assert together - alone == pytest.approx(3 * sum(differences) / len(pairs), rel=1e-4)
    # A rotation of all vectors keeps them.
    turn = torch.linalg.qr(torch.randn(8, 8)).Q
    turned = float(embedding_loss(teacher @ turn, teacher, similarities=3.0))
    assert turned == pytest.approx(float(embedding_loss(teacher @ turn, teacher, similarities=0.0)), abs=1e-5)


def test_it_has_no_unit(vectors):
    student, teacher = vectors
    assert float(embedding_loss(40 * student, 40 * teacher)) == pytest.approx(
        float(embedding_loss(student, teacher)), rel=1e-5
    )


def test_a_single_text_has_no_similarities(vectors):
    student, teacher = vectors
    assert torch.isfinite(embedding_loss(student[:1], teacher[:1], similarities=5.0))


def test_embeddings_of_another_width_are_refused(vectors):
    with pytest.raises(UsageError, match=r"shape \[5, 8\], of the teacher \[5, 4\]"):
        embedding_loss(vectors[0], vectors[1][:, :4])


def test_hidden_states_are_a_part_of_their_own(vectors):
    class Encoder(nn.Module):
        def __init__(self, scale):
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(scale))

        def forward(self, input_ids, attention_mask=None, output_hidden_states=False):
            state = self.scale * nn.functional.one_hot(input_ids, 8).float()
            return Outputs(last=state, hidden_states=(state, state))

    class Outputs(dict):
        __getattr__ = dict.__getitem__

    def read(outputs, batch):
        return outputs.last.mean(dim=1)

    inputs = {"input_ids": torch.tensor([[1, 2], [3, 4]]), "prompt_tokens": torch.tensor([0, 0])}
    loss, hidden, _ = EmbeddingDistillation(Encoder(1.0), read, hidden_states=2.0).parts(Encoder(2.0), inputs)
    assert hidden.item() == pytest.approx(2.0 * 1 / 8)
    assert loss.item() > 0
    assert EmbeddingDistillation(Encoder(1.0), read).parts(Encoder(2.0), inputs)[1] is None
