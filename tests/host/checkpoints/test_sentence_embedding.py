"""Embeddings in torch are those of the device wing."""

import dataclasses

import numpy as np
import pytest
import torch

from obert_edge.bundle.manifest import POOLING_MODES, ModuleFacts
from obert_edge.device.pipelines.modules import Modules, normalized
from obert_edge.host.checkpoints.checkpoint import Checkpoint
from obert_edge.host.checkpoints.model_config import read_config
from obert_edge.host.checkpoints.sentence_embedding import SentenceEmbedding
from obert_edge.host.checkpoints.sentence_transformers import SentenceModel
from tests.host.compiler.tiny_checkpoints import save_model

HIDDEN = 8
LENGTHS, SKIPPED = [5, 3, 4], [2, 1, 0]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    save_model(folder, "bert", "encoder", hidden=HIDDEN, layers=1, heads=2)
    return read_config(Checkpoint.open(folder), task="encoder")


class Outputs:
    def __init__(self):
        torch.manual_seed(0)
        self.last_hidden_state = torch.randn(3, 5, HIDDEN)
        self.pooler_output = torch.randn(3, HIDDEN)


def batch(**more):
    return {"attention_mask": torch.arange(5)[None, :] < torch.tensor(LENGTHS)[:, None], **more}


def modules_of(modes, include_prompt):
    facts = [
        ModuleFacts("pooling", HIDDEN, HIDDEN * len(modes), modes=list(modes), include_prompt=include_prompt)
    ]
    width, weights = HIDDEN * len(modes), []
    for activation, outputs, residual in (("tanh", 6, True), ("gelu", 6, True), ("silu", 4, False)):
        facts.append(
            ModuleFacts("dense", width, outputs, activation=activation, bias=not residual, residual=residual)
        )
        width = outputs
    facts += [ModuleFacts("layer_norm", width, width, epsilon=1e-5), ModuleFacts("normalize", width, width)]
    chance = np.random.default_rng(0)
    weights = [
        chance.standard_normal(shape).astype(np.float32) for module in facts for shape in module.shapes
    ]
    return tuple(facts), tuple(weights)


@pytest.mark.parametrize("include_prompt", [True, False])
@pytest.mark.parametrize("modes", [*((mode,) for mode in POOLING_MODES), ("cls", "max", "weightedmean")])
def test_every_pooling_and_module_gives_what_the_device_gives(config, modes, include_prompt):
    facts, weights = modules_of(modes, include_prompt)
    sentence = SentenceModel(
        modules=facts, weights=weights, include_prompt=include_prompt, normalize=True, truncate_dim=3
    )
    chosen = dataclasses.replace(config, pooling="", modules=facts, sentence=sentence)
    outputs = Outputs()
    found = SentenceEmbedding(chosen)(outputs, batch(prompt_tokens=torch.tensor(SKIPPED)))
    device = Modules.read(facts, sentence.weight_bytes)
    tokens = outputs.last_hidden_state.numpy()
    pooled = device.pool(tokens, LENGTHS, None if include_prompt else SKIPPED)
    expected = normalized(device.apply(pooled))[:, :3]
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-6)


@pytest.mark.parametrize("pooling", ["mean", "cls", "pooler"])
def test_poolings_of_the_program_are_known(config, pooling):
    outputs = Outputs()
    found = SentenceEmbedding(dataclasses.replace(config, pooling=pooling))(outputs, batch())
    expected = {
        "mean": torch.stack([row[:n].mean(dim=0) for row, n in zip(outputs.last_hidden_state, LENGTHS)]),
        "cls": outputs.last_hidden_state[:, 0],
        "pooler": outputs.pooler_output,
    }
    torch.testing.assert_close(found, expected[pooling])


@pytest.mark.parametrize(("similarity", "length"), [("", 1.0), ("cosine", 1.0), ("dot", None)])
def test_embeddings_are_compared_by_their_directions_unless_lengths_count(config, similarity, length):
    chosen = dataclasses.replace(config, sentence=SentenceModel(similarity=similarity))
    embedding = SentenceEmbedding(chosen)
    found = embedding.compared(Outputs(), batch())
    if length is None:
        torch.testing.assert_close(found, embedding(Outputs(), batch()))
    else:
        torch.testing.assert_close(found.norm(dim=1), torch.full((3,), length))
