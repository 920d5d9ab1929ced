"""Every fake-quantized operation equals the integer model of docs/reference/numerics.md, and has the gradient
of the clipped straight-through estimator.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from obert_edge.host.quantization import fake_quant
from tests.host.quantization import integer_model

sizes = st.floats(np.float32(1e-4), np.float32(1e4), width=32)
floats = st.one_of(st.just(0.0), sizes, sizes.map(lambda size: -size))
matrices = hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=floats)
scales = st.floats(np.float32(1e-3), np.float32(1e3), width=32)


@settings(deadline=None)
@given(matrices)
def test_weights_become_the_integers_of_the_rule(weight):
    codes, row_scales = fake_quant.row_codes(torch.from_numpy(weight))
    expected, expected_scales = integer_model.quantize_rows(weight)
    np.testing.assert_array_equal(codes.numpy(), expected)
    np.testing.assert_array_equal(row_scales.numpy(), expected_scales)


def test_a_zero_weight_is_exactly_zero_and_a_zero_row_has_scale_one():
    weight = torch.tensor([[0.0, 1e-3, -5.0], [0.0, 0.0, 0.0]])
    codes, row_scales = fake_quant.row_codes(weight)
    assert codes.tolist() == [[0, 0, -127], [0, 0, 0]]
    assert row_scales[1] == 1


@settings(deadline=None)
@given(matrices, scales, st.integers(0, 255))
def test_static_u8_codes_are_the_integers_of_the_rule(x, scale, zero_point):
    codes, carried = fake_quant.static_codes(torch.from_numpy(x), scale, zero_point, signed=False)
    expected = integer_model.quantize_static(x, scale, zero_point) - zero_point
    np.testing.assert_array_equal(codes.numpy(), expected)
    assert carried == scale


@settings(deadline=None)
@given(matrices, scales)
def test_static_s8_codes_are_symmetric(x, scale):
    codes, _ = fake_quant.static_codes(torch.from_numpy(x), scale, 0, signed=True)
    np.testing.assert_array_equal(codes.numpy(), integer_model.quantize_static(x, scale, 0, -127, 127))


@settings(deadline=None)
@given(matrices)
def test_dynamic_codes_have_a_scale_and_zero_point_per_token(x):
    codes, scale = fake_quant.dynamic_codes(torch.from_numpy(x))
    expected, expected_scale, zero_point = integer_model.quantize_dynamic(x)
    np.testing.assert_array_equal(codes.numpy(), expected - zero_point)
    np.testing.assert_array_equal(scale.numpy(), expected_scale)


def test_a_dynamic_token_of_zeros_stays_zero():
    codes, scale = fake_quant.dynamic_codes(torch.zeros(2, 3))
    assert codes.tolist() == [[0, 0, 0], [0, 0, 0]]
    assert scale.tolist() == [[1], [1]]


def test_the_gradient_passes_where_a_value_was_rounded_and_stops_where_it_was_clamped():
    # U8, scale 0.5, zero point 10: codes -10..245 stand for -5..122.5.
    x = torch.tensor([-6.0, -5.2, -5.0, 0.1, 122.5, 122.7, 123.0], requires_grad=True)
    codes, _ = fake_quant.static_codes(x, 0.5, 10, signed=False)
    codes.sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 1, 1, 1, 0]


def test_rows_are_rounded_to_int8_and_their_gradient_is_unchanged():
    rows = torch.randn(4, 5, requires_grad=True)
    rounded = fake_quant.fake_quant_rows(rows)
    codes, row_scales = integer_model.quantize_rows(rows.detach().numpy())
    np.testing.assert_array_equal(rounded.detach().numpy(), codes.astype(np.float32) * row_scales)
    gradient = torch.randn(4, 5)
    rounded.backward(gradient)
    assert torch.equal(rows.grad, gradient)


@pytest.fixture
def layer():
    generator = torch.Generator().manual_seed(3)
    weight, bias = torch.randn(24, 40, generator=generator), torch.randn(24, generator=generator)
    weight[3] = 0
    return torch.randn(2, 7, 40, generator=generator), weight, bias


def test_a_static_linear_equals_the_integer_one(layer):
    x, weight, bias = layer
    codes = fake_quant.static_codes(x, 0.021, 117, signed=False)
    y = fake_quant.quantized_linear(codes, weight, bias)
    expected = integer_model.linear_static(x.numpy(), 0.021, 117, weight.numpy(), bias.numpy())
    np.testing.assert_allclose(y.numpy(), expected, rtol=3e-7, atol=1e-6)


def test_a_dynamic_linear_equals_the_integer_one(layer):
    x, weight, bias = layer
    y = fake_quant.quantized_linear(fake_quant.dynamic_codes(x), weight, bias)
    expected = integer_model.linear_dynamic(x.numpy(), weight.numpy(), bias.numpy())
    np.testing.assert_allclose(y.numpy(), expected, rtol=3e-7, atol=1e-6)


@pytest.mark.parametrize("dynamic", [False, True])
def test_gradients_are_those_of_a_float_linear_on_the_rounded_values(layer, dynamic):
    x, weight, bias = (tensor.clone().requires_grad_() for tensor in layer)
    codes = fake_quant.dynamic_codes(x) if dynamic else fake_quant.static_codes(x, 0.04, 128, signed=False)
    y = fake_quant.quantized_linear(codes, weight, bias)
    gradient = torch.randn_like(y)
    y.backward(gradient)

    rounded_x = (codes.codes * codes.scale).detach().requires_grad_()
    rounded_weight = fake_quant.fake_quant_rows(weight).detach().requires_grad_()
    torch.nn.functional.linear(rounded_x, rounded_weight).backward(gradient)
    torch.testing.assert_close(x.grad, rounded_x.grad)  # nothing is clamped at this scale
    torch.testing.assert_close(weight.grad, rounded_weight.grad)
    torch.testing.assert_close(bias.grad, gradient.sum((0, 1)))


def test_a_linear_without_bias_adds_none(layer):
    x, weight, bias = layer
    codes = fake_quant.static_codes(x, 0.03, 128, signed=False)
    difference = fake_quant.quantized_linear(codes, weight, bias) - bias
    torch.testing.assert_close(fake_quant.quantized_linear(codes, weight, None), difference)
