"""Linears that lose by a fixed range get a scale per token, and no others."""

from __future__ import annotations

import pytest
import torch

from obert_edge.calibration import calibrate, choose_per_token
from obert_edge.errors import DataError, UsageError
from obert_edge.host.quantization import quantizers
from obert_edge.host.quantization.convert import activations_of, scale_per_token
from tests.host.quantization.tiny_models import make_batch, make_batches, make_model

SPOILED = "bert.encoder.layer.1.intermediate.dense:input"


def spoiled(*names):
    """A calibrated model whose fixed ranges are far too wide in some places."""
    model = calibrate(make_model(), make_batches())
    for name in names:
        quantizers(model)[name].set_params(3.0, 128)
    return model


def change(model, reference, batch):
    with torch.no_grad():
        return float((model(**batch).logits - reference).norm())


def test_the_one_place_that_loses_is_found():
    model, batch = spoiled(SPOILED), make_batch()
    with torch.no_grad():
        reference = make_model()(**batch).logits
    before = change(model, reference, batch)
    assert choose_per_token(model, make_batches(2)) == [SPOILED]
    assert activations_of(model) == "mixed"
    assert [name for name, quantizer in quantizers(model).items() if quantizer.dynamic] == [SPOILED]
    assert change(model, reference, batch) < before / 2


def test_linears_that_read_one_tensor_are_one_place():
    attention = "bert.encoder.layer.0.attention.self"
    model = spoiled(f"{attention}.query:input")
    assert choose_per_token(model, make_batches(2)) == [f"{attention}.query:input"]
    dynamic = {name for name, quantizer in quantizers(model).items() if quantizer.dynamic}
    assert dynamic == {f"{attention}.{name}:input" for name in ("query", "key", "value")}


def test_the_place_that_gains_most_comes_first():
    worse = "bert.encoder.layer.0.intermediate.dense:input"
    model = spoiled(worse)
    quantizers(model)[SPOILED].set_params(0.3, 128)
    assert choose_per_token(model, make_batches(2))[0] == worse


def test_fixed_ranges_stay_where_a_scale_per_token_gains_nothing():
    # The only token there is has the range of all texts.
    one = {"input_ids": torch.tensor([[7]]), "attention_mask": torch.ones(1, 1, dtype=torch.long)}
    model = calibrate(make_model(), [one], observer="minmax")
    assert choose_per_token(model, [one]) == []
    assert activations_of(model) == "static"


def test_a_calibration_can_be_told_to_choose():
    chosen = calibrate(make_model(), make_batches(), activations="auto")
    model = calibrate(make_model(), make_batches())
    choose_per_token(model, make_batches())
    batch = make_batch(9)
    assert activations_of(chosen) == activations_of(model)
    assert torch.equal(chosen(**batch).logits, model(**batch).logits)


def test_what_cannot_be_chosen_for_is_refused():
    with pytest.raises(UsageError, match="not quantized"):
        choose_per_token(make_model(), make_batches(1))
    with pytest.raises(DataError, match="no batch"):
        choose_per_token(spoiled(), [])
    mixed = spoiled()
    scale_per_token(mixed, [SPOILED])
    with pytest.raises(UsageError, match="has a scale per token already"):
        choose_per_token(mixed, make_batches(1))
