import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from obert_edge.errors import ObertEdgeError, UsageError
from obert_edge.host.pruning import Masks, prunable_weights
from obert_edge.host.pruning.fisher import (
    BlockFisher,
    BlockLayout,
    WoodburyInverse,
    accumulate,
    first_products,
)
from obert_edge.host.pruning.gradients import GradientSampler

from .models import make_batches, make_bert


def own_gradients(model, batches, weights):
    """The plain way: one backward pass per batch, float64."""
    model.eval()
    found = []
    for batch in batches:
        model.zero_grad()
        model(**batch).loss.backward()
        found.append({name: weight.grad.clone().double() for name, weight in weights.items()})
    model.zero_grad()
    return found


def add_all(fisher, gradients):
    for gradient in gradients:
        fisher.add(gradient)
    fisher.finish()


@given(
    out=st.integers(1, 6),
    inputs=st.integers(1, 20),
    size=st.integers(1, 9),
    kind=st.sampled_from(["row", "flat"]),
)
def test_cutting_into_blocks_and_back_changes_nothing(out, inputs, size, kind):
    layout = BlockLayout((out, inputs), size, kind)
    matrix = torch.arange(1.0, out * inputs + 1).reshape(out, inputs)
    blocks = layout.to_blocks(matrix)
    assert blocks.shape == (layout.blocks, layout.block_size)
    assert torch.equal(layout.to_matrix(blocks), matrix)
    assert blocks.sum() == matrix.sum()  # padding is zero


def test_row_blocks_stay_within_an_output_unit_and_flat_blocks_straddle():
    matrix = torch.arange(12.0).reshape(2, 6)
    row = BlockLayout((2, 6), 4, "row").to_blocks(matrix)
    assert row.tolist() == [[0, 1, 2, 3], [4, 5, 0, 0], [6, 7, 8, 9], [10, 11, 0, 0]]
    flat = BlockLayout((2, 6), 4, "flat").to_blocks(matrix)
    assert flat.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


def test_a_block_is_never_larger_than_the_row_or_the_matrix_that_it_lies_in():
    matrix = torch.arange(12.0).reshape(2, 6)
    assert torch.equal(BlockLayout((2, 6), 100_000, "row").to_blocks(matrix), matrix)
    assert torch.equal(BlockLayout((2, 6), 100_000, "flat").to_blocks(matrix), matrix.reshape(1, 12))


@pytest.mark.parametrize("layout", ["row", "flat"])
def test_the_fisher_of_a_model_is_the_mean_of_outer_products_of_its_masked_gradients(layout):
    """Equation 2, against dense float64 outer products; 24 gradients are not a whole number of chunks."""
    model, batches = make_bert(), make_batches(24)
    weights = prunable_weights(model)
    masks = {
        name: torch.rand(weight.shape, generator=torch.Generator().manual_seed(5)) < 0.7
        for name, weight in weights.items()
    }
    layouts = {name: BlockLayout(tuple(weight.shape), 12, layout) for name, weight in weights.items()}
    fishers = accumulate(GradientSampler(model, batches), weights, masks, layouts)
    gradients = own_gradients(model, batches, weights)
    for name in weights:
        blocks = torch.stack([layouts[name].to_blocks(g[name] * masks[name]) for g in gradients])
        expected = torch.einsum("mna,mnb->nab", blocks, blocks) / 24 + 1e-3 * torch.eye(12).double()
        found = fishers[name].matrix(slice(layouts[name].blocks), 1e-3)
        assert found.dtype == torch.float64
        assert torch.allclose(found, expected, rtol=1e-4, atol=1e-12)


@settings(max_examples=25)
@given(
    size=st.integers(1, 8),
    count=st.integers(1, 20),
    dampening=st.sampled_from([1e-2, 1e-4, 1e-7]),
    seed=st.integers(0, 999),
)
def test_the_papers_recursion_equals_the_direct_inverse(size, count, dampening, seed):
    gradients = torch.randn(3, count, size, generator=torch.Generator().manual_seed(seed)) * 0.1
    fisher = BlockFisher(BlockLayout((3, size), size), chunk=7)
    add_all(fisher, gradients.transpose(0, 1))
    recursion = WoodburyInverse(3, size, count, dampening)
    for i in range(count):
        recursion.add(gradients[:, i])
    # Each is held to the definition rather than to the other: with few gradients F is close to
    # singular, and entries of its inverse are as large as 1 / dampening.
    outer = torch.einsum("nca,ncb->nab", gradients.double(), gradients.double()) / count
    exact = outer + dampening * torch.eye(size).double()
    identity = torch.eye(size).double()
    assert (recursion.inverse @ exact - identity).abs().max() < 1e-6
    direct = fisher.matrix(slice(3), dampening)
    assert (direct - exact).abs().max() <= 1e-6 * exact.abs().max()


def test_the_number_of_gradients_is_the_one_really_taken():
    fisher = BlockFisher(BlockLayout((1, 2), 2), chunk=3)
    add_all(fisher, torch.ones(4, 1, 2))
    assert fisher.count == 4
    assert torch.equal(fisher.matrix(slice(1), 0.5)[0], torch.tensor([[1.5, 1.0], [1.0, 1.5]]).double())
    assert fisher.mean_diagonal() == 1.0


