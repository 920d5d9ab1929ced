"""A bundle's program, translated back to float, is the checkpoint with INT8 weights."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from obert_edge.bundle.container import Bundle
from obert_edge.bundle.program import Attention, Linear
from obert_edge.device.export.dense import Dense, SelfAttention, dense_model, read_dense_model
from obert_edge.device.export.evaluate import evaluate
from obert_edge.errors import BundleError
from obert_edge.host.compiler.build import build
from obert_edge.host.quantization.embedding_rows import int4_rows
from tests.device.samples import round_trip
from tests.host.compiler.tiny_checkpoints import CASES

#: Those with a dense counterpart: there is none of products with relative positions.
DENSE = [case for case in CASES if case[0] != "deberta-v2"]


@pytest.mark.parametrize(("architecture", "task"), [case for case in DENSE if case[1] != "encoder"])
def test_it_computes_what_transformers_computes(make_sample, architecture, task):
    sample = make_sample(architecture, task)
    results = sample.real(evaluate(sample.model, *sample.inputs))
    for ours, theirs in zip(results, sample.oracle()):
        np.testing.assert_allclose(ours, theirs, atol=2e-4)


def test_products_with_relative_positions_are_refused(make_sample):
    sample = make_sample("deberta-v2", "token-classification")
    with pytest.raises(BundleError, match="relative positions, which have no dense counterpart") as caught:
        read_dense_model(sample.bundle)
    assert "without --baseline" in caught.value.hint


@pytest.mark.parametrize("activation", ["gelu_new", "relu", "silu"])
def test_every_activation_is_translated(make_sample, activation):
    sample = make_sample("bert", hidden_act=activation)
    results = evaluate(sample.model, *sample.inputs)
    np.testing.assert_allclose(results[0], sample.oracle()[0], atol=2e-4)


def test_four_bit_word_rows_are_given_to_baselines_as_the_nearest_they_have(make_sample, tmp_path):
    exact = make_sample("bert")
    path = build(exact.bundle.parent, "x86", tmp_path / "int4.oeb", embeddings="int4")
    word = read_dense_model(path).embedding.word
    expected = int4_rows(exact.torch_model.get_input_embeddings().weight.detach()).numpy()
    assert np.corrcoef(word.floats.ravel(), expected.ravel())[0, 1] > 0.999
    steps = word.rows.astype(np.float32) * word.scale[:, None]
    assert (np.abs(steps - word.floats) <= word.scale[:, None] * 0.501).all()
    assert np.unique(np.round(word.floats[5, :32] / np.abs(word.floats[5, :32]).max(), 4)).size <= 16


def test_mean_pooling_leaves_padding_out(make_sample):
    sample = make_sample("bert", "encoder")
    ids, mask, types = sample.inputs
    index = [result.name for result in sample.model.results].index("sentence_embedding")
    pooled = evaluate(sample.model, ids, mask, types)[index]
    padded = np.where(mask == 1, ids, 77)
    np.testing.assert_array_equal(pooled, evaluate(sample.model, padded, mask, types)[index])
    np.testing.assert_allclose(pooled, sample.engine()[index], atol=0.1)


def test_weights_are_the_checkpoints_to_the_last_integer(make_sample):
    sample = make_sample("bert")
    linears = [op for op in sample.model.ops if isinstance(op, Dense)]
    layer = sample.torch_model.bert.encoder.layer[1]
    expected = round_trip(layer.intermediate.dense.weight.data).numpy()
    (found,) = [op for op in linears if op.weight.shape == expected.shape][1:]
    np.testing.assert_allclose(found.weight, expected, rtol=1e-5)
    assert np.abs(found.weight_q).max(axis=1).tolist() == [127] * len(expected)


def test_the_unit_of_queries_and_keys_does_not_matter(make_sample):
    """The program keeps only the product of their scales; so must the products of their weights."""
    sample = make_sample("bert")
    attention = next(op for op in sample.model.ops if isinstance(op, SelfAttention))
    writers = {op.output: op for op in sample.model.ops if isinstance(op, Dense)}
    query, key = writers[attention.query], writers[attention.key]
    torch_attention = sample.torch_model.bert.encoder.layer[0].attention.self
    head = slice(0, attention.head_dim)
    expected = (
        round_trip(torch_attention.query.weight.data)[head].T
        @ round_trip(torch_attention.key.weight.data)[head]
    )
    np.testing.assert_allclose(query.weight[head].T @ key.weight[head], expected.numpy(), atol=1e-4)


def test_an_attention_without_linears_before_it_is_refused(make_sample):
    with Bundle.open(make_sample("bert").bundle) as bundle:
        program, weights = bundle.program, bundle.weights
        attention = next(op for op in program.ops if isinstance(op, Attention))
        linear = next(op for op in program.ops if isinstance(op, Linear))
        program.ops[program.ops.index(attention)] = dataclasses.replace(attention, key=linear.input)
        with pytest.raises(BundleError, match="no linear op writes"):
            dense_model(program, weights, ["logits"])
