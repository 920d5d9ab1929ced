"""A checkpoint of every architecture and head becomes a graph that computes what transformers computes."""

from __future__ import annotations

from pathlib import Path
from typing import Dict

import numpy as np
import pytest
import torch

from obert_edge.errors import CheckpointError
from obert_edge.host.checkpoints.checkpoint import Checkpoint
from obert_edge.host.checkpoints.model_config import read_config
from obert_edge.host.compiler import ir
from obert_edge.host.compiler.importer import import_graph
from obert_edge.host.compiler.passes.first_token import select_first_early
from obert_edge.host.compiler.passes.fuse import fuse
from tests.host.checkpoints.published_checkpoints import make_published_model, save_published_model
from tests.host.compiler.float_reference import evaluate
from tests.host.compiler.tiny_checkpoints import CASES, save_model

IDS = [5, 17, 99, 3, 42, 42, 8]
TYPES = [0, 0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize(("architecture", "task"), CASES)
def test_graph_computes_what_transformers_computes(tmp_path: Path, architecture: str, task: str) -> None:
    model = (
        save_model(tmp_path, architecture, task, hidden_act="gelu_new")
        if architecture == "bert"
        else (save_model(tmp_path, architecture, task))
    )
    checkpoint = Checkpoint.open(tmp_path)
    config = read_config(checkpoint)
    graph = select_first_early(fuse(import_graph(checkpoint, config)))

    types = TYPES if config.type_vocabulary > 1 else [0] * len(IDS)
    inputs = {"input_ids": torch.tensor([IDS])}
    if config.type_vocabulary:
        inputs["token_type_ids"] = torch.tensor([types])
    with torch.no_grad():
        expected = model(**inputs)
    for name, value in evaluate(graph, IDS, types).items():
        if name == "sentence_embedding":
            reference = expected.last_hidden_state.mean(dim=1)
        else:
            reference = getattr(expected, name)
        reference = reference.numpy().reshape(value.shape)
        np.testing.assert_allclose(value, reference, atol=2e-5)
        assert np.ptp(reference) > 0.01  # an output that says nothing would agree with anything


@pytest.mark.parametrize(
    "options", [{"num_hidden_groups": 2}, {"inner_group_num": 2}, {"embedding_size": 64}]
)
def test_layers_that_share_weights_are_as_many_in_the_graph_as_are_computed(
    tmp_path: Path, options: Dict[str, int]
) -> None:
    model = save_model(tmp_path, "albert", "encoder", layers=4, **options)
    checkpoint = Checkpoint.open(tmp_path)
    graph = fuse(import_graph(checkpoint, read_config(checkpoint)))
    attentions = [node for node in graph.nodes if isinstance(node, ir.SelfAttention)]
    sets = options.get("num_hidden_groups", 1) * options.get("inner_group_num", 1)
    assert len({node.name for node in attentions}) == 4 * options.get("inner_group_num", 1)
    assert len({node.module for node in attentions}) == sets
    with torch.no_grad():
        expected = model(torch.tensor([IDS])).last_hidden_state[0].numpy()
    found = evaluate(graph, IDS, [0] * len(IDS))["last_hidden_state"]
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_movement_pruning_before_its_masks_are_applied_is_refused(tmp_path: Path) -> None:
    model = make_published_model("squadv1", 3)
    state = {**model.state_dict(), "bert.encoder.layer.0.output.dense.mask_scores": torch.ones(32, 128)}
    save_published_model(model, tmp_path / "m", state=state, kind="legacy pickle")
    checkpoint = Checkpoint.open(tmp_path / "m")
    with pytest.raises(CheckpointError, match="mask_scores") as error:
        import_graph(checkpoint, read_config(checkpoint))
    assert "apply the masks" in error.value.hint
