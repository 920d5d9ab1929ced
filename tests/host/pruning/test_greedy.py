"""Choices that know of each other, against trying everything in float64."""

from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from obert_edge.host.pruning.greedy import cell_scores, greedy_scores

from .models import definition

INFINITE = float("inf")


def problem(seed, rows=1, size=8, n=1):
    generator = torch.Generator().manual_seed(seed)
    gradients = torch.randn(n, rows, 2 * size, size, generator=generator, dtype=torch.float64)
    mixed = gradients @ torch.randn(size, size, generator=generator, dtype=torch.float64)
    matrix = mixed.transpose(-1, -2) @ mixed / (2 * size) + 1e-2 * torch.eye(size).double()
    return torch.randn(n, rows, size, generator=generator, dtype=torch.float64), matrix


def joint_cost(matrix, w, indices):
    """Equation 3 for all of ``indices`` together, summed over rows."""
    return sum(definition(matrix[r][None], w[r][None], indices)[1] for r in range(len(w)))


def literal_greedy(matrix, w, columns, allowed=lambda chosen: True):
    """In every step the group that makes the *joint* cost of all removed lowest."""
    groups = w.shape[1] // columns
    removed, costs = [], []
    before = 0.0
    while len(removed) < groups:
        best = None
        for group in range(groups):
            if group in removed or not allowed([*removed, group]):
                continue
            indices = [g * columns + k for g in [*removed, group] for k in range(columns)]
            cost = joint_cost(matrix, w, indices)
            if best is None or cost < best[0]:
                best = (cost, group)
        if best is None:
            break
        removed.append(best[1])
        costs.append(best[0] - before)
        before = best[0]
    return removed, costs


@settings(max_examples=20)
@given(seed=st.integers(0, 9999), rows=st.sampled_from([1, 2, 4]), columns=st.sampled_from([1, 2, 4]))
def test_groups_leave_in_the_order_of_the_lowest_joint_cost(seed, rows, columns):
    w, matrix = problem(seed, rows)
    order, costs = literal_greedy(matrix[0], w[0], columns)
    gone = torch.zeros(1, 8 // columns, dtype=torch.bool)
    scores = greedy_scores(torch.linalg.inv(matrix), w, gone, columns=columns)[0]
    highest = 0.0
    for group, cost in zip(order, costs):
        highest = max(highest, cost)
        assert float(scores[group]) == pytest.approx(highest, rel=1e-6)


@settings(max_examples=20)
@given(seed=st.integers(0, 9999))
def test_greedy_choice_keeps_to_n_of_m(seed):
    w, matrix = problem(seed)

    def allowed(chosen):
        return all(sum(i // 4 == cell for i in chosen) <= 2 for cell in range(2))

    order, _ = literal_greedy(matrix[0], w[0], 1, allowed)
    gone = torch.zeros(1, 8, dtype=torch.bool)
    scores = greedy_scores(torch.linalg.inv(matrix), w, gone, cell=(4, 2))[0]
    assert sorted(order) == (scores < INFINITE).nonzero().flatten().tolist()
    assert len(order) == 4


def test_what_is_gone_is_not_chosen_again_and_does_not_help():
    w, matrix = problem(3)
    there = torch.tensor([True, False, True, True, False, True, True, True])
    kept = there.nonzero().flatten().tolist()
    small_w, small = w[:, :, kept], matrix[:, :, kept][:, :, :, kept]
    restricted = torch.eye(8).double().repeat(1, 1, 1, 1)
    for a, i in enumerate(kept):
        for b, j in enumerate(kept):
            restricted[0, 0, i, j] = small[0, 0, a, b]
    scores = greedy_scores(torch.linalg.inv(restricted), w * there, ~there[None])[0]
    alone = greedy_scores(torch.linalg.inv(small), small_w, torch.zeros(1, 6, dtype=torch.bool))[0]
    assert torch.allclose(scores[kept], alone)
    assert (scores[~there] == -INFINITE).all()


def test_blocks_of_a_batch_do_not_know_of_each_other():
    w, matrix = problem(1, rows=2, n=3)
    inverse = torch.linalg.inv(matrix)
    gone = torch.zeros(3, 4, dtype=torch.bool)
    together = greedy_scores(inverse, w, gone, columns=2)
    for i in range(3):
        alone = greedy_scores(inverse[i : i + 1], w[i : i + 1], gone[:1], columns=2)
        assert torch.allclose(together[i], alone[0])


@settings(max_examples=30)
@given(seed=st.integers(0, 9999), keep=st.integers(1, 3))
def test_a_cell_loses_the_weights_that_cost_least_together(seed, keep):
    w, matrix = problem(seed)
    inverse = torch.linalg.inv(matrix[0])
    scores = cell_scores(inverse, w[0], torch.zeros(1, 8, dtype=torch.bool), keep=keep, of=4)[0]
    for cell in (range(4), range(4, 8)):
        costs = {q: joint_cost(matrix[0], w[0], q) for q in combinations(cell, 4 - keep)}
        chosen = tuple(i for i in cell if scores[i] < INFINITE)
        assert costs[chosen] == pytest.approx(min(costs.values()), rel=1e-9)


def test_4_of_8_is_searched_too():
    w, matrix = problem(11)
    gone = torch.zeros(1, 8, dtype=torch.bool)
    scores = cell_scores(torch.linalg.inv(matrix[0]), w[0], gone, keep=4, of=8)[0]
    chosen = tuple((scores < INFINITE).nonzero().flatten().tolist())
    costs = {q: joint_cost(matrix[0], w[0], q) for q in combinations(range(8), 4)}
    assert chosen == min(costs, key=costs.get)


def test_in_very_large_cells_the_greedy_choice_decides():
    w, matrix = problem(2, size=16)
    inverse, gone = torch.linalg.inv(matrix), torch.zeros(1, 16, dtype=torch.bool)
    cells = cell_scores(inverse[0], w[0], gone, keep=8, of=16)
    assert torch.equal(cells, greedy_scores(inverse, w, gone, cell=(16, 8)))
