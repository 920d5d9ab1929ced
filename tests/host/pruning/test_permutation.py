"""Units change places: the function stays, and blocks of several rows keep more."""

import copy
import sys

import pytest
import torch

from obert_edge.errors import UsageError
from obert_edge.host.architectures import ARCHITECTURES as KNOWN
from obert_edge.host.pruning import (
    Masks,
    Pattern,
    Surgeon,
    permute_channels,
    prunable_weights,
    prune_one_shot,
)
from obert_edge.host.pruning.permutation import exchange, kept_share, permutable_units, permute, similar_units

from .models import ARCHITECTURES, make_batches, make_bert, make_deberta

#: Those whose queries and keys are turned by pairs of units, which must stay pairs.
ROTARY = {kind for kind in ARCHITECTURES if KNOWN[kind].rotary}
#: Those whose heads of values are shared by several heads of queries.
SHARED = {"eurobert"}


def test_queries_and_keys_stay_where_they_also_meet_positions_of_another_projection():
    sets = permutable_units(make_deberta(shared=False))
    assert sorted(units.count for units in sets) == [8] * 4 + [32] * 2
    assert not any("query" in name or "key" in name for units in sets for name, _ in units.rows)


@pytest.mark.parametrize("kind", sorted(ARCHITECTURES))
def test_any_order_of_permutable_units_leaves_the_function_as_it_is(kind):
    model = ARCHITECTURES[kind]().eval()
    with torch.no_grad():  # biases are zero in a new model
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_()
    batch = make_batches(1)[0]
    before = model(**batch).logits
    weights = {name: weight.clone() for name, weight in prunable_weights(model).items()}
    generator = torch.Generator().manual_seed(3)
    sets = permutable_units(model)
    permute(model, [(units, torch.randperm(units.count, generator=generator)) for units in sets])
    torch.testing.assert_close(model(**batch).logits, before, atol=1e-5, rtol=1e-5)
    moved = [name for name, weight in prunable_weights(model).items() if not weight.equal(weights[name])]
    modules = KNOWN[kind].modules
    stay = {modules.query, modules.key} if kind in ROTARY and not modules.is_fused else set()
    if kind in SHARED:
        stay |= {modules.value, modules.attention_output}
    if bottleneck := KNOWN[kind].bottleneck:
        stay |= {bottleneck.entry, bottleneck.shared, bottleneck.exit}
    assert moved == [name for name in weights if not any(name.endswith(one) for one in stay)]


