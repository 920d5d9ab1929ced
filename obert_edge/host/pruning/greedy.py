"""Choosing weights one after the other, each with those removed before it taken into account.

Equation 3 scores a group as if it were removed alone. Here groups leave a Fisher block in turn:
after each, the inverse of what is left and the weights that made up for it are brought up to
date, which is exact optimal brain surgery within the block. The cost of each removal, given those
before it, is what a global threshold then compares.
"""

from __future__ import annotations

from math import comb
from typing import Dict, List, Optional, Tuple

import torch
from torch import Tensor

from obert_edge.host.pruning.solve import solve_groups

# Subsets of an N:M cell that are tried one by one; with more of them the greedy choice decides.
_MOST_SUBSETS = 1000


def greedy_scores(
    inverse: Tensor, w: Tensor, gone: Tensor, *, columns: int = 1, cell: Optional[Tuple[int, int]] = None
) -> Tensor:
    """Costs of groups in the order in which each is the cheapest to remove next.

    A group is ``columns`` consecutive weights in each of R rows, whose Fisher blocks are apart:
    its cost is the sum over its rows of ``1/2 w_Q^T ([F^-1]_QQ)^-1 w_Q``. After its removal, in
    every row, ``w -= F^-1 e_Q ([F^-1]_QQ)^-1 w_Q`` and
    ``F^-1 -= F^-1 e_Q ([F^-1]_QQ)^-1 e_Q^T F^-1``.

    Args:
        inverse: F^-1, float64 [n, R, B, B].
        w: weights [n, R, B].
        gone: bool [n, B / columns], groups that are not there any more.
        columns: weights of a group in a row.
        cell: ``(M, most)``: of every M consecutive groups at most so many are removed in the end,
            those gone included.

    Returns:
        [n, B / columns]: the highest cost met until the group was removed, so that a threshold
        takes groups in the order of removal; ``inf`` for groups that must stay, ``-inf`` for those gone.
    """
    n, _, size = w.shape
    groups = size // columns
    inverse, w = inverse.clone(), w.clone()
    infinite = float("inf")
    scores = torch.full((n, groups), infinite, dtype=w.dtype, device=w.device)
    level = torch.zeros(n, dtype=w.dtype, device=w.device)
    closed = gone.clone()
    for _ in range(groups):
        cost = _costs(inverse, w, columns).masked_fill_(closed, infinite)
        if cell is not None:
            # Groups that are closed are gone or removed; a cell that is used up closes whole.
            full = closed.view(n, -1, cell[0]).sum(dim=-1) >= cell[1]
            cost.masked_fill_(full.repeat_interleave(cell[0], dim=1), infinite)
        lowest, index = cost.min(dim=1, keepdim=True)
        going = lowest < infinite
        if not bool(going.any()):
            break
        level = torch.maximum(level, torch.where(going.squeeze(1), lowest.squeeze(1), level))
        scores.scatter_(1, index, torch.where(going, level.unsqueeze(1), scores.gather(1, index)))
        closed.scatter_(1, index, going | closed.gather(1, index))
        # Blocks with nothing left to remove are computed with the others; their scores do not change.
        _remove(inverse, w, index.squeeze(1), columns)
    return scores.masked_fill_(gone, -infinite)


def cell_scores(inverse: Tensor, w: Tensor, gone: Tensor, *, keep: int, of: int) -> Tensor:
    """Costs for N:M: of every ``of`` consecutive weights the best ``of - keep`` to remove *together*.

    Every subset Q of a cell is scored by ``1/2 w_Q^T ([F^-1]_QQ)^-1 w_Q`` and the cheapest taken
    (for very large cells the greedy choice). Inside it, weights are ordered by greedy removal.

    Args:
        inverse: F^-1, float64 [n, B, B]; B is a multiple of ``of``.
        w: weights [n, B].
        gone: bool [n, B].
        keep: N.
        of: M.

    Returns:
        [n, B] as :func:`greedy_scores`.
    """
    n, size = w.shape
    cells, removed = size // of, of - keep
    tiles = inverse.reshape(n, cells, of, cells, of).diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2)
    tiles = tiles.reshape(n * cells, of, of)
    w_cells, gone_cells = w.reshape(n * cells, of), gone.reshape(n * cells, of)
    if comb(of, removed) > _MOST_SUBSETS:
        scores = greedy_scores(tiles.unsqueeze(1), w_cells.unsqueeze(1), gone_cells, cell=(of, removed))
        return scores.reshape(n, size)
    subsets = torch.combinations(torch.arange(of, device=w.device), removed)
    best = subsets[_subset_costs(tiles, w_cells, subsets).argmin(dim=1)]  # [n * cells, removed]
    rows = tiles.gather(1, best.unsqueeze(-1).expand(-1, -1, of))
    chosen = rows.gather(2, best.unsqueeze(1).expand(-1, removed, -1))
    order = greedy_scores(
        chosen.unsqueeze(1), w_cells.gather(1, best).unsqueeze(1), gone_cells.gather(1, best)
    )
    scores = torch.full_like(w_cells, float("inf")).scatter_(1, best, order)
    return scores.masked_fill_(gone_cells, -float("inf")).reshape(n, size)


