"""Quantized linears and embeddings, and what a quantizer does in each mode."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from obert_edge.errors import ObertEdgeError, UsageError
from obert_edge.host.quantization.embedding_rows import int4_rows
from obert_edge.host.quantization.modules import ActivationQuantizer, QuantEmbedding, QuantLinear
from tests.host.quantization import integer_model


def make_quantizer(mode="frozen", **options):
    quantizer = ActivationQuantizer(**{"signed": False, **options})
    quantizer.name, quantizer.mode = "layer:input", mode
    return quantizer


def test_a_linear_keeps_its_parameters_and_their_names():
    linear = nn.Linear(4, 3)
    twin = QuantLinear.from_float(linear, make_quantizer())
    assert twin.weight is linear.weight
    assert twin.bias is linear.bias
    assert {"weight", "bias"} <= set(twin.state_dict())


def test_a_linear_without_bias_keeps_none():
    assert QuantLinear.from_float(nn.Linear(4, 3, bias=False), make_quantizer()).bias is None


def test_a_shared_quantizer_belongs_to_no_linear_and_sees_a_tensor_once():
    quantizer = make_quantizer("calibrating", readers=3)
    linears = [QuantLinear.from_float(nn.Linear(4, 3), quantizer) for _ in range(3)]
    assert all(not list(linear.children()) and linear.input is quantizer for linear in linears)
    seen = []
    quantizer.observer.observe = seen.append
    x = torch.randn(2, 4)
    for linear in linears:
        linear(x)
    assert len(seen) == 1
    linears[0](x.clone())
    assert len(seen) == 2


def test_shared_codes_are_forgotten_on_release():
    quantizer = make_quantizer(readers=3)
    quantizer.set_params(0.1, 0)
    x = torch.ones(2, 4)
    first = quantizer(x)
    assert quantizer(x) is first
    quantizer.release()
    assert quantizer(x) is not first


def test_shared_codes_are_forgotten_when_each_reader_had_them():
    quantizer = make_quantizer(readers=2)
    quantizer.set_params(0.1, 0)
    x = torch.ones(2, 4)
    first = quantizer(x)
    assert quantizer(x) is first
    assert quantizer(x) is not first


def test_ranges_follow_training_batches_only_while_collecting():
    quantizer = make_quantizer("collecting")
    quantizer.train()
    quantizer(torch.tensor([[-1.0, 1.55]]))
    assert (quantizer.scale, quantizer.zero_point) == (pytest.approx(0.01), 100)
    for mode, training in (("collecting", False), ("frozen", True), ("float", True)):
        quantizer.mode = mode
        quantizer.train(training)
        quantizer(torch.tensor([[-50.0, 50.0]]))
        assert quantizer.scale == pytest.approx(0.01)


def test_calibration_passes_values_through_and_leaves_padding_out():
    quantizer = make_quantizer("calibrating")
    quantizer.valid = torch.tensor([[True, True, False]])
    x = torch.tensor([[[1.0], [-2.0], [99.0]]])
    assert quantizer(x).codes is x
    assert quantizer.observer.range() == (-2.0, 1.0)
    quantizer.prepare(x[:, None])  # [batch, heads, tokens, channels]
    assert quantizer.observer.range() == (-2.0, 1.0)


def test_a_quantizer_without_a_range_says_which_it_is():
    with pytest.raises(ObertEdgeError, match="layer:input has no range"):
        make_quantizer()(torch.ones(1, 2))


@pytest.mark.parametrize("params", [(0.0, 0), (float("nan"), 0), (0.1, 256), (0.1, -1), (float("inf"), 0)])
def test_bad_params_are_refused(params):
    with pytest.raises(UsageError, match="layer:input"):
        make_quantizer().set_params(*params)


def test_a_signed_quantizer_has_no_zero_point():
    with pytest.raises(UsageError):
        make_quantizer(signed=True).set_params(0.1, 3)


@pytest.mark.parametrize("rows", [4, 400])
def test_embedding_rows_are_int8(rows):
    """Looked up then rounded, or rounded then looked up: the same rows."""
    embedding = nn.Embedding(rows, 6, padding_idx=0)
    twin = QuantEmbedding.from_float(embedding)
    ids = torch.tensor([[1, 3, 0], [2, 2, 1]])
    codes, scales = integer_model.quantize_rows(embedding.weight.detach().numpy())
    expected = (codes.astype(np.float32) * scales)[ids.numpy()]
    out = twin(ids)
    np.testing.assert_array_equal(out.detach().numpy(), expected)
    out.sum().backward()
    assert twin.weight.grad[:4, 0].tolist() == [0, 2, 2, 1]


@pytest.mark.parametrize("rows", [4, 400])
def test_embedding_rows_may_be_int4(rows):
    embedding = nn.Embedding(rows, 6)
    twin = QuantEmbedding.from_float(embedding)
    twin.int4 = True
    ids = torch.tensor([[1, 3, 0], [2, 2, 1]])
    out = twin(ids)
    assert torch.equal(out, int4_rows(embedding.weight)[ids])
    out.sum().backward()
    assert twin.weight.grad[:4, 0].tolist() == [1, 2, 2, 1]


def test_autocast_does_not_touch_the_sums():
    quantizer = make_quantizer()
    quantizer.set_params(0.02, 128)
    twin = QuantLinear.from_float(nn.Linear(64, 8), quantizer)
    x = torch.randn(5, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = twin(x)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, twin(x))


def test_weights_can_be_left_float():
    quantizer = make_quantizer("float")
    linear = nn.Linear(6, 3)
    twin = QuantLinear.from_float(linear, quantizer)
    twin.quantize_weight = False
    x = torch.randn(2, 6)
    torch.testing.assert_close(twin(x), linear(x))
