"""The surgeon's algebra against closed forms on quadratics, where the loss increase is known exactly."""

from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from obert_edge.host.pruning.solve import factor, joint_update, restrict, saliency, separate_update

from .models import definition


def quadratic(seed, size=8, samples=20, dampening=1e-3):
    """Weights [1, B] and a dampened Fisher block [1, B, B], float64."""
    generator = torch.Generator().manual_seed(seed)
    gradients = torch.randn(samples, size, generator=generator, dtype=torch.float64)
    matrix = gradients.T @ gradients / samples + dampening * torch.eye(size).double()
    return torch.randn(1, size, generator=generator, dtype=torch.float64), matrix[None]


def cost(matrix, dw):
    return 0.5 * float(dw[0] @ matrix[0] @ dw[0])


def everything(w):
    return torch.ones(w.shape, dtype=torch.bool)


def leaving(w, indices):
    mask = torch.zeros(w.shape, dtype=torch.bool)
    mask[0, list(indices)] = True
    return mask


def joint(matrix, w, before, leaving, _columns=1):
    return joint_update(matrix, w, before, leaving)


@given(seed=st.integers(0, 999), index=st.integers(0, 7))
def test_removing_one_weight_is_obs(seed, index):
    """rho = w_j^2 / (2 [F^-1]_jj) is exactly what the loss of the quadratic rises by."""
    w, matrix = quadratic(seed)
    inverse = torch.linalg.inv(matrix[0])
    expected = -w[0, index] / inverse[index, index] * inverse[:, index]
    for update in (joint, separate_update):
        dw = update(matrix, w, everything(w), leaving(w, [index]), 1)
        assert torch.allclose(dw[0], expected, rtol=1e-6, atol=1e-9)
        assert cost(matrix, dw) == pytest.approx(float(w[0, index] ** 2 / (2 * inverse[index, index])))
        assert cost(matrix, dw) == pytest.approx(float(saliency(factor(matrix), w, 1)[0, index]))


@given(seed=st.integers(0, 999), indices=st.sets(st.integers(0, 7), min_size=1, max_size=8))
def test_the_joint_update_is_equation_3_for_all_removed_weights(seed, indices):
    w, matrix = quadratic(seed)
    dw = joint(matrix, w, everything(w), leaving(w, indices), 1)
    expected, rho = definition(matrix, w, sorted(indices))
    assert torch.allclose(dw, expected, rtol=1e-6, atol=1e-9)
    assert cost(matrix, dw) == pytest.approx(rho)


@given(
    seed=st.integers(0, 9999),
    indices=st.sets(st.integers(0, 7), min_size=1, max_size=8),
    columns=st.sampled_from([1, 2, 4]),
)
def test_the_joint_update_never_costs_more_than_the_papers(seed, indices, columns):
    w, matrix = quadratic(seed, samples=5)
    whole_groups = {i // columns * columns + k for i in indices for k in range(columns)}
    removed = leaving(w, whole_groups)
    ours = joint(matrix, w, everything(w), removed)
    paper = separate_update(matrix, w, everything(w), removed, columns)
    paper = torch.where(removed, -w, paper)  # what is removed is set to zero by hand
    assert cost(matrix, ours) <= cost(matrix, paper) * (1 + 1e-9)


@given(seed=st.integers(0, 999), group=st.integers(0, 1))
def test_a_group_along_the_row_is_equation_3_with_either_solver(seed, group):
    w, matrix = quadratic(seed)
    indices = range(4 * group, 4 * group + 4)
    expected, rho = definition(matrix, w, indices)
    for update in (joint, separate_update):
        dw = update(matrix, w, everything(w), leaving(w, indices), 4)
        assert torch.allclose(dw, expected, rtol=1e-6, atol=1e-9)
    found = saliency(factor(matrix), w, 4)
    assert found.shape == (1, 2)
    assert float(found[0, group]) == pytest.approx(rho)


@given(seed=st.integers(0, 999), gone=st.sets(st.integers(0, 7), min_size=1, max_size=6))
def test_weights_pruned_before_do_not_move_and_do_not_help(seed, gone):
    w, matrix = quadratic(seed)
    before = ~leaving(w, gone)
    w = w * before
    index = next(i for i in range(8) if i not in gone)
    for update in (joint, separate_update):
        dw = update(matrix, w, before, leaving(w, [index]), 1)
        assert not dw[~before].any()
        kept = [i for i in range(8) if i not in gone]
        inverse = torch.linalg.inv(matrix[0][kept][:, kept])
        best = float(w[0, index] ** 2 / (2 * inverse[kept.index(index), kept.index(index)]))
        assert cost(matrix, dw) == pytest.approx(best)


def test_removing_in_two_parts_costs_the_same_as_at_once():
    """The premise of rescoring: from a constrained optimum, the rest is again equation 3."""
    w, matrix = quadratic(3)
    first = joint(matrix, w, everything(w), leaving(w, [1, 4]), 1)
    halfway = torch.where(leaving(w, [1, 4]), 0.0, w + first)
    second = joint(matrix, halfway, ~leaving(w, [1, 4]), leaving(w, [0, 6]), 1)
    at_once = joint(matrix, w, everything(w), leaving(w, [0, 1, 4, 6]), 1)
    assert torch.allclose(first + second, at_once, atol=1e-9)
    assert cost(matrix, first) + cost(matrix, second) == pytest.approx(cost(matrix, at_once))


def test_blocks_that_lose_different_numbers_of_weights_are_solved_in_one_batch():
    problems = [quadratic(seed) for seed in range(4)]
    w = torch.cat([problem[0] for problem in problems])
    matrix = torch.cat([problem[1] for problem in problems])
    removed = torch.cat([leaving(w[:1], q) for q in ([], [2, 3], range(8), [0, 1, 4, 5, 6])])
    together = joint(matrix, w, everything(w), removed)
    for i in range(4):
        one = slice(i, i + 1)
        alone = joint(matrix[one], w[one], everything(w[one]), removed[one])
        assert torch.allclose(together[one], alone, atol=1e-9)
    assert torch.equal(together[2], -w[2])


def test_blocks_that_rounding_made_indefinite_are_still_factored():
    good = torch.eye(4).double()
    vector = torch.tensor([1.0, 2.0, 3.0, 4.0]).double()
    bad = torch.outer(vector, vector) - 1e-6 * torch.eye(4).double()
    lower = factor(torch.stack([good, bad]))
    assert torch.equal(lower[0], good)
    assert torch.allclose(lower[1] @ lower[1].T, bad, atol=1e-3)


def test_restricting_leaves_the_identity_where_weights_are_gone():
    matrix = torch.full((1, 3, 3), 2.0).double()
    restricted = restrict(matrix, torch.tensor([[True, False, True]]))
    assert restricted[0].tolist() == [[2, 0, 2], [0, 1, 0], [2, 0, 2]]


def test_the_pair_with_the_lowest_joint_cost_exists_where_single_saliencies_mislead():
    """Why the joint solve matters: two nearly equal inputs are each free to remove, but not both."""
    matrix = torch.tensor([[[1.0, 0.999, 0.0], [0.999, 1.0, 0.0], [0.0, 0.0, 0.05]]]).double()
    w = torch.ones(1, 3).double()
    costs = {pair: definition(matrix, w, pair)[1] for pair in combinations(range(3), 2)}
    singles = [definition(matrix, w, [i])[1] for i in range(3)]
    assert sorted(range(3), key=singles.__getitem__)[:2] == [0, 1]
    assert min(costs, key=costs.get) != (0, 1)
