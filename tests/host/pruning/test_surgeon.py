"""The surgeon on whole models."""

import logging

import pytest
import torch

from obert_edge.errors import UsageError
from obert_edge.host.pruning import Masks, Pattern, Surgeon, prunable_weights, prune_one_shot
from obert_edge.host.pruning.criteria import SurgeonOptions
from obert_edge.host.pruning.fisher import BlockLayout, first_products
from obert_edge.host.pruning.gradients import own_loss
from obert_edge.host.pruning.step import PruningStep

from .models import ARCHITECTURES, definition, make_batches, make_bert


def literal_fisher(model, batches, name, size, dampening):
    """Row blocks of equation 2 by plain backward passes, float64 [out, in / size, size, size]."""
    weight = prunable_weights(model)[name]
    model.eval()
    total = 0.0
    for batch in batches:
        model.zero_grad()
        model(**batch).loss.backward()
        g = weight.grad.double().reshape(weight.shape[0], -1, size)
        total = total + g.unsqueeze(-1) * g.unsqueeze(-2)
    model.zero_grad()
    return total / len(batches) + dampening * torch.eye(size).double()


@pytest.mark.parametrize(
    ("pattern", "solver"),
    [
        ("unstructured", "joint"),
        ("4x1", "joint"),
        ("2x1", "joint"),
        ("1x4", "joint"),
        ("2x2", "joint"),
        ("4x1", "paper"),
        ("1x4", "paper"),
    ],
)
def test_a_whole_model_is_pruned_as_the_equations_say(pattern, solver):
    """Every mask and every weight of a small model, against a plain loop over groups."""
    size, dampening, sparsity = 8, 1e-4, 0.6
    shape = Pattern.parse(pattern)
    model, reference = make_bert(num_hidden_layers=1), make_bert(num_hidden_layers=1)
    batches = make_batches(10)
    report = prune_one_shot(
        model,
        batches,
        sparsity=sparsity,
        pattern=pattern,
        block_size=size,
        dampening=dampening,
        solver=solver,
    )
    assert report.gradients == 10
    weights = prunable_weights(reference)
    scores, blocks = [], {}
    for name, weight in weights.items():
        fisher = literal_fisher(reference, batches, name, size, dampening)
        blocks[name] = fisher
        w = weight.detach().double()
        for i in range(0, w.shape[0], shape.rows):
            for j in range(0, w.shape[1], shape.columns):
                rho = 0.0
                for row in range(i, i + shape.rows):
                    b, k = divmod(j, size)
                    block_w = w[row, b * size : (b + 1) * size][None]
                    rho += definition(fisher[row, b][None], block_w, range(k, k + shape.columns))[1]
                scores.append((rho, name, i, j))
    scores.sort(key=lambda entry: entry[0])
    removed = {name: torch.zeros(weight.shape, dtype=torch.bool) for name, weight in weights.items()}
    for _, name, i, j in scores[: int(sparsity * len(scores) + 0.5)]:
        removed[name][i : i + shape.rows, j : j + shape.columns] = True
    increase = 0.0
    for name, pruned in prunable_weights(model).items():
        assert torch.equal(pruned == 0, removed[name])
        w = weights[name].detach().double()
        for row in range(w.shape[0]):
            for b in range(w.shape[1] // size):
                span = slice(b * size, (b + 1) * size)
                gone = removed[name][row, span].nonzero().flatten().tolist()
                block_w, fisher = w[row, span][None], blocks[name][row, b][None]
                groups = [gone] if solver == "joint" else _chunks(gone, shape.columns)
                dw = sum((definition(fisher, block_w, q)[0] for q in groups if q), torch.zeros(1, size))
                dw = torch.where(removed[name][row, span], -block_w[0], dw[0])
                assert torch.allclose(pruned[row, span].double(), block_w[0] + dw, atol=1e-6, rtol=1e-4)
                increase += 0.5 * float(dw @ fisher[0] @ dw)
    assert report.loss_increase == pytest.approx(increase, rel=1e-3)


def _chunks(indices, columns):
    return [indices[i : i + columns] for i in range(0, len(indices), columns)]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("pattern", ["unstructured", "4x1", "1x4", "2:4"])
def test_all_architectures_get_the_exact_sparsity_in_the_shape_of_the_pattern(architecture, pattern):
    model = ARCHITECTURES[architecture]()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    report = prune_one_shot(model, make_batches(4), sparsity=0.5, pattern=pattern, block_size=16)
    assert report.sparsity == 0.5
    shape = Pattern.parse(pattern)
    weights = prunable_weights(model)
    assert all(shape.holds(weight) for weight in weights.values())
    assert Masks.from_weights(model).sparsity == 0.5
    for name, value in model.state_dict().items():
        if name.removesuffix(".weight") not in weights:
            assert torch.equal(value, before[name])


def test_layer_scope_prunes_every_matrix_alike():
    report = prune_one_shot(
        make_bert(), make_batches(4), sparsity=0.75, pattern="4x1", scope="layer", block_size=16
    )
    assert {layer.sparsity for layer in report.layers} == {0.75}


def test_what_is_pruned_stays_pruned_and_counts():
    model, batches = make_bert(), make_batches(4)
    prune_one_shot(model, batches, sparsity=0.5, pattern="4x1", block_size=8)
    first = Masks.from_weights(model)
    report = prune_one_shot(model, batches, sparsity=0.75, pattern="4x1", block_size=8)
    second = Masks.from_weights(model)
    assert report.sparsity == second.sparsity == 0.75
    assert all(not (second[name] & ~first[name]).any() for name in first)


def test_a_model_that_is_sparse_enough_is_not_touched():
    model, batches = make_bert(), make_batches(4)
    prune_one_shot(model, batches, sparsity=0.5, pattern="2x1", block_size=8)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    report = prune_one_shot(model, batches, sparsity=0.4, pattern="2x1", block_size=8)
    assert report.sparsity == 0.5
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def least_budget(model, block_size, gradients):
    """Bytes of saliencies of 4x1, and of the largest matrix: Fisher blocks and the gradients that wait."""
    sizes = [weight.numel() for weight in prunable_weights(model).values()]
    return sum(sizes) + 4 * max(sizes) * (block_size + gradients - 1 + 1)


def test_a_memory_budget_that_one_matrix_is_too_large_for_is_refused_with_the_one_that_is_needed():
    model, batches = make_bert(), make_batches(5)
    budget = least_budget(model, block_size=8, gradients=5)
    with pytest.raises(
        UsageError, match=f"at least {budget} bytes .* memory_budget is {budget - 1}"
    ) as error:
        prune_one_shot(model, batches, sparsity=0.7, block_size=8, memory_budget=budget - 1)
    assert "smaller block_size" in error.value.hint
    assert str(budget) in error.value.hint
    assert Masks.from_weights(model).sparsity == 0
    prune_one_shot(model, batches, sparsity=0.7, block_size=8, memory_budget=budget)


def test_fewer_gradients_wait_at_once_where_a_matrix_fits_no_other_way():
    layouts = {"layer": BlockLayout((32, 32), 32)}
    least = 4 * 1024 * (1 + 32 + 1 + 7)
    surgeon = Surgeon(block_size=32, memory_budget=least)
    assert surgeon._plan(layouts, {"layer": 0}, 256, Pattern(), torch.device("cpu")) == ([["layer"]], 8)


def test_blocks_as_large_as_a_row_are_the_largest_that_there_are():
    one, other, batches = make_bert(), make_bert(), make_batches(5)
    prune_one_shot(one, batches, sparsity=0.7, block_size=64)
    prune_one_shot(other, batches, sparsity=0.7, block_size=100_000)
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])


