"""ModernBERT: every form of its configuration becomes the graph that transformers computes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest
import torch
from transformers.models.modernbert.modeling_modernbert import ModernBertRotaryEmbedding

from obert_edge.bundle import Bundle
from obert_edge.bundle.ops import Attention, Embed, Multiply, Rotate
from obert_edge.errors import CheckpointError
from obert_edge.host.checkpoints.attention_config import LayerAttention
from obert_edge.host.checkpoints.checkpoint import Checkpoint
from obert_edge.host.checkpoints.model_config import read_config
from obert_edge.host.compiler import build
from obert_edge.host.compiler.importer import import_graph
from obert_edge.host.compiler.passes.first_token import select_first_early
from obert_edge.host.compiler.passes.fuse import fuse
from obert_edge.host.compiler.rotation import rotation_tables
from tests.host.compiler.answers import IDS, model_answers, ranges_of
from tests.host.compiler.float_reference import evaluate
from tests.host.compiler.tiny_checkpoints import make_model, save_model


def change_config(folder: Path, remove: tuple[str, ...] = (), **fields: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    kept = {name: value for name, value in config.items() if name not in remove}
    (folder / "config.json").write_text(json.dumps({**kept, **fields}))


def attention_of(folder: Path) -> tuple[LayerAttention, ...]:
    return read_config(Checkpoint.open(folder)).attention


def test_a_configuration_of_before_transformers_5_says_the_same(tmp_path: Path) -> None:
    """As the published checkpoints have it."""
    save_model(tmp_path, "modernbert", "encoder")
    found = attention_of(tmp_path)
    assert found == (LayerAttention(160000.0, 0), LayerAttention(10000.0, 8), LayerAttention(10000.0, 8))
    change_config(
        tmp_path,
        remove=("layer_types", "rope_parameters"),
        global_rope_theta=160000.0,
        local_rope_theta=10000.0,
        global_attn_every_n_layers=3,
    )
    assert attention_of(tmp_path) == found
    change_config(tmp_path, local_rope_theta=500.0, global_attn_every_n_layers=2)
    assert [layer.base for layer in attention_of(tmp_path)] == [160000.0, 500.0, 160000.0]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"layer_types": ["full_attention"]}, "layer_types"),
        ({"layer_types": ["chunked_attention"] * 3}, "layer_types"),
        ({"local_attention": 0}, "local_attention = 0"),
        ({"rope_parameters": {"full_attention": {"rope_type": "yarn", "rope_theta": 1e4}}}, "type 'yarn'"),
        ({"rope_parameters": None, "rope_scaling": {"type": "linear", "factor": 2.0}}, "type 'linear'"),
        ({"classifier_pooling": "max"}, "classifier_pooling = 'max'"),
        ({"classifier_activation": "mish"}, "activation 'mish'"),
    ],
)
def test_what_would_compute_something_else_is_refused(
    tmp_path: Path, fields: Dict[str, Any], message: str
) -> None:
    save_model(tmp_path, "modernbert", "sequence-classification")
    change_config(tmp_path, **fields)
    with pytest.raises(CheckpointError, match=message):
        read_config(Checkpoint.open(tmp_path))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"classifier_pooling": "mean"},
        {"classifier_activation": "relu", "hidden_activation": "gelu_new"},
        {"norm_bias": True, "attention_bias": True, "mlp_bias": True, "classifier_bias": True},
        {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"], "local_attention": 6},
        {"local_attention": 500},
    ],
    ids=lambda options: "-".join(options) or "plain",
)
def test_graph_computes_what_transformers_computes(tmp_path: Path, options: Dict[str, Any]) -> None:
    model = save_model(tmp_path, "modernbert", "sequence-classification", **options)
    checkpoint = Checkpoint.open(tmp_path)
    graph = select_first_early(fuse(import_graph(checkpoint, read_config(checkpoint))))
    (expected,) = model_answers(model, ["logits"]).values()
    found = evaluate(graph, IDS.tolist(), [0] * len(IDS))["logits"]
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert np.ptp(expected) > 0.1


def test_a_language_model_without_biases(tmp_path: Path) -> None:
    model = save_model(tmp_path, "modernbert", "masked-lm", decoder_bias=False)
    checkpoint = Checkpoint.open(tmp_path)
    graph = fuse(import_graph(checkpoint, read_config(checkpoint)))
    (expected,) = model_answers(model, ["logits"]).values()
    found = evaluate(graph, IDS.tolist(), [0] * len(IDS))["logits"]
    np.testing.assert_allclose(found, expected[0], atol=2e-5)


def test_a_norm_before_the_first_attention_is_no_modernbert(tmp_path: Path) -> None:
    """A folder whose first layer was dropped by hand would compute something else in transformers."""
    model = make_model("modernbert", "encoder")
    state = {**model.state_dict(), "layers.0.attn_norm.weight": torch.ones(64)}
    model.save_pretrained(tmp_path, state_dict=state)
    checkpoint = Checkpoint.open(tmp_path)
    with pytest.raises(CheckpointError, match=r"layers\.0\.attn_norm\.weight"):
        import_graph(checkpoint, read_config(checkpoint))


@pytest.mark.parametrize("base", [10000.0, 160000.0])
def test_tables_are_those_of_transformers_up_to_the_last_position(base: float) -> None:
    config = make_model("modernbert", "encoder", layers=1, max_position_embeddings=8192).config
    config.rope_parameters["full_attention"]["rope_theta"] = base
    places = torch.arange(8192)[None]
    cosine, sine = ModernBertRotaryEmbedding(config)(torch.zeros(1), places, "full_attention")
    found = rotation_tables(base, 16, 8192)
    for ours, theirs in zip(found, (cosine, sine)):
        np.testing.assert_allclose(ours, theirs[0, :, :8].numpy(), atol=1e-3)  # float32 angles of up to 8191
        np.testing.assert_allclose(ours[:512], theirs[0, :512, :8].numpy(), atol=6e-5)


def test_layers_share_tables_that_are_as_long_as_the_bundle(tmp_path: Path) -> None:
    save_model(tmp_path / "m", "modernbert", "encoder", max_position_embeddings=4096)
    path = build(tmp_path / "m", output=tmp_path / "m.oeb", ranges=ranges_of(tmp_path / "m"), max_length=40)
    with Bundle.open(path) as bundle:
        program = bundle.program
        assert bundle.manifest.minimum_reader == 3
    rotations = [op for op in program.ops if isinstance(op, Rotate)]
    assert len(rotations) == 6 and {op.positions for op in rotations} == {40}
    assert len({op.cosine for op in rotations}) == 2  # a base of full layers, and one of local ones
    assert [op.window for op in program.ops if isinstance(op, Attention)] == [0, 8, 8]
    assert len([op for op in program.ops if isinstance(op, Multiply)]) == 3
    (embed,) = [op for op in program.ops if isinstance(op, Embed)]
    assert (embed.position, embed.positions) == (-1, 0)


def test_a_window_that_no_sequence_leaves_is_none(tmp_path: Path) -> None:
    save_model(tmp_path / "m", "modernbert", "encoder")
    path = build(tmp_path / "m", output=tmp_path / "m.oeb", ranges=ranges_of(tmp_path / "m"), max_length=9)
    with Bundle.open(path) as bundle:
        assert [op.window for op in bundle.program.ops if isinstance(op, Attention)] == [0, 0, 0]
