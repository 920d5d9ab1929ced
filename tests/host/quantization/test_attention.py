"""INT8 self-attention equals the integer model of docs/reference/numerics.md, and can be trained."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from obert_edge.host.quantization.attention import AttentionQuantizers, int8_attention, padding_mask
from tests.host.quantization import integer_model

BATCH, HEADS, TOKENS, HEAD_DIM = 2, 3, 11, 16
QUERY, KEY_SCALE, VALUE_SCALE = (0.03, 131), 0.025, 0.02


class SelfAttention(torch.nn.Module):
    """What transformers' self-attention modules are to the attention function."""

    def __init__(self):
        super().__init__()
        self.quantizers = AttentionQuantizers(dynamic=False)
        self.quantizers.query.set_params(*QUERY)
        self.quantizers.key.set_params(KEY_SCALE, 0)
        self.quantizers.value.set_params(VALUE_SCALE, 0)
        for quantizer in self.quantizers.children():
            quantizer.mode = "frozen"


@pytest.fixture
def module():
    return SelfAttention()


@pytest.fixture
def operands():
    generator = torch.Generator().manual_seed(7)
    shape = (BATCH, HEADS, TOKENS, HEAD_DIM)
    # Within the range of every qparams: nothing is clamped.
    return [torch.randn(shape, generator=generator).clamp_(-2.4, 2.4) for _ in range(3)]


def keep_first(count):
    mask = torch.zeros(BATCH, TOKENS, dtype=torch.bool)
    mask[:, :count] = True
    return padding_mask(BATCH, TOKENS, TOKENS, attention_mask=mask)


def test_it_equals_the_integer_attention_of_every_head(module, operands):
    context, weights = int8_attention(module, *operands, None)
    assert context.shape == (BATCH, TOKENS, HEADS, HEAD_DIM)
    assert weights is None
    for b in range(BATCH):
        for h in range(HEADS):
            q, k, v = (tensor[b, h].numpy() for tensor in operands)
            expected = integer_model.attention(q, k, v, QUERY, KEY_SCALE, VALUE_SCALE)
            np.testing.assert_allclose(context[b, :, h].numpy(), expected, rtol=1e-5, atol=1e-6)


def test_heads_of_keys_may_be_shared(module, operands):
    query, key, value = operands
    shared = [tensor[:, :1] for tensor in (key, value)]
    repeated = [tensor.expand(-1, HEADS, -1, -1) for tensor in shared]
    expected, _ = int8_attention(module, query, *repeated, None)
    assert torch.equal(int8_attention(module, query, *shared, None)[0], expected)


@pytest.fixture
def bias():
    return torch.randn(1, HEADS, TOKENS, TOKENS, generator=torch.Generator().manual_seed(3))


def test_with_a_bias_it_equals_the_integer_attention_of_every_head(module, operands, bias):
    for quantized in (module.eval(), module.train()):
        context, _ = int8_attention(quantized, *operands, None, bias=bias)
        for b in range(BATCH):
            for h in range(HEADS):
                q, k, v = (tensor[b, h].numpy() for tensor in operands)
                expected = integer_model.attention(q, k, v, QUERY, KEY_SCALE, VALUE_SCALE, bias[0, h].numpy())
                np.testing.assert_allclose(context[b, :, h].numpy(), expected, rtol=1e-5, atol=1e-6)


def test_a_bias_leaves_masked_keys_out(module, operands, bias):
    masked, _ = int8_attention(module, *operands, keep_first(6), bias=bias)
    alone, _ = int8_attention(module, *(x[:, :, :6] for x in operands), None, bias=bias[..., :6, :6])
    torch.testing.assert_close(masked[:, :6], alone, rtol=1e-6, atol=1e-7)


def test_gradients_with_a_bias_and_its_own_are_close_to_those_of_float_attention(module, operands, bias):
    gradient = torch.randn(BATCH, TOKENS, HEADS, HEAD_DIM, generator=torch.Generator().manual_seed(1))
    ours = [tensor.clone().requires_grad_() for tensor in (*operands, bias)]
    context, _ = int8_attention(module, *ours[:3], keep_first(8), bias=ours[3])
    context.backward(gradient)
    real = [tensor.clone().requires_grad_() for tensor in (*operands, bias)]
    attended = torch.nn.functional.scaled_dot_product_attention(*real[:3], attn_mask=keep_first(8) + real[3])
    attended.transpose(1, 2).backward(gradient)
    for mine, float_one in zip(ours, real):
        error = (mine.grad - float_one.grad).norm() / float_one.grad.norm()
        assert error < 0.03


@pytest.mark.parametrize("mode", ["float", "calibrating"])
@pytest.mark.parametrize("mask", [None, keep_first(7), keep_first(7) == 0], ids=["none", "float", "bool"])
def test_without_quantization_a_bias_is_added_in_float(module, operands, bias, mode, mask):
    for quantizer in module.quantizers.children():
        quantizer.mode = mode
    context, _ = int8_attention(module, *operands, mask, bias=bias)
    added = bias if mask is None else bias + keep_first(7)
    expected = torch.nn.functional.scaled_dot_product_attention(*operands, attn_mask=added)
    torch.testing.assert_close(context, expected.transpose(1, 2))