def test_a_tight_memory_budget_takes_more_passes_and_gives_the_same_weights():
    one, many, batches = make_bert(), make_bert(), make_batches(5)
    passes = []

    def progress(stage, done, total):
        if stage == "gradients" and done == total:
            passes.append(total)

    prune_one_shot(one, batches, sparsity=0.7, block_size=8)
    budget = least_budget(one, block_size=8, gradients=5)
    prune_one_shot(many, batches, sparsity=0.7, block_size=8, memory_budget=budget, progress=progress)
    assert len(passes) == 8  # a large matrix or two small ones at a time
    for name, value in one.state_dict().items():
        assert torch.equal(value, many.state_dict()[name])


@pytest.mark.parametrize("option", ["rescorings", "recomputations"])
def test_cutting_a_step_into_parts_ends_at_the_same_sparsity(option):
    report = prune_one_shot(
        make_bert(), make_batches(6), sparsity=0.8, pattern="2x1", block_size=8, **{option: 3}
    )
    assert report.sparsity == pytest.approx(0.8, abs=1e-3)


def test_rescoring_finds_a_cheaper_set_on_average():
    """Groups that go later know of those before; with one Fisher matrix the costs are comparable."""
    wins = 0
    for seed in range(4):
        costs = [
            prune_one_shot(
                make_bert(seed),
                make_batches(12, seed=seed),
                sparsity=0.7,
                pattern="unstructured",
                block_size=16,
                dampening=1e-3,
                relative_dampening=True,
                rescorings=parts,
            ).loss_increase
            for parts in (1, 4)
        ]
        wins += costs[1] < costs[0]
    assert wins == 4


