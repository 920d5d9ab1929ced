"""Batched algebra over Fisher blocks: saliencies, updates, and the factor they share.

Shapes: a batch of n blocks of B weights has matrices float64 [n, B, B], weights float64 [n, B] and masks
bool [n, B]. Notation as in :mod:`obert_edge.host.pruning.surgeon`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from obert_edge.errors import ObertEdgeError


def saliency(lower: Tensor, w: Tensor, columns: int) -> Tensor:
    """What removing each group of ``columns`` consecutive weights alone costs, [n, B / columns].

    Equation 3: ``rho_Q = 1/2 (E_Q w)^T (E_Q F^-1 E_Q^T)^-1 (E_Q w)``, which for a single weight is
    OBS, ``rho_j = w_j^2 / (2 [F^-1]_jj)``.

    Args:
        lower: Cholesky factor of F.
        w: weights.
        columns: weights in a group.
    """
    if columns == 1:
        return 0.5 * w.square() / inverse_diagonal(lower)
    w_q = w.reshape(w.shape[0], -1, columns)
    return 0.5 * (w_q * solve_groups(torch.cholesky_inverse(lower), w_q)).sum(dim=-1)


def inverse_diagonal(lower: Tensor) -> Tensor:
    """The diagonal of F^-1, [n, B], from the Cholesky factor of F.

    ``F^-1 = L^-T L^-1``, so it is the sums of squares of the columns of ``L^-1``: half the work of
    the whole inverse.
    """
    identity = torch.eye(lower.shape[-1], dtype=lower.dtype, device=lower.device)
    half = torch.linalg.solve_triangular(lower, identity.expand_as(lower), upper=False)
    norms: Tensor = torch.linalg.vector_norm(half, dim=1)
    return norms.square_()


def joint_update(matrix: Tensor, w: Tensor, before: Tensor, leaving: Tensor) -> Tensor:
    """All weights that leave a Fisher block solved together.

    With P the removed and K the kept weights of the block, ``min 1/2 dw^T F dw`` subject to
    ``dw_P = -w_P`` is ``dw_K = F_KK^-1 F_KP w_P``, which equals
    ``dw = -F^-1 E_P^T (E_P F^-1 E_P^T)^-1 E_P w`` without inverting twice.

    Blocks keep different numbers of weights. Kept ones are moved to the front, and the systems cut to
    the largest number of the batch, filled up with the identity: at 70 % sparsity an eighth of the work.

    Args:
        matrix: F.
        w: weights; zero where removed before.
        before: what was kept so far.
        leaving: what is removed now, a subset of ``before``.

    Returns:
        dw.
    """
    kept = before & ~leaving
    w_p = (w * leaving).unsqueeze(-1)
    pull = (matrix @ w_p).squeeze(-1)
    most = int(kept.sum(dim=1).max())
    if most == 0:
        return -w_p.squeeze(-1)
    front = kept.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :most]
    there = kept.gather(1, front)
    places = front.unsqueeze(2) * matrix.shape[2] + front.unsqueeze(1)
    cut = matrix.flatten(1).gather(1, places.flatten(1)).view_as(places)
    lower = factor(restrict(cut, there))
    answer = torch.cholesky_solve((pull.gather(1, front) * there).unsqueeze(-1), lower).squeeze(-1)
    return torch.zeros_like(w).scatter_(1, front, answer) - w_p.squeeze(-1)


def separate_update(matrix: Tensor, w: Tensor, before: Tensor, leaving: Tensor, columns: int) -> Tensor:
    """Each group as if it were removed alone, summed (paper section 3.2.1).

    ``dw = - sum_Q F^-1 E_Q^T (E_Q F^-1 E_Q^T)^-1 E_Q w``. Arguments as in :func:`joint_update`;
    removed weights do not end at zero where several groups leave a block: set them to zero.
    """
    inverse = torch.cholesky_inverse(factor(restrict(matrix, before)))
    w_q = (w * leaving).reshape(w.shape[0], -1, columns)
    multipliers = solve_groups(inverse, w_q).reshape(w.shape)
    return -(inverse @ multipliers.unsqueeze(-1)).squeeze(-1) * before


def solve_groups(inverse: Tensor, w_q: Tensor) -> Tensor:
    """``(E_Q F^-1 E_Q^T)^-1 E_Q w`` for groups of consecutive weights.

    Args:
        inverse: F^-1, [n, B, B].
        w_q: weights by group, [n, B / columns, columns].
    """
    n, groups, columns = w_q.shape
    if columns == 1:
        return w_q / inverse.diagonal(dim1=-2, dim2=-1).unsqueeze(-1)
    tiles = inverse.reshape(n, groups, columns, groups, columns)
    diagonal = tiles.diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2)  # [n, groups, columns, columns]
    multipliers: Tensor = torch.linalg.solve(diagonal, w_q.unsqueeze(-1)).squeeze(-1)
    return multipliers


def restrict(matrix: Tensor, kept: Tensor) -> Tensor:
    """Replace rows and columns of weights that are not kept by those of the identity."""
    if bool(kept.all()):
        return matrix
    k = kept.to(matrix.dtype)
    restricted = matrix * k.unsqueeze(-1)
    restricted.mul_(k.unsqueeze(-2))
    restricted.diagonal(dim1=-2, dim2=-1).add_(1.0 - k)
    return restricted


def factor(matrix: Tensor) -> Tensor:
    """Batched Cholesky factor of symmetric positive definite blocks [n, B, B].

    Sums of outer products carry float32 rounding, which can outweigh a tiny dampening where
    gradients are large. Blocks that are not positive definite get just enough more dampening,
    starting at that rounding's size.

    Raises:
        ObertEdgeError: a block has values that are not finite.
    """
    # Of row-major blocks the upper factor is the cheaper one: LAPACK reads them as their transposes.
    upper, info = torch.linalg.cholesky_ex(matrix, upper=True)
    lower: Tensor = upper.mT
    failed = info.nonzero().flatten()
    extra = torch.finfo(torch.float32).eps
    while len(failed):
        if extra > 1.0:
            raise ObertEdgeError(
                f"{len(failed)} Fisher blocks are not positive definite",
                hint="raise the dampening, or look for gradients that are not finite",
            )
        block = matrix[failed].clone()
        diagonal = block.diagonal(dim1=-2, dim2=-1)
        diagonal.add_(extra * diagonal.abs().amax(dim=-1, keepdim=True))
        again, info = torch.linalg.cholesky_ex(block)
        lower[failed] = again
        failed = failed[info.nonzero().flatten()]
        extra *= 10.0
    return lower