@pytest.mark.parametrize("kind", sorted(ARCHITECTURES))
def test_units_are_those_of_heads_and_of_the_feed_forward_layers(kind):
    sets = permutable_units(ARCHITECTURES[kind]())
    # Two heads of 8 (of 4 in bottlenecks), of queries with keys and of values; 32 units between two matrices
    # of a feed-forward part, of which there are two behind a bottleneck.
    size, parts = (4, 2) if KNOWN[kind].bottleneck else (8, 1)
    heads = 4 * (kind not in ROTARY) + 4 * (kind not in SHARED)
    assert sorted(units.count for units in sets) == [size] * heads + [32] * 2 * parts
    covered = [(name, first + i) for one in sets for name, first in one.rows for i in range(one.count)]
    wide = 32 * (parts + bool(KNOWN[kind].modules.gate))
    rows = size * (heads // 2 + 2 * (kind not in ROTARY))
    assert len(covered) == len(set(covered)) == 2 * (rows + wide)


def test_units_of_four_kinds_find_each_other():
    """Shuffled units of four kinds, each with inputs of its own: groups of one kind keep everything."""
    kinds = torch.arange(16) % 4
    saliency = torch.zeros(16, 8)
    for unit, kind in enumerate(kinds):
        saliency[unit, 2 * kind : 2 * kind + 2] = 1.0 + 0.01 * unit
    alike = similar_units(saliency, 4)
    assert all(len(set(kinds[group].tolist())) == 1 for group in alike)
    mixed = alike.clone()  # a unit of each of two groups in the other's place
    mixed[0, 0], mixed[1, 0] = alike[1, 0], alike[0, 0]
    found = exchange([saliency], [mixed], 0.75, rounds=40)[0]
    assert found.flatten().sort().values.tolist() == list(range(16))
    assert all(len(set(kinds[group].tolist())) == 1 for group in found)
    assert kept_share([saliency], [found], 0.75) > 0.99 > kept_share([saliency], [mixed], 0.75)


@pytest.mark.parametrize("rows", [2, 4, 8])
def test_groups_are_a_partition_and_keep_more(rows):
    saliency = torch.rand(32, 24, generator=torch.Generator().manual_seed(rows)).pow(4)
    start = torch.arange(32).reshape(-1, rows)
    found = exchange([saliency], [start], 0.7, rounds=20)[0]
    assert found.shape == start.shape
    assert found.flatten().sort().values.tolist() == list(range(32))
    assert kept_share([saliency], [found], 0.7) > kept_share([saliency], [start], 0.7)


@pytest.mark.parametrize("pattern", ["4x1", "2x1", "2x2"])
def test_regrouping_raises_what_blocks_keep_and_not_what_the_model_says(pattern):
    model, batches = make_bert().eval(), make_batches(12)
    before = model(**batches[0]).logits
    kept = permute_channels(
        model, batches, pattern=Pattern.parse(pattern), sparsity=0.6, surgeon=Surgeon(block_size=8)
    )
    assert kept.after > kept.before
    torch.testing.assert_close(model(**batches[0]).logits, before, atol=1e-5, rtol=1e-5)
    prune_one_shot(model, batches, sparsity=0.6, pattern=pattern, block_size=8)
    assert all(Pattern.parse(pattern).holds(weight) for weight in prunable_weights(model).values())


def test_the_same_data_give_the_same_groups():
    models = [make_bert(), make_bert()]
    for model in models:
        permute_channels(
            model,
            make_batches(6),
            pattern=Pattern.parse("4x1"),
            sparsity=0.5,
            surgeon=Surgeon(block_size=8, memory_budget=60_000),
        )
    pairs = zip(*(prunable_weights(model).values() for model in models))
    assert all(one.equal(other) for one, other in pairs)


def test_rows_alone_and_pruned_models_are_left_as_they_are():
    model, batches = make_bert(), make_batches(4)
    state = copy.deepcopy(model.state_dict())
    surgeon = Surgeon(block_size=8)
    assert (
        permute_channels(model, batches, pattern=Pattern.parse("1x4"), sparsity=0.5, surgeon=surgeon) is None
    )
    assert all(value.equal(state[name]) for name, value in model.state_dict().items())
    prune_one_shot(model, batches, sparsity=0.25, pattern="4x1", block_size=8)
    state = copy.deepcopy(model.state_dict())
    assert (
        permute_channels(model, batches, pattern=Pattern.parse("4x1"), sparsity=0.5, surgeon=surgeon) is None
    )
    assert all(value.equal(state[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("budget", [60_000, None])
def test_saliencies_are_those_of_equation_3(budget):
    """However many passes the memory allows."""
    model, batches = make_bert(num_hidden_layers=1), make_batches(5)
    name = next(iter(prunable_weights(model)))
    surgeon = Surgeon(block_size=8, dampening=1e-4, memory_budget=budget)
    found = surgeon.saliencies(model, prunable_weights(model), batches)
    assert list(found) == list(prunable_weights(model))
    weight = prunable_weights(model)[name]
    model.eval()
    outer = 0.0
    for batch in batches:
        model.zero_grad()
        model(**batch).loss.backward()
        g = weight.grad.double().reshape(16, 2, 8)
        outer = outer + g.unsqueeze(-1) * g.unsqueeze(-2)
    inverse = torch.linalg.inv(outer / len(batches) + 1e-4 * torch.eye(8, dtype=torch.float64))
    expected = weight.double().square() / (2 * inverse.diagonal(dim1=-2, dim2=-1).reshape(16, 16))
    torch.testing.assert_close(found[name].double(), expected, rtol=1e-4, atol=0)
    assert Masks.from_weights(model).sparsity == 0


def test_without_scipy_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(UsageError, match="scipy"):
        permute_channels(
            make_bert(),
            make_batches(2),
            pattern=Pattern.parse("4x1"),
            sparsity=0.5,
            surgeon=Surgeon(block_size=8),
        )
