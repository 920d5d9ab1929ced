"""Every layout of the published sparse BERTs builds, and its bundle answers as the model it came from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from obert_edge.bundle import Bundle
from obert_edge.host.checkpoints.checkpoint import Checkpoint
from obert_edge.host.checkpoints.pytorch import load_pytorch
from obert_edge.host.compiler import build
from obert_edge.host.pruning import Masks
from obert_edge.host.quantization import load_quantized, save_quantized
from obert_edge.host.stages.models import quantized
from tests.host.checkpoints.conftest import qat as qat
from tests.host.checkpoints.published_checkpoints import (
    LAYOUTS,
    bundle_answers,
    check_close,
    encoder_linears,
    make_batches,
    make_published_folder,
    make_published_model,
    model_answers,
    obert_names,
    save_published_model,
    with_position_ids,
)

BUILT = [LAYOUTS[1], LAYOUTS[3], LAYOUTS[5]]


def test_the_published_names_are_53_of_few_layouts() -> None:
    names = obert_names()
    assert len(names) == 53
    assert sum(bool(content.get("qat")) for content in names.values()) == 9
    layout = {json.dumps({**c, "sparsity": 0, "layers": 0}, sort_keys=True) for c in names.values()}
    assert {json.dumps({**names[n], "sparsity": 0, "layers": 0}, sort_keys=True) for n in LAYOUTS} <= layout


@pytest.mark.parametrize("name", BUILT)
def test_a_published_model_builds_and_answers(name: str, tmp_path: Path) -> None:
    model = make_published_folder(name, tmp_path / name)
    path = build(tmp_path / name, output=tmp_path / "m.oeb")
    with Bundle.open(path, verify="full") as bundle:
        facts = bundle.manifest
    assert facts.model.layers == obert_names()[name]["layers"]
    check_close(bundle_answers(path), model_answers(model), 0.97)


def test_safetensors_and_pickle_of_one_model_are_one_model(tmp_path: Path) -> None:
    name = "oBERT-3-downstream-pruned-block4-80-QAT-squadv1"
    for kind in ("pickle", "safetensors"):
        make_published_folder(name, tmp_path / kind, kind)
        build(tmp_path / kind, output=tmp_path / f"{kind}.oeb")
    assert (tmp_path / "pickle.oeb").read_bytes() == (tmp_path / "safetensors.oeb").read_bytes()


def test_a_quantized_checkpoint_answers_as_torch_trained_it_and_the_bundle_as_the_checkpoint(
    qat: Any, tmp_path: Path
) -> None:
    folder, model = qat
    assert quantized(folder)
    ours = load_quantized(folder)
    check_close(model_answers(ours), model_answers(model), 0.99)
    path = build(folder, output=tmp_path / "m.oeb")
    found, expected = bundle_answers(path), model_answers(ours)
    for key, value in expected.items():
        assert (found[key] == value).mean() > 0.9
        np.testing.assert_allclose(found[key], value, atol=0.1 * np.ptp(value))


def test_a_quantized_folder_written_again_builds_the_same_bundle(qat: Any, tmp_path: Path) -> None:
    folder, _ = qat
    save_quantized(load_quantized(folder), None, tmp_path / "again")
    assert json.loads((tmp_path / "again" / "quantization.json").read_text())["format"] == 2
    for name in ("vocab.txt", "tokenizer_config.json"):
        (tmp_path / "again" / name).write_bytes((folder / name).read_bytes())
    first = build(folder, output=tmp_path / "a.oeb")
    second = build(tmp_path / "again", output=tmp_path / "b.oeb")
    with Bundle.open(first) as a, Bundle.open(second) as b:
        assert bytes(a.weights) == bytes(b.weights)


def test_a_quantizer_that_is_missing_is_calibrated_and_the_others_are_kept(qat: Any, tmp_path: Path) -> None:
    folder, model = qat
    state = {key: value for key, value in model.state_dict().items() if "qa_outputs.quant" not in key}
    save_published_model(model, tmp_path / "m", state=state)
    (tmp_path / "m" / "config.json").write_bytes((folder / "config.json").read_bytes())
    path = build(tmp_path / "m", output=tmp_path / "m.oeb")
    check_close(bundle_answers(path), model_answers(model), 0.97)


def test_prunebert_of_2020_loads(tmp_path: Path) -> None:
    model = make_published_model("squadv1", 3, sparsity=90)
    save_published_model(
        model,
        tmp_path / "m",
        kind="legacy pickle",
        model_type="masked_bert",
        architectures=["MaskedBertForQuestionAnswering"],
        pruning_method="topK",
        mask_init="constant",
        mask_scale=0.0,
    )
    path = build(tmp_path / "m", output=tmp_path / "m.oeb")
    check_close(bundle_answers(path), model_answers(model), 0.97)
    with Bundle.open(path) as bundle:
        assert bundle.manifest.sparsity > 0.85


@pytest.mark.parametrize("architecture", ["bert", "distilbert"])
def test_intels_one_by_four_models_keep_their_blocks(tmp_path: Path, architecture: str) -> None:
    model = make_published_model("squadv1", 2, sparsity=80, block=4, architecture=architecture)
    save_published_model(model, tmp_path / "m", state=with_position_ids(model))
    path = build(tmp_path / "m", output=tmp_path / "m.oeb")
    check_close(bundle_answers(path), model_answers(model), 0.97)
    loaded, missing = load_pytorch(Checkpoint.open(tmp_path / "m"), "ForQuestionAnswering")
    assert missing == []
    assert Masks.from_weights(loaded).sparsity == pytest.approx(0.8, abs=0.01)
    for linear in encoder_linears(loaded):
        zeros = linear.weight.view(-1, 4) == 0
        assert bool((zeros.all(1) == zeros.any(1)).all())


def test_intels_upstream_models_are_masked_language_models(tmp_path: Path) -> None:
    config = make_published_model("mlm", 3, sparsity=85).config
    model = transformers.BertForPreTraining(config).eval()
    save_published_model(model, tmp_path / "m", state=with_position_ids(model))
    path = build(tmp_path / "m", output=tmp_path / "m.oeb")
    with torch.no_grad():
        expected = model(**make_batches(1)[0]).prediction_logits.numpy()
    check_close(bundle_answers(path), {"logits": expected}, 0.97)