def test_a_query_without_any_key_gets_zeros_and_finite_gradients(module, operands):
    """Padding further from the text than its window."""
    leaves = [tensor.clone().requires_grad_() for tensor in operands]
    context, _ = int8_attention(module.train(), *leaves, keep_first(4), sliding_window=2)
    assert not context[:, 5:].any() and torch.isfinite(context).all()
    context.square().sum().backward()
    assert all(torch.isfinite(leaf.grad).all() for leaf in leaves)


@pytest.mark.parametrize("mask", [None, keep_first(7), keep_first(7) == 0], ids=["none", "float", "bool"])
@pytest.mark.parametrize("mode", ["frozen", "float"])
def test_keys_outside_of_a_window_do_not_count(module, operands, mask, mode):
    for quantizer in module.quantizers.children():
        quantizer.mode = mode
    places = torch.arange(TOKENS)
    near = ((places[None] - places[:, None]).abs() < 3)[None, None]
    expected, _ = int8_attention(module, *operands, near if mask is None else near & (keep_first(7) == 0))
    context, _ = int8_attention(module, *operands, mask, sliding_window=3)
    real = slice(None) if mask is None else slice(0, 8)  # a query whose keys are all left out means nothing
    torch.testing.assert_close(context[:, real], expected[:, real])


def test_masked_keys_are_as_if_they_were_not_there(module, operands):
    masked, _ = int8_attention(module, *operands, keep_first(6))
    alone, _ = int8_attention(module, *(tensor[:, :, :6] for tensor in operands), None)
    torch.testing.assert_close(masked[:, :6], alone, rtol=1e-6, atol=1e-7)


def test_boolean_and_additive_masks_mean_the_same(module, operands):
    additive = keep_first(5)
    boolean = additive == 0
    lowest = torch.where(boolean, 0.0, torch.finfo(torch.float32).min)
    expected, _ = int8_attention(module, *operands, additive)
    for mask in (boolean, lowest):
        context, _ = int8_attention(module, *operands, mask)
        assert torch.equal(context, expected)


def test_a_batch_without_padding_needs_no_mask():
    assert padding_mask(2, 4, 4, attention_mask=torch.ones(2, 4, dtype=torch.bool)) is None
    assert padding_mask(2, 4, 4, attention_mask=None) is None


def test_probabilities_add_up_to_one_over_many_flat_tokens(module):
    tokens = 384
    flat = torch.zeros(1, 1, tokens, HEAD_DIM)
    value = torch.full((1, 1, tokens, HEAD_DIM), 100 * VALUE_SCALE)
    context, _ = int8_attention(module, flat, flat, value, None)
    torch.testing.assert_close(context, value.transpose(1, 2), rtol=1e-6, atol=0)


def test_gradients_are_close_to_those_of_float_attention(module, operands):
    gradient = torch.randn(BATCH, TOKENS, HEADS, HEAD_DIM, generator=torch.Generator().manual_seed(1))
    ours = [tensor.clone().requires_grad_() for tensor in operands]
    int8_attention(module, *ours, keep_first(8))[0].backward(gradient)
    real = [tensor.clone().requires_grad_() for tensor in operands]
    attended = torch.nn.functional.scaled_dot_product_attention(*real, attn_mask=keep_first(8))
    attended.transpose(1, 2).backward(gradient)
    for mine, float_one in zip(ours, real):
        error = (mine.grad - float_one.grad).norm() / float_one.grad.norm()
        assert error < 0.03


def test_clamped_operands_get_no_gradient(module, operands):
    query, key, value = (tensor.clone() for tensor in operands)
    query[0, 0, 0, 0], key[0, 0, 0, 0], value[0, 0, 0, 0] = 9.0, -9.0, 9.0
    leaves = [tensor.requires_grad_() for tensor in (query, key, value)]
    int8_attention(module, *leaves, None)[0].square().sum().backward()
    for leaf in leaves:
        assert leaf.grad[0, 0, 0, 0] == 0
        assert leaf.grad[0, 0, 0, 1] != 0


def test_dropout_drops_and_keeps_the_mean(module, operands):
    torch.manual_seed(0)
    plain, _ = int8_attention(module, *operands, None)
    several = torch.stack([int8_attention(module, *operands, None, dropout=0.2)[0] for _ in range(600)])
    assert not torch.equal(several[0], several[1])
    error = (several.mean(0) - plain).abs().max()
    assert error < 5 * several.std(0).max() / 600**0.5


def test_gradients_follow_dropout(module, operands):
    """The value of a dropped key changes nothing, so it gets no gradient from that query."""
    value = operands[2].clone().requires_grad_()
    torch.manual_seed(0)
    context, _ = int8_attention(module, operands[0], operands[1], value, None, dropout=0.5)
    gradient = torch.randn_like(context)
    context.backward(gradient)
    step = 4 * VALUE_SCALE  # a whole number of codes: the output moves linearly
    moved = value.detach() + step * (torch.rand_like(value) < 0.5)
    torch.manual_seed(0)
    again, _ = int8_attention(module, operands[0], operands[1], moved, None, dropout=0.5)
    predicted = (value.grad * (moved - value.detach())).sum()
    torch.testing.assert_close(((again - context.detach()) * gradient).sum(), predicted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("mode", ["float", "calibrating"])
def test_without_quantization_it_is_float_attention(module, operands, mode):
    for quantizer in module.quantizers.children():
        quantizer.mode = mode
    context, _ = int8_attention(module, *operands, keep_first(7))
    expected = torch.nn.functional.scaled_dot_product_attention(*operands, attn_mask=keep_first(7))
    torch.testing.assert_close(context, expected.transpose(1, 2))
