"""DeBERTa's graph is transformers', in every configuration, and its tables hold what they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from transformers.models.deberta_v2.modeling_deberta_v2 import build_relative_position

from obert_edge.bundle.program import Attention
from obert_edge.errors import CheckpointError
from obert_edge.host.checkpoints.attention_config import RelativeAttention
from obert_edge.host.checkpoints.checkpoint import Checkpoint
from obert_edge.host.checkpoints.model_config import read_config
from obert_edge.host.checkpoints.scales import Scales
from obert_edge.host.compiler.importer import import_graph
from obert_edge.host.compiler.passes.fuse import fuse
from obert_edge.host.compiler.passes.quantize import quantize
from obert_edge.host.compiler.relative_positions import table_row, with_scale_in_bits
from tests.host.compiler.answers import SAMPLES
from tests.host.compiler.float_reference import evaluate
from tests.host.compiler.naive_ranges import naive_ranges
from tests.host.compiler.tiny_checkpoints import save_model

KIND = "deberta-v2"
#: Configurations beside that of version 3, which the tiny checkpoints have.
VARIANTS: Dict[str, Dict[str, Any]] = {
    "version 3": {},
    "version 2": {
        "position_buckets": -1,
        "norm_rel_ebd": "none",
        "share_att_key": False,
        "pos_att_type": ["c2p", "p2c"],
        "position_biased_input": True,
        "type_vocab_size": 2,
    },
    "queries alone": {"pos_att_type": "c2p", "position_buckets": -1, "max_relative_positions": 5},
    "keys alone, of their own": {"pos_att_type": "p2c", "share_att_key": False},
    "no products": {"pos_att_type": None},
    "no relative attention": {"relative_attention": False},
}


def of_span(buckets: int, furthest: int) -> RelativeAttention:
    return RelativeAttention(True, True, buckets or furthest, buckets, furthest, True, True)


@pytest.mark.parametrize(
    ("buckets", "furthest", "longest"),
    [
        (256, 512, 512),
        (256, 512, 1024),
        (0, 512, 512),
        (0, 20, 100),
        (32, 128, 512),
        (16, 66, 66),
        (7, 9, 40),
    ],
)
def test_every_distance_has_the_row_that_transformers_takes(
    buckets: int, furthest: int, longest: int
) -> None:
    relative = of_span(buckets, furthest)
    tokens = torch.zeros(1, longest, 1)
    bucket = build_relative_position(tokens, tokens, buckets or -1, furthest)[0]
    expected = torch.clamp(bucket + relative.span, 0, 2 * relative.span - 1)
    places = np.arange(longest)
    np.testing.assert_array_equal(table_row(places[:, None] - places, relative), expected.numpy())


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("length", [1, 60])
def test_the_graph_computes_what_transformers_does(tmp_path: Path, variant: str, length: int) -> None:
    model = save_model(tmp_path, KIND, "encoder", **VARIANTS[variant])
    checkpoint = Checkpoint.open(tmp_path)
    graph = import_graph(checkpoint, read_config(checkpoint))
    ids = np.random.default_rng(0).integers(1, 100, length).tolist()
    types = [int(i > 5) for i in range(length)] if model.config.type_vocab_size else [0] * length
    with torch.no_grad():
        expected = model(input_ids=torch.tensor([ids]), token_type_ids=torch.tensor([types]))
    found = evaluate(graph, ids, types)["last_hidden_state"]
    np.testing.assert_allclose(found, expected.last_hidden_state[0].numpy(), atol=1e-5)


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("function", ["gelu", "relu"])
def test_heads_are_those_of_the_configuration(tmp_path: Path, legacy: bool, function: str) -> None:
    """Which masked-LM head there is, and the pooler's function beside the encoder's."""
    for task in ("masked-lm", "sequence-classification"):
        folder = tmp_path / task
        model = save_model(folder, KIND, task, legacy=legacy, pooler_hidden_act=function)
        checkpoint = Checkpoint.open(folder)
        graph = import_graph(checkpoint, read_config(checkpoint))
        ids = list(range(1, 30))
        with torch.no_grad():
            expected = model(input_ids=torch.tensor([ids])).logits.numpy()
        found = evaluate(graph, ids, [0] * len(ids))["logits"]
        np.testing.assert_allclose(found, expected.reshape(found.shape), atol=1e-5)


def test_an_absolute_table_that_only_pretraining_read_is_left_out(tmp_path: Path) -> None:
    """Published weights of version 3 have it, with the head and the second table of their pretraining."""
    save_model(tmp_path, KIND, "sequence-classification")
    tensors = load_file(tmp_path / "model.safetensors")
    more = {
        "deberta.embeddings.position_embeddings.weight": (66, 64),
        "mask_predictions.dense.weight": (64, 64),
        "lm_predictions.lm_head.bias": (120,),
    }
    tensors |= {name: np.ones(shape, np.float32) for name, shape in more.items()}
    save_file(tensors, tmp_path / "model.safetensors")
    checkpoint = Checkpoint.open(tmp_path)
    assert import_graph(checkpoint, read_config(checkpoint)).max_length == 66


def attentions(folder: Path, max_length: int | None = None, **options: Any) -> list[Any]:
    save_model(folder, KIND, "encoder", **options)
    checkpoint = Checkpoint.open(folder)
    graph = fuse(import_graph(checkpoint, read_config(checkpoint), max_length))
    lowered = quantize(graph, Scales.from_mapping(naive_ranges(graph, SAMPLES), ""))
    return [op for op in lowered.ops if op.op_type is Attention]


def test_tables_hold_the_rows_that_texts_reach_and_layers_share_what_is_the_same(tmp_path: Path) -> None:
    ops = attentions(tmp_path / "a", 9)
    assert [op.numbers["positions"] for op in ops] == [17, 17, 17]
    assert ops[0].arrays["position_key"].shape == (4, 4, 17, 4)
    assert ops[0].arrays["position_key_scale"].shape == (4, 17)
    assert len({id(op.arrays["row_of_distance"]) for op in ops}) == 1
    assert ops[0].arrays["row_of_distance"].tolist() == list(range(16, -1, -1))
    shared = attentions(tmp_path / "b")[0]  # 32 rows at most, of 131 distances
    assert shared.numbers["positions"] <= 32 < shared.numbers["distances"] == 66


def test_scales_that_would_make_denormals_become_zero() -> None:
    found = with_scale_in_bits(np.float32([1.0, 2.0**-60, 2.0**-90]), 2.0**-10)
    assert found.dtype == np.float32
    assert found[2] == 0 and found[1] > 0
    assert found[0] == np.float32(2.0**-10 * np.log2(np.e))


REFUSED = {
    "convolution": ({"conv_kernel_size": 3}, "has a convolution beside its first layer"),
    "narrow embeddings": ({"embedding_size": 32}, "embeddings of width 32"),
    "wide heads": ({"attention_head_size": 32}, "heads of 32 channels"),
    "odd heads": ({"num_attention_heads": 32}, "heads of 2 channels"),
    "more heads than channels": ({"num_attention_heads": 48}, "do not divide"),
    "products": ({"pos_att_type": 3}, "has pos_att_type = 3; expected a list"),
    "buckets": ({"position_buckets": "many"}, "has position_buckets = 'many'; expected a whole number"),
    "too many buckets": ({"position_buckets": 200}, "200 position_buckets of 66 max_relative_positions"),
    "too far": ({"max_relative_positions": 1 << 20}, "1048576 max_relative_positions"),
    "another table": ({"position_buckets": 8}, "rel_embeddings.weight.* has shape"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_configured_otherwise_is_refused(tmp_path: Path, what: str) -> None:
    changes, message = REFUSED[what]
    save_model(tmp_path, KIND, "encoder", layers=1)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **changes}))
    checkpoint = Checkpoint.open(tmp_path)
    with pytest.raises(CheckpointError, match=message) as caught:
        import_graph(checkpoint, read_config(checkpoint))
    assert caught.value.hint