@pytest.mark.parametrize("chunk", [1, 4, 16])
@pytest.mark.parametrize("kind", ["row", "flat"])
def test_chunks_of_any_size_give_the_same_sum(chunk, kind):
    gradients = torch.randn(10, 5, 7, generator=torch.Generator().manual_seed(0))
    layout = BlockLayout((5, 7), 3, kind)
    fisher = BlockFisher(layout, chunk=chunk)
    add_all(fisher, gradients)
    blocks = torch.stack([layout.to_blocks(gradient.double()) for gradient in gradients])
    expected = torch.einsum("mna,mnb->nab", blocks, blocks) / 10 + 1e-3 * torch.eye(3).double()
    assert torch.allclose(fisher.matrix(slice(layout.blocks), 1e-3), expected, atol=1e-6)


@pytest.mark.parametrize("first", range(1, 5))
def test_matrices_that_start_with_fewer_gradients_have_the_same_sum(first):
    gradients = torch.randn(11, 2, 3, generator=torch.Generator().manual_seed(0))
    fisher = BlockFisher(BlockLayout((2, 3), 3), chunk=4, first=first)
    add_all(fisher, gradients)
    expected = torch.einsum("mna,mnb->nab", gradients.double(), gradients.double()) / 11
    assert fisher.count == 11
    assert torch.allclose(fisher.matrix(slice(2), 0.0), expected, atol=1e-6)


@pytest.mark.parametrize("chunk", [1, 4, 32])
def test_any_run_of_matrices_multiplies_at_different_gradients(chunk):
    """At most two thirds of a chunk wait at once, where all together would have the whole wait."""
    firsts = first_products(72, chunk)
    assert all(1 <= first <= chunk for first in firsts)
    for start in range(60):
        run = firsts[start : start + 12]
        waiting = [sum((taken - first) % chunk for first in run) / 12 for taken in range(chunk)]
        assert max(waiting) <= chunk * 2 / 3


def test_offloaded_blocks_are_the_same(tmp_path):
    fisher = BlockFisher(BlockLayout((4, 6), 3))
    add_all(fisher, torch.randn(5, 4, 6, generator=torch.Generator().manual_seed(0)))
    before, scale = fisher.matrix(slice(2, 7), 1e-3), fisher.mean_diagonal()
    fisher.offload(tmp_path / "fisher.f32")
    assert (tmp_path / "fisher.f32").stat().st_size == 8 * 6 * 4  # blocks, upper triangle, float32
    assert torch.equal(fisher.matrix(slice(2, 7), 1e-3), before)
    assert fisher.mean_diagonal() == scale


def test_sampling_leaves_the_model_and_every_random_state_as_they_were():
    model, batches = make_bert(), make_batches(3)
    model.train()
    model.classifier.eval()
    model.bert.embeddings.requires_grad_(False)
    model(**batches[0]).loss.backward()
    weights = list(prunable_weights(model).values())
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    required = {name: p.requires_grad for name, p in model.named_parameters()}
    random_states = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state())  # noqa: NPY002
    samples = list(GradientSampler(model, batches).sample(weights))
    assert len(samples) == 3
    assert model.training
    assert not model.classifier.training
    assert {name: p.requires_grad for name, p in model.named_parameters()} == required
    assert all(torch.equal(gradients[n], p.grad) for n, p in model.named_parameters() if n in gradients)
    assert random.getstate() == random_states[0]
    assert np.random.get_state()[1].tolist() == random_states[1]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), random_states[2])


def test_gradients_are_without_dropout_even_in_training_mode():
    model, batches = make_bert(hidden_dropout_prob=0.5), make_batches(1)
    model.train()
    sampler = GradientSampler(model, batches)
    first, again = (next(sampler.sample(list(prunable_weights(model).values()))) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again))


def test_the_loss_can_be_replaced():
    model, batches = make_bert(), make_batches(2)
    weights = list(prunable_weights(model).values())
    plain = list(GradientSampler(model, batches).sample(weights))
    tripled = list(GradientSampler(model, batches, lambda m, b: 3 * m(**b).loss).sample(weights))
    for one, three in zip(plain, tripled):
        assert all(torch.allclose(3 * a, b, atol=1e-7) for a, b in zip(one, three))


def test_bad_input_is_explained():
    model, batches = make_bert(), make_batches(2)
    weights = list(prunable_weights(model).values())
    with pytest.raises(UsageError, match="no batches"):
        GradientSampler(model, [])
    unlabeled = [{key: value for key, value in batches[0].items() if key != "labels"}]
    with pytest.raises(UsageError, match="no loss"):
        next(GradientSampler(model, unlabeled).sample(weights))
    with pytest.raises(ObertEdgeError, match="batch 0"):
        next(GradientSampler(model, batches, lambda m, b: m(**b).loss * float("nan")).sample(weights))
    with pytest.raises(UsageError):
        BlockLayout((4, 4), 0)
    with pytest.raises(UsageError):
        BlockLayout((4, 4), 4, "column")


def test_the_gradients_of_pruned_weights_count_as_zero():
    model, batches = make_bert(), make_batches(4)
    masks = Masks.from_weights(model)
    name = next(iter(masks))
    kept = masks[name].clone()
    kept[0, :3] = False
    weights = {name: prunable_weights(model)[name]}
    fisher = accumulate(
        GradientSampler(model, batches), weights, {name: kept}, {name: BlockLayout((16, 16), 16)}
    )[name]
    block = fisher.matrix(slice(1), 0.25)[0]
    assert torch.equal(block[:3, :3], 0.25 * torch.eye(3).double())
    assert not block[:3, 3:].any()
    assert block[3:, 3:].diagonal().min() > 0.25
