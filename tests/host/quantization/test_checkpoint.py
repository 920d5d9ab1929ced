"""A quantized model folder is read back to the bit, or refused with a reason."""

from __future__ import annotations

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file

from obert_edge.errors import CheckpointError, ObertEdgeError, UsageError
from obert_edge.host.quantization import (
    load_quantized,
    quantize_model,
    quantizers,
    save_quantized,
    set_observers,
)
from obert_edge.host.quantization.convert import input_quantizers, scale_per_token
from tests.host.quantization.tiny_models import ARCHITECTURES, make_batch, make_model


def trained(architecture="Bert", head="ForSequenceClassification", activations="static"):
    model = quantize_model(
        make_model(architecture, head), "static" if activations == "mixed" else activations
    ).train()
    if activations == "mixed":
        scale_per_token(model, sorted(input_quantizers(model))[::3])
    model(**make_batch())
    set_observers(model.eval(), "frozen")
    return model


@pytest.mark.parametrize("head", ["ForSequenceClassification", "ForMaskedLM", "Model"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("activations", ["static", "dynamic", "mixed"])
def test_a_loaded_model_gives_the_same_bits(tmp_path, architecture, head, activations):
    model = trained(architecture, head, activations)
    save_quantized(model, None, tmp_path / "model")
    loaded = load_quantized(tmp_path / "model")
    assert type(loaded) is type(model)
    assert not loaded.training
    with torch.no_grad():
        assert torch.equal(loaded(**make_batch(9))[0], model(**make_batch(9))[0])


def test_the_folder_is_a_float_checkpoint_that_plain_transformers_reads(tmp_path):
    original = make_model()
    keys = set(original.state_dict())
    save_quantized(trained(), None, tmp_path / "model")
    assert set(load_file(tmp_path / "model" / "model.safetensors")) == keys
    plain = transformers.BertForSequenceClassification.from_pretrained(tmp_path / "model")
    for name, parameter in original.named_parameters():
        assert torch.equal(plain.get_parameter(name), parameter)


def test_the_record_is_as_documented(tmp_path):
    model = trained()
    save_quantized(model, None, tmp_path / "model", method="qat")
    record = json.loads((tmp_path / "model" / "quantization.json").read_text())
    assert (record["format"], record["method"], record["activations"]) == (1, "qat", "static")
    assert set(record["sites"]) == set(quantizers(model))
    query = record["sites"]["bert.encoder.layer.0.attention.self:query"]
    quantizer = quantizers(model)["bert.encoder.layer.0.attention.self:query"]
    assert query == {"scale": quantizer.scale, "zero_point": quantizer.zero_point}
    assert record["sites"]["bert.encoder.layer.1.attention.self:value"]["zero_point"] == 0


def test_four_bit_embeddings_are_recorded_and_read_back(tmp_path):
    model = quantize_model(make_model(), embeddings="int4").train()
    model(**make_batch())
    set_observers(model.eval(), "frozen")
    save_quantized(model, None, tmp_path / "model")
    record = json.loads((tmp_path / "model" / "quantization.json").read_text())
    assert (record["format"], record["embeddings"]) == (3, "int4")
    loaded = load_quantized(tmp_path / "model")
    with torch.no_grad():
        assert torch.equal(loaded(**make_batch(9))[0], model(**make_batch(9))[0])
    edit(tmp_path / "model", embeddings="int2")
    with pytest.raises(CheckpointError, match="embeddings are 'int2'"):
        load_quantized(tmp_path / "model")


def test_mixed_models_record_the_linears_with_fixed_ranges(tmp_path):
    model = trained(activations="mixed")
    save_quantized(model, None, tmp_path / "model")
    record = json.loads((tmp_path / "model" / "quantization.json").read_text())
    assert (record["format"], record["activations"]) == (4, "mixed")
    fixed = {name for name, quantizer in quantizers(model).items() if not quantizer.dynamic}
    assert set(record["sites"]) == fixed
    assert any(name.endswith(":input") for name in fixed)


def test_dynamic_models_record_only_queries_keys_and_values(tmp_path):
    save_quantized(trained(activations="dynamic"), None, tmp_path / "model")
    record = json.loads((tmp_path / "model" / "quantization.json").read_text())
    assert record["activations"] == "dynamic"
    assert {name.split(":")[1] for name in record["sites"]} == {"query", "key", "value"}


def test_a_model_that_was_never_observed_is_not_saved(tmp_path):
    with pytest.raises(ObertEdgeError, match="no range"):
        save_quantized(quantize_model(make_model()), None, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "mine").write_text("x")
    with pytest.raises(UsageError, match="not an empty folder"):
        save_quantized(trained(), None, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_overwriting_replaces_the_whole_folder(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "old").write_text("x")
    save_quantized(trained(), None, tmp_path / "model", overwrite=True)
    assert not (tmp_path / "model" / "old").exists()
    assert (tmp_path / "model" / "quantization.json").exists()


@pytest.fixture
def folder(tmp_path):
    save_quantized(trained(), None, tmp_path / "model")
    return tmp_path / "model"


def edit(folder, **changes):
    path = folder / "quantization.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_folder_without_a_record_is_no_quantized_model(folder):
    (folder / "quantization.json").unlink()
    with pytest.raises(CheckpointError, match="no quantization.json"):
        load_quantized(folder)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 1}', '{"format": 1, "sites": 3}'])
def test_a_broken_record_is_refused(folder, content):
    (folder / "quantization.json").write_text(content)
    with pytest.raises(CheckpointError, match="not a quantization record"):
        load_quantized(folder)


def test_a_record_of_a_newer_format_is_refused(folder):
    edit(folder, format=5)
    with pytest.raises(CheckpointError, match="format 5.*reads format 1, 2, 3, 4"):
        load_quantized(folder)


def test_a_record_of_another_model_is_refused(folder):
    edit(folder, sites={"elsewhere:input": {"scale": 1.0, "zero_point": 0}})
    with pytest.raises(CheckpointError, match="does not fit the model"):
        load_quantized(folder)


@pytest.mark.parametrize(
    "quantizer", [{"scale": -1.0, "zero_point": 0}, {"scale": 1.0}, {"scale": 1, "zero_point": 300}, 5]
)
def test_a_record_with_a_bad_quantizer_is_refused(folder, quantizer):
    record = json.loads((folder / "quantization.json").read_text())
    edit(folder, sites={**record["sites"], "classifier:input": quantizer})
    with pytest.raises(CheckpointError, match="classifier:input"):
        load_quantized(folder)


@pytest.mark.parametrize("architectures", [None, [], ["GPT2Model"], ["AutoModel"], ["os"]])
def test_the_folder_must_name_a_supported_class(folder, architectures):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": architectures}))
    with pytest.raises(CheckpointError, match="no supported model class"):
        load_quantized(folder)


def test_truncated_weights_are_refused(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        load_quantized(folder)
