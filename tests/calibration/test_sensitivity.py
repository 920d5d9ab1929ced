"""The layer that loses most by being quantized is found, and the model is left as it was."""

from __future__ import annotations

import pytest
import torch

from obert_edge.calibration import calibrate, sensitivity
from obert_edge.errors import DataError, UsageError
from obert_edge.host.quantization import quantizers
from tests.host.quantization.tiny_models import make_batch, make_batches, make_model


def test_every_layer_is_measured_and_the_worst_comes_first():
    model = calibrate(make_model(), make_batches())
    layers = sensitivity(model, make_batches(1))
    assert [layer.error for layer in layers] == sorted((layer.error for layer in layers), reverse=True)
    kinds = {
        kind: sum(layer.kind == kind for layer in layers) for kind in ("linear", "embedding", "attention")
    }
    assert kinds == {"linear": 2 * 6 + 2, "embedding": 3, "attention": 2}
    assert "bert.encoder.layer.1.attention.self" in {layer.name for layer in layers}
    assert all(layer.error > 0 for layer in layers)


def test_a_spoiled_layer_is_found():
    model = calibrate(make_model(), make_batches())
    spoiled = "bert.encoder.layer.1.intermediate.dense"
    quantizers(model)[f"{spoiled}:input"].set_params(3.0, 128)
    assert sensitivity(model, make_batches(1))[0].name == spoiled


def test_the_model_is_left_as_it_was():
    model = calibrate(make_model(), make_batches())
    batch = make_batch()
    before = model(**batch).logits
    sensitivity(model, [batch])
    assert not model.training
    assert torch.equal(model(**batch).logits, before)


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(UsageError, match="not quantized"):
        sensitivity(make_model(), make_batches(1))
    with pytest.raises(DataError, match="no batch"):
        sensitivity(calibrate(make_model(), make_batches(1)), [])
