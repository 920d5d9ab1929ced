"""MobileBERT: what its configuration may say, and what its bundle is made of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest
import torch
import transformers

from obert_edge.bundle import Bundle
from obert_edge.bundle.ops import ABSENT, Embed, LayerNorm, NormKind
from obert_edge.errors import CheckpointError
from obert_edge.host.checkpoints.checkpoint import Checkpoint
from obert_edge.host.checkpoints.model_config import read_config
from obert_edge.host.compiler import build
from obert_edge.host.compiler.importer import import_graph
from obert_edge.host.compiler.passes.first_token import select_first_early
from obert_edge.host.compiler.passes.fuse import fuse
from tests.host.compiler.answers import check_answers_alike, ranges_of
from tests.host.compiler.float_reference import evaluate
from tests.host.compiler.tiny_checkpoints import save_model

IDS = [5, 17, 99, 3, 42, 42, 8]


def logits_of(folder: Path, ids: list[int] = IDS) -> np.ndarray:
    """What the float graph of a folder computes."""
    checkpoint = Checkpoint.open(folder)
    graph = select_first_early(fuse(import_graph(checkpoint, read_config(checkpoint))))
    return evaluate(graph, ids, [0] * len(ids))["logits"]


@pytest.mark.parametrize(
    "fields",
    [
        {"normalization_type": "layer_norm"},
        {"classifier_activation": False},
        {"num_feedforward_networks": 1},
        {"num_feedforward_networks": 2, "embedding_size": 64},
        {"layer_norm_eps": 1e-3, "normalization_type": "layer_norm"},
    ],
    ids=str,
)
@pytest.mark.parametrize("ids", [IDS, IDS[:1]], ids=["7-tokens", "1-token"])
def test_what_the_configuration_says_is_computed(
    tmp_path: Path, fields: Dict[str, Any], ids: list[int]
) -> None:
    model = save_model(tmp_path, "mobilebert", "sequence-classification", **fields)
    with torch.no_grad():
        expected = model(torch.tensor([ids])).logits.numpy()
    np.testing.assert_allclose(logits_of(tmp_path, ids), expected, atol=2e-5)


def test_untied_decoders_and_the_class_of_pretraining(tmp_path: Path) -> None:
    model = save_model(tmp_path / "untied", "mobilebert", "masked-lm", tie_word_embeddings=False)
    pretraining = transformers.MobileBertForPreTraining(
        save_model(tmp_path, "mobilebert", "masked-lm").config
    )
    pretraining.eval().save_pretrained(tmp_path / "both")
    with torch.no_grad():
        expected = model(torch.tensor([IDS])).logits[0].numpy()
        predicted = pretraining(torch.tensor([IDS])).prediction_logits[0].numpy()
    np.testing.assert_allclose(logits_of(tmp_path / "untied"), expected, atol=2e-5)
    np.testing.assert_allclose(logits_of(tmp_path / "both"), predicted, atol=2e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"use_bottleneck": False}, "use_bottleneck = False; supported is True"),
        ({"use_bottleneck_attention": True}, "use_bottleneck_attention = True; supported is False"),
        ({"key_query_shared_bottleneck": False}, "key_query_shared_bottleneck = False"),
        ({"trigram_input": False}, "trigram_input = False"),
        ({"trigram_input": 1}, "trigram_input = 1; supported is True"),
        ({"normalization_type": "batch_norm"}, "'batch_norm'; expected no_norm or layer_norm"),
        ({"num_feedforward_networks": 0}, "num_feedforward_networks = 0"),
        ({"num_feedforward_networks": 10**6}, "num_feedforward_networks = 1000000; expected at most 64"),
        ({"intra_bottleneck_size": 30}, "4 attention heads do not divide the width of the bottlenecks 30"),
        ({"intra_bottleneck_size": None}, "intra_bottleneck_size = None"),
    ],
    ids=str,
)
def test_another_graph_is_refused(tmp_path: Path, fields: Dict[str, Any], message: str) -> None:
    save_model(tmp_path, "mobilebert", "sequence-classification", layers=1)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **fields}))
    with pytest.raises(CheckpointError, match=message):
        read_config(Checkpoint.open(tmp_path))


@pytest.mark.parametrize("activations", ["static", "dynamic"])
@pytest.mark.parametrize("embeddings", ["int8", "int4"])
def test_a_bundle_keeps_the_narrow_table_and_needs_the_third_version(
    tmp_path: Path, activations: str, embeddings: str
) -> None:
    model = save_model(tmp_path, "mobilebert", "token-classification")
    ranges = ranges_of(tmp_path, activations)
    path = build(tmp_path, output=tmp_path / "m.oeb", ranges=ranges, embeddings=embeddings, min_cosine=-1.0)
    if embeddings == "int8":
        check_answers_alike(model, path)
    with Bundle.open(path) as bundle:
        words, others = [op for op in bundle.program.ops if isinstance(op, Embed)]
        norms = [op for op in bundle.program.ops if isinstance(op, LayerNorm)]
        assert (words.neighbors, words.channels, words.position) == (1, 3 * 32, ABSENT)
        assert (others.word, others.vocabulary, others.channels) == (ABSENT, 0, 64)
        assert {NormKind(op.kind) for op in norms} == {NormKind.NONE}
        # Of the embeddings; in each layer two bottlenecks, attention, four feed-forward parts, the way out.
        assert len(norms) == 1 + 3 * 8
        assert bundle.manifest.minimum_reader == 3