def test_relative_dampening_does_not_depend_on_the_scale_of_the_loss():
    small, large, batches = make_bert(), make_bert(), make_batches(6)
    options = {"sparsity": 0.6, "block_size": 8, "dampening": 1e-2, "relative_dampening": True}
    prune_one_shot(small, batches, **options)
    prune_one_shot(large, batches, loss_fn=lambda m, b: 64 * m(**b).loss, **options)
    for name, weight in prunable_weights(small).items():
        assert torch.equal(weight == 0, prunable_weights(large)[name] == 0)
        assert torch.allclose(weight, prunable_weights(large)[name], atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"block_size": 0},
        {"dampening": 0.0},
        {"dampening": -1e-7},
        {"layout": "column"},
        {"solver": "exact"},
        {"selection": "clever"},
        {"memory_budget": 0},
        {"rescorings": 0},
        {"recomputations": 0},
    ],
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(UsageError):
        Surgeon(**options)


def floats_at_once(names, firsts, chunk):
    """Per weight of matrices of one size: 40 of Fisher, and gradients counted one by one."""
    waiting, due, most = dict.fromkeys(names, 0), {name: firsts[name] for name in names}, 0
    for _ in range(3 * chunk):
        most = max(most, sum(waiting.values()) + len(names))  # those autograd returns
        for name in names:
            waiting[name] += 1
            if waiting[name] == due[name]:
                waiting[name], due[name] = 0, chunk
    return 40 * len(names) + most


def test_more_memory_means_fewer_passes_and_never_more_than_the_budget():
    sizes = {f"layer.{i}": BlockLayout((25, 40), 40) for i in range(12)}
    owners = dict.fromkeys(sizes, 0)
    passes = []
    for budget in (250_000, 1_000_000, 3_000_000, 10_000_000):
        surgeon = Surgeon(block_size=40, memory_budget=budget)
        names, chunk = surgeon._plan(sizes, owners, 256, Pattern(), torch.device("cpu"))
        assert [name for part in names for name in part] == list(sizes)
        firsts = dict(zip(sizes, first_products(12, chunk)))
        needed = 4 * 12_000 + max(4 * 1000 * floats_at_once(part, firsts, chunk) for part in names)
        assert needed <= budget
        passes.append(len(names))
    assert passes == sorted(passes, reverse=True)
    assert passes[0] == 12
    assert passes[-1] == 1


@pytest.mark.parametrize("pattern", ["unstructured", "4x1", "1x4", "2x2"])
def test_greedy_selection_finds_a_cheaper_set_than_independent_saliencies(pattern):
    """Correlated inputs and a high sparsity: what is cheap alone is dear together."""
    options = {"sparsity": 0.75, "pattern": pattern, "block_size": 16, "dampening": 1e-3}
    costs = {}
    for selection in ("independent", "greedy"):
        model = make_bert(num_hidden_layers=1)
        report = prune_one_shot(
            model,
            make_batches(12),
            selection=selection,
            relative_dampening=True,
            **options,
        )
        assert report.sparsity == 0.75
        assert all(Pattern.parse(pattern).holds(weight) for weight in prunable_weights(model).values())
        costs[selection] = report.loss_increase
    assert costs["greedy"] < costs["independent"]


def test_n_of_m_loses_what_costs_least_together():
    costs = {}
    for solver in ("paper", "joint"):
        model = make_bert(num_hidden_layers=1)
        report = prune_one_shot(
            model,
            make_batches(12),
            sparsity=0.5,
            pattern="2:4",
            solver=solver,
            block_size=8,
            dampening=1e-3,
            relative_dampening=True,
        )
        assert report.sparsity == 0.5
        assert all(Pattern.parse("2:4").holds(weight) for weight in prunable_weights(model).values())
        costs[solver] = report.loss_increase
    assert costs["joint"] < costs["paper"]


def test_row_scope_prunes_every_output_unit_alike():
    model = make_bert()
    prune_one_shot(model, make_batches(4), sparsity=0.75, pattern="2x1", scope="row", block_size=8)
    for weight in prunable_weights(model).values():
        assert ((weight == 0).sum(dim=1) == 0.75 * weight.shape[1]).all()


def test_several_threads_give_the_same_weights():
    one, two, batches = make_bert(), make_bert(), make_batches(4)
    prune_one_shot(one, batches, sparsity=0.7, block_size=8)
    spans = PruningStep._spans
    torch.set_num_threads(2)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("obert_edge.host.pruning.step._SPAN_BYTES", {"cpu": 4096})
            assert len(spans(_step(two), BlockLayout((16, 16), 8))) > 1
            prune_one_shot(two, batches, sparsity=0.7, block_size=8)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    for name, value in one.state_dict().items():
        assert torch.allclose(value, two.state_dict()[name], atol=1e-6)


