"""Every layout of the published sparse BERTs loads, builds, and answers as the model it came from."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest
import torch

from obert_edge.bundle import Bundle
from obert_edge.device.runtime.session import load
from obert_edge.errors import CheckpointError
from obert_edge.host.checkpoints.checkpoint import Checkpoint
from obert_edge.host.checkpoints.model_config import read_config
from obert_edge.host.checkpoints.pytorch import load_pytorch
from obert_edge.host.compiler import build
from obert_edge.host.compiler.importer import import_graph
from obert_edge.host.pruning import Masks
from obert_edge.host.quantization import (
    load_quantized,
    quantize_model,
    quantizers,
    save_quantized,
    set_observers,
)
from obert_edge.host.stages.models import quantized
from tests.host.checkpoints.published import (
    batches,
    encoder_linears,
    make_published,
    obert_names,
    quantize_like_sparseml,
    save_published,
    with_position_ids,
)

#: One name of every layout, with 12, 6 and 3 layers.
NAMES = [
    "oBERT-teacher-mnli",
    "oBERT-12-downstream-pruned-unstructured-97-squadv1",
    "oBERT-6-downstream-pruned-block4-80-squadv1",
    "oBERT-3-upstream-pretrained-dense",
    "oBERT-12-upstream-pruned-unstructured-90-finetuned-qqp-v2",
    "oBERT-3-downstream-pruned-block4-90-QAT-squadv1",
]

BUILT = [NAMES[1], NAMES[3], NAMES[5]]


def make(name: str, folder: Path, kind: str = "pickle") -> Any:
    """The folder of a published name; returns the model as torch runs it."""
    content = dict(obert_names()[name])
    qat = content.pop("qat", False)
    model = make_published(**content)
    if qat:
        model = quantize_like_sparseml(model, batches())
        save_published(model, folder, kind=kind)
    else:
        save_published(model, folder, state=with_position_ids(model), kind=kind)
    return model


def answers(model: Any) -> Dict[str, np.ndarray]:
    with torch.no_grad():
        output = model(**batches(1)[0])
    return {key: value.numpy() for key, value in output.items() if key.endswith("logits")}


def bundle_answers(path: Path) -> Dict[str, np.ndarray]:
    with load(path, threads=1) as session:
        return session.run(input_ids=batches(1)[0]["input_ids"].numpy())


def check_close(found: Dict[str, np.ndarray], expected: Dict[str, np.ndarray], correlation: float) -> None:
    assert set(found) == set(expected)
    for key, value in expected.items():
        assert np.corrcoef(found[key].ravel(), value.ravel())[0, 1] > correlation


def test_the_published_names_are_53_of_few_layouts() -> None:
    names = obert_names()
    assert len(names) == 53
    assert sum(bool(content.get("qat")) for content in names.values()) == 9
    layout = {json.dumps({**c, "sparsity": 0, "layers": 0}, sort_keys=True) for c in names.values()}
    assert {json.dumps({**names[n], "sparsity": 0, "layers": 0}, sort_keys=True) for n in NAMES} <= layout


@pytest.mark.parametrize("name", [name for name in NAMES if "QAT" not in name])
def test_a_published_model_loads_bit_for_bit(name: str, tmp_path: Path) -> None:
    model = make(name, tmp_path / name)
    checkpoint = Checkpoint.open(tmp_path / name)
    loaded, missing = load_pytorch(checkpoint, read_config(checkpoint).class_for_task)
    assert missing == []
    for key, value in answers(model).items():
        np.testing.assert_array_equal(answers(loaded)[key], value)


@pytest.mark.parametrize("name", BUILT)
def test_a_published_model_builds_and_answers(name: str, tmp_path: Path) -> None:
    model = make(name, tmp_path / name)
    path = build(tmp_path / name, output=tmp_path / "m.oeb")
    with Bundle.open(path, verify="full") as bundle:
        facts = bundle.manifest
    assert facts.model.layers == obert_names()[name]["layers"]
    check_close(bundle_answers(path), answers(model), 0.97)


def test_safetensors_and_pickle_of_one_model_are_one_model(tmp_path: Path) -> None:
    name = "oBERT-3-downstream-pruned-block4-80-QAT-squadv1"
    for kind in ("pickle", "safetensors"):
        make(name, tmp_path / kind, kind)
        build(tmp_path / kind, output=tmp_path / f"{kind}.oeb")
    assert (tmp_path / "pickle.oeb").read_bytes() == (tmp_path / "safetensors.oeb").read_bytes()


@pytest.fixture(scope="module")
def qat(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("qat") / "oBERT-3-QAT"
    return folder, make("oBERT-3-downstream-pruned-block4-80-QAT-squadv1", folder)


def test_wrapped_names_become_transformers_names_and_every_scale_a_quantizer(qat: Any) -> None:
    folder, model = qat
    checkpoint = Checkpoint.open(folder)
    plain = make_published("squadv1", 3)
    assert checkpoint.names == sorted(plain.state_dict())
    record = checkpoint.quantization
    assert record is not None
    quantize_model(plain)
    set_observers(plain, "frozen")
    assert set(record["sites"]) == set(quantizers(plain))
    wrapped = model.bert.encoder.layer[1].output.dense
    quantizer = record["sites"]["bert.encoder.layer.1.output.dense:input"]
    assert quantizer == {
        "scale": float(wrapped.quant.activation_post_process.scale),
        "zero_point": int(wrapped.quant.activation_post_process.zero_point),
    }
    key = model.bert.encoder.layer[1].attention.self.attention_scores_matmul.input_quant_stubs[1]
    assert int(key.activation_post_process.zero_point) == 128  # U8 around 128: S8 around 0
    assert record["sites"]["bert.encoder.layer.1.attention.self:key"] == {
        "scale": float(key.activation_post_process.scale),
        "zero_point": 0,
    }
    weights = record["weights"]["bert.encoder.layer.1.output.dense"]
    assert weights == {"scale": float(wrapped.module.weight_fake_quant.scale)}
    assert len(record["weights"]) == 3 * 6 + 1


def test_weights_get_the_codes_they_were_trained_with(qat: Any) -> None:
    folder, model = qat
    ours = load_quantized(folder)
    for name in ("bert.encoder.layer.0.intermediate.dense", "qa_outputs"):
        theirs = model.get_submodule(name).module
        trained = theirs.weight_fake_quant(theirs.weight).detach()
        twin = ours.get_submodule(name)
        codes = torch.round(twin.weight / twin.weight_scale).clamp(-127, 127)
        step = float(theirs.weight_fake_quant.scale)
        assert (codes * step - trained).abs().max() <= 1.01 * step  # the code -128 alone is cut to -127
        assert ((codes * step - trained).abs() > 1e-6).sum() <= 1
    table = model.bert.embeddings.word_embeddings
    torch.testing.assert_close(
        ours.bert.embeddings.word_embeddings.weight, table.weight_fake_quant(table.weight).detach()
    )


def test_a_quantized_checkpoint_answers_as_torch_trained_it_and_the_bundle_as_the_checkpoint(
    qat: Any, tmp_path: Path
) -> None:
    folder, model = qat
    assert quantized(folder)
    ours = load_quantized(folder)
    check_close(answers(ours), answers(model), 0.99)
    path = build(folder, output=tmp_path / "m.oeb")
    found, expected = bundle_answers(path), answers(ours)
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
    save_published(model, tmp_path / "m", state=state)
    (tmp_path / "m" / "config.json").write_bytes((folder / "config.json").read_bytes())
    path = build(tmp_path / "m", output=tmp_path / "m.oeb")
    check_close(bundle_answers(path), answers(model), 0.97)


def test_quantizers_that_are_off_or_saw_nothing_are_not_taken(qat: Any, tmp_path: Path) -> None:
    folder, model = qat
    state = dict(model.state_dict())
    layer = "bert.encoder.layer.0"
    state[f"{layer}.output.dense.quant.activation_post_process.fake_quant_enabled"] = torch.zeros(
        1, dtype=torch.uint8
    )
    unseen = f"{layer}.intermediate.dense.quant.activation_post_process.activation_post_process.min_val"
    state[unseen] = torch.tensor(float("inf"))
    save_published(model, tmp_path / "m", state=state)
    record = Checkpoint.open(tmp_path / "m").quantization
    whole = Checkpoint.open(folder).quantization
    assert record is not None and whole is not None
    lost = {f"{layer}.output.dense:input", f"{layer}.intermediate.dense:input"}
    assert set(whole["sites"]) - set(record["sites"]) == lost
    with pytest.raises(CheckpointError, match="2 quantizers differ"):
        (tmp_path / "m" / "config.json").write_bytes((folder / "config.json").read_bytes())
        load_quantized(tmp_path / "m")


@pytest.mark.parametrize("bad", [0.0, float("nan")])
def test_a_scale_that_is_no_scale_is_refused(qat: Any, tmp_path: Path, bad: float) -> None:
    _, model = qat
    state = dict(model.state_dict())
    state["qa_outputs.quant.activation_post_process.scale"] = torch.tensor([bad])
    save_published(model, tmp_path / "m", state=state)
    with pytest.raises(CheckpointError, match=r"quantizer qa_outputs\.quant with scale"):
        Checkpoint.open(tmp_path / "m")


@pytest.mark.parametrize("kind", ["pickle", "legacy pickle", "safetensors"])
@pytest.mark.parametrize("share", [0.3, 0.98])
def test_a_truncated_file_says_so_and_how_large_it_is(
    qat: Any, tmp_path: Path, kind: str, share: float
) -> None:
    _, model = qat
    save_published(model, tmp_path / "m", kind=kind)
    path = next((tmp_path / "m").glob("*model.*"))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(CheckpointError, match=re.escape(path.name)) as error:
        Checkpoint.open(tmp_path / "m")
    assert "size" in error.value.hint


def test_prunebert_of_2020_loads(tmp_path: Path) -> None:
    model = make_published("squadv1", 3, sparsity=90)
    save_published(
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
    check_close(bundle_answers(path), answers(model), 0.97)
    with Bundle.open(path) as bundle:
        assert bundle.manifest.sparsity > 0.85


def test_movement_pruning_before_its_masks_are_applied_is_refused(tmp_path: Path) -> None:
    model = make_published("squadv1", 3)
    state = {**model.state_dict(), "bert.encoder.layer.0.output.dense.mask_scores": torch.ones(32, 128)}
    save_published(model, tmp_path / "m", state=state, kind="legacy pickle")
    checkpoint = Checkpoint.open(tmp_path / "m")
    with pytest.raises(CheckpointError, match="mask_scores") as error:
        import_graph(checkpoint, read_config(checkpoint))
    assert "apply the masks" in error.value.hint


@pytest.mark.parametrize("architecture", ["bert", "distilbert"])
def test_intels_one_by_four_models_keep_their_blocks(tmp_path: Path, architecture: str) -> None:
    model = make_published("squadv1", 2, sparsity=80, block=4, architecture=architecture)
    save_published(model, tmp_path / "m", state=with_position_ids(model))
    path = build(tmp_path / "m", output=tmp_path / "m.oeb")
    check_close(bundle_answers(path), answers(model), 0.97)
    loaded, missing = load_pytorch(Checkpoint.open(tmp_path / "m"), "ForQuestionAnswering")
    assert missing == []
    assert Masks.from_weights(loaded).sparsity == pytest.approx(0.8, abs=0.01)
    for linear in encoder_linears(loaded):
        zeros = linear.weight.view(-1, 4) == 0
        assert bool((zeros.all(1) == zeros.any(1)).all())


def test_intels_upstream_models_are_masked_language_models(tmp_path: Path) -> None:
    import transformers

    config = make_published("mlm", 3, sparsity=85).config
    model = transformers.BertForPreTraining(config).eval()
    save_published(model, tmp_path / "m", state=with_position_ids(model))
    path = build(tmp_path / "m", output=tmp_path / "m.oeb")
    with torch.no_grad():
        expected = model(**batches(1)[0]).prediction_logits.numpy()
    check_close(bundle_answers(path), {"logits": expected}, 0.97)


def test_names_under_data_parallel_are_understood(tmp_path: Path) -> None:
    model = make_published("mnli", 3)
    state = {f"module.{key}": value for key, value in model.state_dict().items()}
    save_published(model, tmp_path / "m", state=state)
    assert Checkpoint.open(tmp_path / "m").names == sorted(model.state_dict())
