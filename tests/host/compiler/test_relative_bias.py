"""The bias of a score by distance is transformers', at every distance, and one constant for all layers."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from transformers.models.mpnet.modeling_mpnet import MPNetEncoder

from obert_edge.bundle.program import Attention
from obert_edge.errors import CheckpointError
from obert_edge.host.checkpoints.checkpoint import Checkpoint
from obert_edge.host.checkpoints.model_config import read_config
from obert_edge.host.checkpoints.scales import Scales
from obert_edge.host.compiler.importer import import_graph
from obert_edge.host.compiler.passes.fuse import fuse
from obert_edge.host.compiler.passes.plan import plan
from obert_edge.host.compiler.passes.quantize import quantize
from obert_edge.host.compiler.relative_bias import relative_bias
from tests.host.compiler.answers import SAMPLES
from tests.host.compiler.graphs import packed_graph
from tests.host.compiler.naive_ranges import naive_ranges
from tests.host.compiler.tiny_checkpoints import save_model

TABLE = "mpnet.encoder.relative_attention_bias.weight"


@pytest.mark.parametrize("longest", [1, 2, 9, 127, 128, 512])
def test_every_distance_has_the_bias_that_transformers_adds(longest: int) -> None:
    table = np.random.default_rng(0).normal(size=(32, 3)).astype(np.float32)
    found = relative_bias(table, longest)
    assert found.distances == min(longest, 128)
    behind = torch.arange(1 - longest, longest)
    expected = table[MPNetEncoder.relative_position_bucket(behind).numpy()].T
    most = found.distances - 1
    np.testing.assert_array_equal(found.by_distance[:, np.clip(behind.numpy(), -most, most) + most], expected)


def test_denormals_become_zero_and_the_rest_is_in_bits() -> None:
    table = np.full((32, 1), 1e-39, np.float32)
    table[0] = 2.0
    bits = relative_bias(table, 3).in_bits
    assert bits.dtype == np.float32
    assert bits.tolist() == [[0.0, 0.0, float(np.float32(2 * math.log2(math.e))), 0.0, 0.0]]


def test_all_layers_share_one_constant(tmp_path: Path) -> None:
    save_model(tmp_path, "mpnet", "sequence-classification")
    checkpoint = Checkpoint.open(tmp_path)
    graph = fuse(import_graph(checkpoint, read_config(checkpoint)))
    lowered, _ = packed_graph(graph)
    compiled, blob = plan(lowered)
    attentions = [op for op in compiled.ops if isinstance(op, Attention)]
    assert len({op.bias for op in attentions}) == 1 < len(attentions)
    const = compiled.consts[attentions[0].bias]
    stored = np.frombuffer(blob, np.float32, const.bytes // 4, const.offset).reshape(4, -1)
    assert stored.shape[1] == 2 * attentions[0].distances - 1
    expected = checkpoint.tensor(TABLE)[0] * math.log2(math.e)  # of a key at its own query
    np.testing.assert_allclose(stored[:, stored.shape[1] // 2], expected, rtol=1e-6)
    assert compiled.minimum_reader == 3


def test_scales_change_nothing_about_the_bias(tmp_path: Path) -> None:
    """It is added after the scores have their scale."""
    save_model(tmp_path, "mpnet", "encoder")
    checkpoint = Checkpoint.open(tmp_path)
    graph = fuse(import_graph(checkpoint, read_config(checkpoint)))
    arrays = []
    for samples in (SAMPLES[:1], SAMPLES):
        lowered = quantize(graph, Scales.from_mapping(naive_ranges(graph, samples), ""))
        arrays.append(next(op for op in lowered.ops if op.op_type is Attention).arrays["bias"])
    assert arrays[0].tobytes() == arrays[1].tobytes()


@pytest.mark.parametrize("damage", ["few buckets", "not finite", "other heads"])
def test_another_table_is_refused(tmp_path: Path, damage: str) -> None:
    save_model(tmp_path, "mpnet", "sequence-classification", layers=1)
    tensors = load_file(tmp_path / "model.safetensors")
    table = tensors[TABLE].copy()
    if damage == "few buckets":
        table = table[:16]
    elif damage == "not finite":
        table[3, 1] = np.inf
    else:
        table = table[:, :3]
    save_file({**tensors, TABLE: np.ascontiguousarray(table)}, tmp_path / "model.safetensors")
    checkpoint = Checkpoint.open(tmp_path)
    with pytest.raises(CheckpointError, match="relative_attention_bias"):
        import_graph(checkpoint, read_config(checkpoint))
