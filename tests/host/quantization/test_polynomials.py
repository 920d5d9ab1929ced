"""The engine's polynomials in torch: the bits of a model with real fused multiply-adds in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers.activations import ACT2FN

from obert_edge.host.quantization import quantize_model
from obert_edge.host.quantization.polynomials import _GELU, _GELU_TANH, EngineGELU, exp2_, gelu, silu
from tests.host.quantization.tiny_models import make_model

f32, f64 = np.float32, np.float64
POINTS = np.concatenate([np.linspace(-9, 9, 40_001), [0.0, -0.0, 30.0, -30.0, 1e-30]]).astype(f32)


def fma(a, b, c):
    """In float64 the product is exact, so only its sum with c rounds before the last rounding."""
    return (a.astype(f64) * np.asarray(b, f64) + np.asarray(c, f64)).astype(f32)


def horner(coefficients, x):
    p = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        p = (p.astype(f64) * x.astype(f64) + f64(f32(coefficient))).astype(f32)
    return p


def assert_same_bits(found, expected):
    """Bit for bit where torch fuses multiply-adds (every CPU of the last decade), else one rounding off."""
    assert np.mean(found == expected) > 0.999 or np.abs(found - expected).max() < 1e-6


@pytest.mark.parametrize("name, coefficients", [("gelu", _GELU), ("gelu_new", _GELU_TANH)])
def test_gelu_is_the_engines_and_close_to_torchs(name, coefficients):
    found = gelu(torch.from_numpy(POINTS), coefficients).numpy()
    v = fma(np.minimum(np.abs(POINTS), f32(4.5)), f32(0.4444444477558136), -1)
    expected = np.maximum(POINTS, 0) - horner(coefficients[::-1], v)
    assert_same_bits(found, expected)
    torchs = ACT2FN[name](torch.from_numpy(POINTS)).numpy()
    assert np.abs(found - torchs).max() < 1.6e-5


def test_silu_is_the_engines_and_close_to_torchs():
    found = silu(torch.from_numpy(POINTS)).numpy()
    half = POINTS * f32(0.5)
    e = exp2_(torch.from_numpy(np.abs(half) * f32(-2.885390043258667))).numpy()
    expected = fma(half, np.copysign((1 - e) / (1 + e), half), half)
    assert_same_bits(found, expected)
    torchs = torch.nn.functional.silu(torch.from_numpy(POINTS)).numpy()
    assert np.abs(found - torchs).max() < 5e-6


def test_exp2_is_the_engines_and_close_to_the_real_one():
    x = np.concatenate([np.linspace(-126, 0, 50_001), [-1e30, -0.5, -1.5]]).astype(f32)
    found = exp2_(torch.from_numpy(x.copy())).numpy()
    clamped = np.maximum(x, f32(-126))
    whole = np.rint(clamped)
    coefficients = (0.00968571100383997, 0.05592202767729759, 0.2402186542749405, 0.6931210160255432, 1.0)
    expected = np.ldexp(horner(coefficients, clamped - whole), whole.astype(int))
    assert_same_bits(found, expected)
    np.testing.assert_allclose(found, np.exp2(clamped.astype(f64)), rtol=4e-6)


def test_large_tensors_are_worked_on_in_parts():
    x = torch.linspace(-8, 8, 200_000).reshape(2, 100_000)
    parts = [gelu(x[:, i : i + 1000]) for i in range(0, 100_000, 1000)]
    assert torch.equal(gelu(x), torch.cat(parts, 1))


def test_views_that_are_not_contiguous_are_fine():
    x = torch.randn(6, 8).t()
    assert torch.equal(gelu(x), gelu(x.contiguous()))


def test_models_use_it_in_evaluation_and_torchs_in_training():
    model = quantize_model(make_model())
    modules = [module for module in model.modules() if isinstance(module, EngineGELU)]
    assert len(modules) == 2
    x = torch.randn(100)
    assert torch.equal(modules[0](x), gelu(x))
    modules[0].train()
    assert torch.equal(modules[0](x), torch.nn.functional.gelu(x))
    leaf = x.clone().requires_grad_()
    modules[1](leaf).sum().backward()
    assert leaf.grad is not None
