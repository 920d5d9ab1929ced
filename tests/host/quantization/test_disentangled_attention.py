"""Attention that also multiplies with relative positions equals its integer model, and can be trained."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch

from obert_edge.calibration import calibrate
from obert_edge.host.quantization import quantize_model
from obert_edge.host.quantization.attention import Positions, int8_attention
from obert_edge.host.quantization.disentangled_attention import DisentangledSelfAttention
from obert_edge.host.quantization.fake_quant import fake_quant_rows
from obert_edge.host.quantization.modules import QuantEmbedding, QuantLinear
from tests.host.quantization import integer_model
from tests.host.quantization.test_attention import (
    BATCH,
    HEAD_DIM,
    HEADS,
    KEY_SCALE,
    QUERY,
    TOKENS,
    VALUE_SCALE,
    SelfAttention,
    keep_first,
)
from tests.host.quantization.tiny_models import make_batch, make_batches, make_model

ROWS = 8
#: Scores are sums of three products.
SCALING = (3 * HEAD_DIM) ** -0.5


@pytest.fixture
def module():
    return SelfAttention()


@pytest.fixture
def operands():
    generator = torch.Generator().manual_seed(7)
    shape = (BATCH, HEADS, TOKENS, HEAD_DIM)
    return [torch.randn(shape, generator=generator).clamp_(-2.4, 2.4) for _ in range(3)]


@pytest.fixture
def positions():
    generator = torch.Generator().manual_seed(5)
    tables = (torch.randn(HEADS, ROWS, HEAD_DIM, generator=generator) for _ in range(2))
    places = torch.arange(TOKENS)
    row = (places[:, None] - places).div(3, rounding_mode="floor").add(4).clamp(0, ROWS - 1)
    return Positions(*map(fake_quant_rows, tables), row)


def beside(query, key, positions):
    """Products with positions, of one head [tokens, head_dim], pair by pair."""
    found = np.empty((TOKENS, TOKENS))
    for i in range(TOKENS):
        for j in range(TOKENS):
            row = int(positions.row[i, j])
            found[i, j] = query[i] @ positions.key[row] + key[j] @ positions.query[row]
    return found


def test_it_equals_the_integer_attention_of_every_head(module, operands, positions):
    for quantized in (module.eval(), module.train()):
        context, _ = int8_attention(quantized, *operands, None, scaling=SCALING, positions=positions)
        for b in range(BATCH):
            for h in range(HEADS):
                q, k, v = (tensor[b, h].numpy() for tensor in operands)
                own = Positions(positions.key[h].numpy(), positions.query[h].numpy(), positions.row)
                codes_q = np.clip(np.rint(q / QUERY[0]), -QUERY[1], 255 - QUERY[1]) * QUERY[0]
                codes_k = np.clip(np.rint(k / KEY_SCALE), -127, 127) * KEY_SCALE
                bias = beside(codes_q, codes_k, own) * SCALING
                # The integer model divides by the root of the head size alone.
                q_scale = QUERY[0] / math.sqrt(3)
                expected = integer_model.attention(
                    q / math.sqrt(3), k, v, (q_scale, QUERY[1]), KEY_SCALE, VALUE_SCALE, bias
                )
                # A probability that rounds the other way is a step of its row.
                np.testing.assert_allclose(context[b, :, h].numpy(), expected, atol=0.02)
                assert np.abs(context[b, :, h].numpy() - expected).mean() < 1e-4


def test_masked_keys_do_not_count(module, operands, positions):
    masked, _ = int8_attention(module, *operands, keep_first(6), scaling=SCALING, positions=positions)
    first = Positions(positions.key, positions.query, positions.row[:6, :6])
    few = (x[:, :, :6] for x in operands)
    alone, _ = int8_attention(module, *few, None, scaling=SCALING, positions=first)
    torch.testing.assert_close(masked[:, :6], alone, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("left_out", [None, "key", "query"])
def test_gradients_and_those_of_the_tables_are_close_to_float_attention(
    module, operands, positions, left_out
):
    gradient = torch.randn(BATCH, TOKENS, HEADS, HEAD_DIM, generator=torch.Generator().manual_seed(1))
    positions = positions if left_out is None else positions._replace(**{left_out: None})
    found = []
    for mode in ("frozen", "float"):
        for quantizer in module.quantizers.children():
            quantizer.mode = mode
        leaves = [tensor.clone().requires_grad_() for tensor in operands]
        tables = [None if table is None else table.clone().requires_grad_() for table in positions[:2]]
        context, _ = int8_attention(
            module, *leaves, keep_first(8), scaling=SCALING, positions=Positions(*tables, positions.row)
        )
        context.backward(gradient)
        found.append([leaf.grad for leaf in (*leaves, *tables) if leaf is not None])
    assert len(found[0]) == (5 if left_out is None else 4)
    for ours, real in zip(*found):
        assert (ours - real).norm() / real.norm() < 0.03


def test_only_what_the_device_computes_is_quantized():
    model = quantize_model(make_model("DebertaV2", share_att_key=False))
    modules = dict(model.named_modules())
    attention = modules["deberta.encoder.layer.0.attention.self"]
    assert isinstance(attention, DisentangledSelfAttention)
    assert isinstance(attention.query_proj, QuantLinear)
    assert type(attention.pos_key_proj) is type(attention.pos_query_proj) is torch.nn.Linear
    assert type(modules["deberta.encoder.rel_embeddings"]) is torch.nn.Embedding
    assert isinstance(modules["deberta.embeddings.word_embeddings"], QuantEmbedding)


@pytest.mark.parametrize("shared", [True, False])
def test_a_quantized_model_answers_like_the_float_one_and_all_its_weights_learn(shared):
    reference = make_model("DebertaV2", share_att_key=shared)
    model = copy.deepcopy(reference)
    calibrate(model, make_batches(3))
    batch = make_batch(9)
    with torch.no_grad():
        ours, theirs = model(**batch).logits, reference(**batch).logits
    assert (ours - theirs).norm() / theirs.norm() < 0.1
    model.train()
    model(**batch).logits.square().sum().backward()
    named = dict(model.named_parameters())
    assert all(value.grad is not None and value.grad.abs().sum() > 0 for value in named.values()), [
        name for name, value in named.items() if value.grad is None or not value.grad.abs().sum() > 0
    ]