def _step(model):
    weights = prunable_weights(model)
    masks = Masks.from_weights(model)
    return PruningStep(weights, masks, dict.fromkeys(weights, 0), SurgeonOptions(), Pattern())


def test_greedy_blocks_of_several_rows_need_blocks_along_the_row():
    with pytest.raises(UsageError, match="every row"):
        prune_one_shot(
            make_bert(), make_batches(1), sparsity=0.5, pattern="4x1", selection="greedy", layout="flat"
        )


def test_a_fisher_block_must_not_cut_through_a_cell():
    with pytest.raises(UsageError, match="2:4"):
        prune_one_shot(make_bert(), make_batches(1), sparsity=0.5, pattern="2:4", block_size=6)


def test_a_fisher_block_must_not_cut_through_a_block_of_the_pattern():
    with pytest.raises(UsageError, match="50") as error:
        prune_one_shot(make_bert(), make_batches(1), sparsity=0.5, pattern="1x4", block_size=50)
    assert "multiple of 4" in error.value.hint


def test_the_papers_flat_blocks_of_50_straddle_rows():
    model = make_bert()
    report = prune_one_shot(
        model,
        make_batches(8),
        sparsity=0.5,
        pattern="unstructured",
        block_size=50,
        layout="flat",
        solver="paper",
    )
    assert report.sparsity == 0.5


def test_the_fisher_matrix_is_reported_beside_its_dampening():
    """Against plain backward passes; half of each matrix is pruned, and blocks are padded."""
    model, batches = make_bert(), make_batches(6)
    prune_one_shot(model, sparsity=0.5, criterion="magnitude", scope="layer")
    masks = Masks.from_weights(model)
    squares = {name: torch.zeros_like(weight) for name, weight in prunable_weights(model).items()}
    model.eval()
    for batch in batches:
        model.zero_grad()
        model(**batch).loss.backward()
        for name, weight in prunable_weights(model).items():
            squares[name] += weight.grad.square() / len(batches)
    expected = torch.stack([squares[name][mask].mean() for name, mask in masks.items()]).double()
    dampening = float(expected.sort().values[3:5].mean())
    report = prune_one_shot(model, batches, sparsity=0.6, dampening=dampening)
    facts = report.fisher
    assert facts.mean_diagonal == pytest.approx(float(expected.mean()), rel=1e-4)
    assert facts.median_diagonal == pytest.approx(float(expected.median()), rel=1e-4)
    assert facts.dampening == dampening
    assert facts.degenerate == pytest.approx(4 / len(expected))
    assert report.to_dict()["fisher"]["degenerate"] == facts.degenerate


def test_small_gradients_are_told_once_in_a_run_of_several_pruning_steps(caplog):
    model, surgeon = make_bert(), Surgeon()
    masks = Masks.from_weights(model)
    for sparsity in (0.5, 0.6, 0.7):
        options = {"sparsity": sparsity, "pattern": Pattern(), "batches": make_batches(2)}
        found = surgeon.prune(
            model, masks, **options, loss_fn=lambda model, batch: 1e-7 * own_loss(model, batch)
        )
        assert found.fisher.degenerate == 1.0
    assert len(caplog.records) == 1


def test_a_fisher_matrix_below_its_dampening_is_said_to_be_magnitude(caplog):
    """At the minimum of a loss gradients vanish, and oBERT chooses what magnitude chooses."""

    def flat(model, batch):
        labels, logits = batch.pop("labels"), model(**batch).logits
        batch["labels"] = labels
        return 1e-7 * logits.mean()

    by_surgeon, by_magnitude = make_bert(), make_bert()
    with caplog.at_level(logging.WARNING):
        report = prune_one_shot(by_surgeon, make_batches(4), sparsity=0.5, loss_fn=flat)
    prune_one_shot(by_magnitude, sparsity=0.5, criterion="magnitude")
    ours, theirs = Masks.from_weights(by_surgeon), Masks.from_weights(by_magnitude)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert report.fisher.degenerate == 1.0
    (said,) = [record.getMessage() for record in caplog.records]
    assert "in 100 % of the matrices" in said and "below the dampening of 1e-07" in said
    assert "as with method magnitude" in said
    for option in ("gradients_of: outputs", "--gradients-of outputs", "relative_dampening", "--dampening"):
        assert option in said
    caplog.clear()
    relative = prune_one_shot(
        make_bert(), make_batches(4), sparsity=0.5, dampening=0.01, relative_dampening=True, loss_fn=flat
    )
    assert relative.fisher.degenerate == 0.0 and not caplog.records
