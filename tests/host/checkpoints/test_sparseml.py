"""What SparseML's quantizers left in a checkpoint becomes the quantizers and weight scales of the engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from obert_edge.errors import CheckpointError
from obert_edge.host.checkpoints.checkpoint import Checkpoint
from obert_edge.host.quantization import load_quantized, quantize_model, quantizers, set_observers
from tests.host.checkpoints.published_checkpoints import make_published_model, save_published_model


def test_wrapped_names_become_transformers_names_and_every_scale_a_quantizer(qat: Any) -> None:
    folder, model = qat
    checkpoint = Checkpoint.open(folder)
    plain = make_published_model("squadv1", 3)
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


def test_quantizers_that_are_off_or_saw_nothing_are_not_taken(qat: Any, tmp_path: Path) -> None:
    folder, model = qat
    state = dict(model.state_dict())
    layer = "bert.encoder.layer.0"
    state[f"{layer}.output.dense.quant.activation_post_process.fake_quant_enabled"] = torch.zeros(
        1, dtype=torch.uint8
    )
    unseen = f"{layer}.intermediate.dense.quant.activation_post_process.activation_post_process.min_val"
    state[unseen] = torch.tensor(float("inf"))
    save_published_model(model, tmp_path / "m", state=state)
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
    save_published_model(model, tmp_path / "m", state=state)
    with pytest.raises(CheckpointError, match=r"quantizer qa_outputs\.quant with scale"):
        Checkpoint.open(tmp_path / "m")
