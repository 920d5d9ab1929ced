"""NomicBERT, GTE, Jina v3, EuroBERT: each form of their files is what transformers computes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest
import torch

from obert_edge.errors import CheckpointError, UsageError
from obert_edge.host.checkpoints.checkpoint import Checkpoint
from obert_edge.host.checkpoints.model_config import read_config
from obert_edge.host.checkpoints.pytorch import load_pytorch
from obert_edge.host.compiler.importer import import_graph
from obert_edge.host.compiler.passes.fuse import fuse
from tests.host.compiler.float_reference import evaluate
from tests.host.compiler.tiny_checkpoints import save_model

IDS = [5, 17, 99, 3, 42, 42, 8]
RENAMED = ["nomic_bert", "gte", "jina_embeddings_v3"]


def change_config(folder: Path, **fields: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **fields}))


def logits_of(folder: Path) -> np.ndarray:
    checkpoint = Checkpoint.open(folder)
    graph = fuse(import_graph(checkpoint, read_config(checkpoint)))
    return evaluate(graph, IDS, [0] * len(IDS))["logits"]


@pytest.mark.parametrize("architecture", RENAMED)
def test_the_names_of_published_files_are_those_of_the_modules(tmp_path: Path, architecture: str) -> None:
    model = save_model(tmp_path / "published", architecture, "masked-lm")
    model.save_pretrained(tmp_path / "own", save_original_format=False)
    published, own = (Checkpoint.open(tmp_path / name) for name in ("published", "own"))
    assert published.names == own.names
    for name in own.names:
        np.testing.assert_array_equal(published.tensor(name), own.tensor(name))
    loaded, missing = load_pytorch(published, "ForMaskedLM")
    assert not [name for name in missing if "decoder" not in name]
    assert torch.equal(loaded(torch.tensor([IDS])).logits, model(torch.tensor([IDS])).logits)


def test_a_matrix_that_is_no_three_in_one_is_refused(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    save_model(tmp_path, "nomic_bert", "encoder")
    tensors = load_file(tmp_path / "model.safetensors")
    name = "encoder.layers.1.attn.Wqkv.weight"
    save_file({**tensors, name: tensors[name][:-1]}, tmp_path / "model.safetensors", {"format": "pt"})
    checkpoint = Checkpoint.open(tmp_path)
    with pytest.raises(CheckpointError, match=r"layers\.1\.attn\.Wqkv\.weight' .* 3 times as many rows"):
        import_graph(checkpoint, read_config(checkpoint))


@pytest.mark.parametrize(
    ("architecture", "fields", "message"),
    [
        ("nomic_bert", {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "type 'yarn'"),
        ("gte", {"rope_parameters": None, "rope_scaling": {"type": "ntk", "factor": 8.0}}, "type 'ntk'"),
        ("gte", {"partial_rotary_factor": 0.5}, "on 0.5 of the channels"),
        ("eurobert", {"head_dim": 8}, "4 attention heads of 8 channels do not make up"),
        ("eurobert", {"num_key_value_heads": 3}, "3 heads of keys do not divide the 4 heads"),
        ("eurobert", {"classifier_pooling": "max"}, "classifier_pooling = 'max'; expected late or bos"),
        ("eurobert", {"hidden_act": "mish"}, "activation 'mish'"),
        ("albert", {"num_hidden_groups": 4}, "num_hidden_groups = 4; expected at most 3"),
        ("albert", {"inner_group_num": 0}, "inner_group_num = 0"),
        ("albert", {"num_hidden_layers": 10**9}, "num_hidden_layers = 1000000000; expected at most 4096"),
    ],
)
def test_what_would_compute_something_else_is_refused(
    tmp_path: Path, architecture: str, fields: Dict[str, Any], message: str
) -> None:
    save_model(tmp_path, architecture, "sequence-classification")
    change_config(tmp_path, **fields)
    with pytest.raises(CheckpointError, match=message):
        read_config(Checkpoint.open(tmp_path))


def test_a_head_that_transformers_lacks_is_refused_by_name(tmp_path: Path) -> None:
    save_model(tmp_path, "gte", "encoder")
    with pytest.raises(UsageError, match="no head of gte for the task 'question-answering'"):
        read_config(Checkpoint.open(tmp_path), "question-answering")
    with pytest.raises(CheckpointError, match="has no class GteForQuestionAnswering") as caught:
        load_pytorch(Checkpoint.open(tmp_path), "ForQuestionAnswering")
    assert "token-classification" in caught.value.hint


@pytest.mark.parametrize(
    ("architecture", "fields"),
    [
        ("gte", {"rope_theta": 500.0, "rope_parameters": None}),
        ("eurobert", {"rope_parameters": {"rope_type": "default", "rope_theta": 250_000.0}}),
        ("eurobert", {"num_key_value_heads": None}),
    ],
)
def test_the_base_is_where_a_configuration_has_it(
    tmp_path: Path, architecture: str, fields: Dict[str, Any]
) -> None:
    options = {} if architecture == "gte" else fields
    model = save_model(tmp_path, architecture, "token-classification", **options)
    if architecture == "gte":
        change_config(tmp_path, **fields)
        model, _ = load_pytorch(Checkpoint.open(tmp_path), "ForTokenClassification")
    with torch.no_grad():
        expected = model(torch.tensor([IDS])).logits[0].numpy()
    np.testing.assert_allclose(logits_of(tmp_path), expected, atol=2e-5)


@pytest.mark.parametrize("pooling", ["late", "bos", "mean"])
def test_a_sequence_classifier_reads_what_the_configuration_says(tmp_path: Path, pooling: str) -> None:
    model = save_model(tmp_path, "eurobert", "sequence-classification", classifier_pooling=pooling)
    with torch.no_grad():
        expected = model(torch.tensor([IDS])).logits.numpy()
    np.testing.assert_allclose(logits_of(tmp_path), expected, atol=2e-5)


def test_token_types_may_be_missing(tmp_path: Path) -> None:
    model = save_model(tmp_path, "gte", "token-classification", type_vocab_size=0)
    with torch.no_grad():
        expected = model(torch.tensor([IDS])).logits[0].numpy()
    np.testing.assert_allclose(logits_of(tmp_path), expected, atol=2e-5)


def test_tied_and_untied_decoders(tmp_path: Path) -> None:
    for tied in (True, False):
        model = save_model(tmp_path / str(tied), "eurobert", "masked-lm", tie_word_embeddings=tied)
        with torch.no_grad():
            expected = model(torch.tensor([IDS])).logits[0].numpy()
        np.testing.assert_allclose(logits_of(tmp_path / str(tied)), expected, atol=2e-5)
