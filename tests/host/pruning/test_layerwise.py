"""Wanda and SparseGPT against their definitions on a real encoder."""

import pytest
import torch

from obert_edge.errors import UsageError
from obert_edge.host.pruning import Masks, Pattern, prunable_linears, prunable_weights, prune_one_shot
from obert_edge.host.pruning.inputs import by_encoder_layer, input_sums

from .models import ARCHITECTURES, make_batches, make_bert


def padded_batches(count=4):
    """The second half of the rows ends in two padding tokens."""
    batches = make_batches(count)
    for batch in batches:
        batch["attention_mask"][2:, -2:] = 0
    return batches


def inputs_of(model, name, batches):
    """What really flows into a module, padding left out; in layers that share it, of each of them."""
    seen = []
    handle = prunable_linears(model)[name].register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    model.eval()
    with torch.no_grad():
        for batch in batches:
            model(**batch)
    handle.remove()
    # Relative positions go through the same projections as tokens, and are none.
    seen = [x for x in seen if x.shape[:2] == batches[0]["input_ids"].shape]
    uses = len(seen) // len(batches)
    return torch.cat([x[batches[i // uses]["attention_mask"].bool()] for i, x in enumerate(seen)])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_linears_of_an_encoder_layer_are_taken_together(architecture):
    names = list(prunable_linears(ARCHITECTURES[architecture]()))
    half = len(names) // 2
    assert by_encoder_layer(names) == [names[:half], names[half:]]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_inputs_are_those_of_tokens_that_count(architecture):
    model, batches = ARCHITECTURES[architecture](), padded_batches()
    model.train()
    names = list(prunable_linears(model))
    names = names[: len(names) // 2]
    sums = input_sums(model, batches, names, lambda rows: rows.square().sum(dim=0))
    assert model.training
    for name in names:
        expected = inputs_of(model, name, batches).square().mean(dim=0)
        assert torch.allclose(sums[name], expected, atol=1e-6)


def test_wanda_removes_the_smallest_products_of_every_row_and_moves_nothing():
    model, reference, batches = (
        make_bert(num_hidden_layers=1),
        make_bert(num_hidden_layers=1),
        padded_batches(),
    )
    report = prune_one_shot(model, batches, sparsity=0.5, pattern="unstructured", criterion="wanda")
    assert report.sparsity == 0.5
    for name, weight in prunable_weights(reference).items():
        score = weight.abs() * inputs_of(reference, name, batches).norm(dim=0)
        kept = torch.ones_like(score, dtype=torch.bool)
        kept.scatter_(1, score.argsort(dim=1)[:, : score.shape[1] // 2], False)
        assert torch.equal(prunable_weights(model)[name], torch.where(kept, weight, 0.0))


def test_later_layers_see_what_pruned_layers_give():
    model, batches = make_bert(), padded_batches()
    original = {name: weight.detach().clone() for name, weight in prunable_weights(model).items()}
    prune_one_shot(model, batches, sparsity=0.9, pattern="unstructured", criterion="wanda")
    name = list(prunable_weights(model))[6]  # the first of the second layer; its input is final
    score = original[name].abs() * inputs_of(model, name, batches).norm(dim=0)
    kept = prunable_weights(model)[name] != 0
    assert score.masked_fill(~kept, 0).amax(dim=1).min() > 0
    lowest_kept = score.masked_fill(~kept, float("inf")).amin(dim=1)
    assert (lowest_kept >= score.masked_fill(kept, 0).amax(dim=1)).all()


@pytest.mark.parametrize("pattern", ["unstructured", "4x1", "1x4", "2:4"])
def test_what_sparsegpt_keeps_makes_up_for_what_it_removes(pattern):
    model, reference, batches = (
        make_bert(num_hidden_layers=1),
        make_bert(num_hidden_layers=1),
        padded_batches(30),
    )
    report = prune_one_shot(model, batches, sparsity=0.5, pattern=pattern, criterion="sparsegpt")
    assert report.sparsity == pytest.approx(0.5, abs=1e-3)
    for name, original in list(prunable_weights(reference).items())[:3]:  # their inputs are the dense model's
        weight = prunable_weights(model)[name]
        assert Pattern.parse(pattern).holds(weight)
        inputs = inputs_of(reference, name, batches)
        errors = [
            (inputs @ (w - original).detach().T).square().mean() for w in (weight, original * (weight != 0))
        ]
        assert errors[0] < errors[1]


def test_sparsegpt_with_all_columns_in_one_go_is_optimal_brain_surgery_from_the_left():
    """Each removal in turn by the closed form for what is to the right of it."""
    model, batches = make_bert(num_hidden_layers=1), padded_batches(30)
    name = next(iter(prunable_weights(model)))
    w = prunable_weights(model)[name].detach().double().clone()
    inputs = inputs_of(model, name, batches).double()
    hessian = inputs.T @ inputs / len(inputs)
    hessian += 0.01 * hessian.diagonal().mean() * torch.eye(16).double()
    prune_one_shot(model, batches, sparsity=0.5, pattern="unstructured", criterion="sparsegpt")
    kept = prunable_weights(model)[name] != 0
    for j in range(16):
        inverse = torch.linalg.inv(hessian[j:, j:])
        error = w[:, j] * ~kept[:, j] / inverse[0, 0]
        w[:, j:] -= error[:, None] * inverse[0]
    assert torch.allclose(prunable_weights(model)[name].double(), w * kept, atol=1e-5)


@pytest.mark.parametrize("method", ["wanda", "sparsegpt"])
def test_what_is_pruned_stays_pruned(method):
    model, batches = make_bert(), padded_batches()
    prune_one_shot(model, sparsity=0.25, pattern="4x1", criterion="magnitude")
    before = Masks.from_weights(model)
    report = prune_one_shot(model, batches, sparsity=0.75, pattern="4x1", criterion=method, scope="layer")
    assert report.sparsity >= 0.74
    assert all(not (mask & ~before[name]).any() for name, mask in Masks.from_weights(model).items())


def test_what_the_methods_cannot_do_is_refused():
    model, batches = make_bert(), padded_batches()
    with pytest.raises(UsageError, match="scope") as error:
        prune_one_shot(model, batches, sparsity=0.5, criterion="wanda", scope="global")
    assert "row" in error.value.hint
    with pytest.raises(UsageError, match="25"):
        prune_one_shot(model, batches, sparsity=0.25, pattern="2:4", criterion="sparsegpt")
    with pytest.raises(UsageError, match="no batches"):
        prune_one_shot(model, sparsity=0.5, criterion="wanda")
