"""A model whose channels stand out is rewritten so that they do not, and computes what it did."""

from __future__ import annotations

import copy

import pytest
import torch

from obert_edge.calibration import calibrate, equalize
from tests.calibration.test_calibrate import relative_error
from tests.host.quantization.tiny_models import MODELS, make_batch, make_batches, make_model


def attention_of(model, i=0):
    """Query, key, value and output projection of a layer of BERT."""
    attention = model.bert.encoder.layer[i].attention
    return attention.self.query, attention.self.key, attention.self.value, attention.output.dense


@torch.no_grad()
def scale_values(model, factor):
    """Values 3 and 17 of each layer that many times as large, and what reads them as much smaller."""
    for i in range(len(model.bert.encoder.layer)):
        _, _, value, projection = attention_of(model, i)
        for channel in (3, 17):
            value.weight[channel] *= factor
            value.bias[channel] *= factor
            projection.weight[:, channel] /= factor


@torch.no_grad()
def scale_queries(model, factor):
    for i in range(len(model.bert.encoder.layer)):
        query, key, _, _ = attention_of(model, i)
        for linear, by in ((query, factor), (key, 1 / factor)):
            linear.weight[5] *= by
            linear.bias[5] *= by


@torch.no_grad()
def shift_keys(model, amount):
    for i in range(len(model.bert.encoder.layer)):
        attention_of(model, i)[1].bias[4] += amount


@torch.no_grad()
def shift_values(model, amount):
    for i in range(len(model.bert.encoder.layer)):
        _, _, value, projection = attention_of(model, i)
        value.bias[4] += amount
        projection.bias -= amount * projection.weight[:, 4]


@torch.no_grad()
def scale_feed_forward(model, factor):
    for layer in model.bert.encoder.layer:
        layer.intermediate.dense.weight[7] *= factor
        layer.intermediate.dense.bias[7] *= factor
        layer.output.dense.weight[:, 7] /= factor


@pytest.mark.parametrize("architecture, head", MODELS)
def test_an_equalized_model_computes_what_it_did(architecture, head):
    reference = make_model(architecture, head)
    model = copy.deepcopy(reference)
    changed = equalize(model, make_batches(3))
    assert relative_error(model, reference, make_batch(9)) < 1e-5
    before, after = dict(reference.named_parameters()), dict(model.named_parameters())
    differ = {name for name in before if not torch.equal(before[name], after[name])}
    assert differ and differ <= set(changed)
    assert all(after[name] is parameter for name, parameter in changed.items())


@pytest.mark.parametrize(
    "spoil, amount",
    [(scale_values, 200.0), (scale_queries, 200.0), (shift_keys, 100.0), (shift_values, 100.0)],
)
def test_channels_that_stand_out_cost_an_equalized_model_nothing(spoil, amount):
    sound = make_model()
    error = relative_error(calibrate(copy.deepcopy(sound), make_batches(4)), sound, make_batch(9))
    spoilt = make_model()
    spoil(spoilt, amount)
    assert relative_error(spoilt, sound, make_batch(9)) < 1e-3  # it is the same float model
    found = relative_error(calibrate(copy.deepcopy(spoilt), make_batches(4)), spoilt, make_batch(9))
    assert found < 1.5 * error


def test_relu_lets_factors_pass_and_gelu_does_not():
    sound = make_model(hidden_act="relu")
    spoilt = make_model(hidden_act="relu")
    scale_feed_forward(spoilt, 200.0)
    model = calibrate(copy.deepcopy(spoilt), make_batches(4))
    usual = relative_error(calibrate(copy.deepcopy(sound), make_batches(4)), sound, make_batch(9))
    assert relative_error(model, spoilt, make_batch(9)) < 1.5 * usual
    changed = equalize(make_model(hidden_act="gelu"), make_batches(1))
    assert not [name for name in changed if "intermediate" in name]


def test_zeros_stay_zeros_and_channels_of_zeros_do_no_harm():
    model = make_model()
    query, key, value, projection = attention_of(model)
    with torch.no_grad():
        value.weight[3] = 0  # a value that is its bias alone
        projection.weight[:, 9] = 0  # a value that nobody reads
        value.weight[9] *= 1000
        key.weight[5], key.bias[5] = 0, 0
        query.weight[6, ::2] = 0
    reference = copy.deepcopy(model)
    equalize(model, make_batches(2))
    assert relative_error(model, reference, make_batch(9)) < 1e-5
    for before, after in zip(reference.parameters(), model.parameters()):
        assert bool(torch.isfinite(after).all())
        if before.dim() == 2:
            assert torch.equal(before == 0, after == 0)
    with torch.no_grad():
        spread = attention_of(model)[2].weight.abs().amax(1)
    assert spread[9] < 4 * spread.median()


def test_equalizing_again_changes_nothing_but_rounding():
    model = make_model()
    equalize(model, make_batches(2))
    weights = {name: value.clone() for name, value in model.named_parameters() if value.dim() == 2}
    equalize(model, make_batches(2))
    assert all(torch.equal(value, dict(model.named_parameters())[name]) for name, value in weights.items())
