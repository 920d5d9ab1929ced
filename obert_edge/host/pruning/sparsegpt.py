"""SparseGPT: each layer's output is kept, column by column (Frantar & Alistarh 2023, arXiv 2301.00774)."""

from __future__ import annotations

from typing import Any, ClassVar, List, Tuple

import torch
from torch import Tensor

from obert_edge.errors import UsageError
from obert_edge.host.pruning.criteria import SparseGPTOptions
from obert_edge.host.pruning.layerwise import LayerWise
from obert_edge.host.pruning.masks import select
from obert_edge.host.pruning.patterns import Pattern
from obert_edge.host.pruning.solve import factor

# Columns whose mask is chosen together (section 3.2 of the paper).
_COLUMNS = 128


class SparseGPT(LayerWise):
    """Layer-wise reconstruction, column by column (Frantar & Alistarh 2023, arXiv 2301.00774).

    With ``H = X^T X`` over the inputs and ``H^-1 = U^T U`` (U upper triangular), columns are
    gone through from the left: a removed weight ``w_j`` moves the weights to its right by
    ``- w_j / U_jj * U_j``. The mask of every 128 columns is chosen when they are reached, by
    ``w_j^2 / U_jj^2`` (summed over a group), one threshold for all rows. N:M chooses when a cell of M
    columns is reached, and always removes as many as the pattern allows.

    Args:
        options: those of :class:`~obert_edge.host.pruning.criteria.SparseGPTOptions`.

    Raises:
        UsageError: an option is out of range.
    """

    name: ClassVar[str] = "sparsegpt"
    default_scope: ClassVar[str] = "layer"

    def __init__(self, **options: Any) -> None:
        self.options = SparseGPTOptions(**options)

    def _check(self, pattern: Pattern, sparsity: float) -> None:
        super()._check(pattern, sparsity)
        most = pattern.max_sparsity
        if pattern.of is not None and sparsity < most - 1e-9:
            raise UsageError(
                f"method sparsegpt prunes pattern {pattern} to {most:.1%}, not to {sparsity:.1%}",
                hint=f"use sparsity {pattern.max_sparsity:g}",
            )
        if pattern.columns > _COLUMNS:
            raise UsageError(
                f"pattern {pattern} is wider than the {_COLUMNS} columns whose mask is chosen at once",
                hint="use a narrower block",
            )

    def _statistic(self, inputs: Tensor) -> Tensor:
        return inputs.T @ inputs

    def _remove(
        self, weight: Tensor, kept: Tensor, mean: Tensor, pattern: Pattern, sparsity: float, scope: str
    ) -> Tuple[Tensor, Tensor]:
        hessian = mean.double()
        hessian.diagonal().add_(self.options.hessian_dampening * float(hessian.diagonal().mean()))
        inverse = torch.cholesky_inverse(factor(hessian.unsqueeze(0)))
        upper = factor(inverse)[0].T
        w, kept = weight.double(), kept.clone()
        width = pattern.of or _COLUMNS // pattern.columns * pattern.columns
        errors: List[Tensor] = []
        for start in range(0, w.shape[1], width):
            stop = min(start + width, w.shape[1])
            span = slice(start, stop)
            scores = pattern.group(w[:, span].square() / upper.diagonal()[span].square()).float()
            scores = scores.masked_fill(pattern.group(kept[:, span].int()) == 0, -float("inf"))
            removed = select({"": scores}, pattern=pattern, sparsity=sparsity, scope=scope)[""]
            kept[:, span] &= ~pattern.expand(removed).to(kept.device)
            errors.clear()
            for j in range(start, stop):
                # What was pruned before may have been moved since: it is removed again.
                error = w[:, j].masked_fill(kept[:, j], 0.0) / upper[j, j]
                w[:, j:stop] -= error.unsqueeze(1) * upper[j, j:stop]
                errors.append(error)
            w[:, stop:] -= torch.stack(errors, dim=1) @ upper[span, stop:]
        return w, kept