def _costs(inverse: Tensor, w: Tensor, columns: int) -> Tensor:
    """Cost of every group alone, [n, B / columns]."""
    if columns == 1:
        return (0.5 * w.square() / inverse.diagonal(dim1=-2, dim2=-1)).sum(dim=1)
    n, rows, size = w.shape
    w_q = w.reshape(n * rows, -1, columns)
    multipliers = solve_groups(inverse.reshape(n * rows, size, size), w_q)
    return 0.5 * (w_q * multipliers).sum(dim=-1).reshape(n, rows, -1).sum(dim=1)


def _remove(inverse: Tensor, w: Tensor, group: Tensor, columns: int) -> None:
    """Take group number ``group`` [n] out of F^-1 and w, in place; its rows become the identity's."""
    n, rows, size = w.shape
    index = group.unsqueeze(1) * columns + torch.arange(columns, device=w.device)  # [n, C]
    across = index[:, None, None, :].expand(n, rows, size, columns)
    taken = inverse.gather(3, across)  # F^-1 e_Q
    block = taken.gather(2, index[:, None, :, None].expand(n, rows, columns, columns))
    w_q = w.gather(2, index[:, None, :].expand(n, rows, columns))
    if columns == 1:
        solved, multipliers = taken / block, w_q / block.squeeze(-1)
    else:
        solved = torch.linalg.solve(block, taken.transpose(2, 3)).transpose(2, 3)
        multipliers = torch.linalg.solve(block, w_q.unsqueeze(-1)).squeeze(-1)
    w.sub_((taken * multipliers.unsqueeze(2)).sum(dim=-1))
    if columns == 1:
        inverse.addcmul_(solved, taken.transpose(2, 3), value=-1.0)
    else:
        inverse.sub_(solved @ taken.transpose(2, 3))
    w.scatter_(2, index[:, None, :].expand(n, rows, columns), 0.0)
    inverse.scatter_(3, across, 0.0)
    inverse.scatter_(2, across.transpose(2, 3), 0.0)
    inverse.diagonal(dim1=-2, dim2=-1).scatter_(2, index[:, None, :].expand(n, rows, columns), 1.0)


def _subset_costs(tiles: Tensor, w: Tensor, subsets: Tensor) -> Tensor:
    """``1/2 w_Q^T A_QQ^-1 w_Q`` of every subset Q, [n, S].

    A Cholesky factorization written out over the few entries of a subset: elementwise operations on
    [n, S], where a batched LAPACK call would spend its time on calling.

    Args:
        tiles: A, [n, M, M], symmetric positive definite.
        w: [n, M].
        subsets: [S, k], indices below M.
    """
    size = subsets.shape[1]
    lower: Dict[Tuple[int, int], Tensor] = {}
    solution: List[Tensor] = []
    tiny = torch.finfo(tiles.dtype).tiny
    for i in range(size):
        for j in range(i + 1):
            entry = tiles[:, subsets[:, i], subsets[:, j]]
            for k in range(j):
                entry = entry - lower[i, k] * lower[j, k]
            lower[i, j] = entry.clamp_min(tiny).sqrt() if i == j else entry / lower[j, j]
        right = w[:, subsets[:, i]]
        for j in range(i):
            right = right - lower[i, j] * solution[j]
        solution.append(right / lower[i, i])
    total = solution[0].square()
    for value in solution[1:]:
        total = total + value.square()
    return 0.5 * total
