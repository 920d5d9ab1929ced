"""Post-training baselines that look at the inputs of each layer: Wanda and SparseGPT."""

from __future__ import annotations

import time
from abc import abstractmethod
from typing import ClassVar, Iterable, List, Optional, Tuple

import torch
from torch import Tensor, nn

from obert_edge.errors import UsageError
from obert_edge.host.pruning.criterion import (
    Batch,
    Criterion,
    LossFunction,
    Progress,
    PruningReport,
    layer_sparsities,
)
from obert_edge.host.pruning.inputs import by_encoder_layer, input_sums
from obert_edge.host.pruning.masks import Masks, check_sparsity, prunable_weights, select
from obert_edge.host.pruning.patterns import Pattern
from obert_edge.host.pruning.solve import factor

# Columns whose mask SparseGPT chooses together (section 3.2 of its paper).
_COLUMNS = 128


class LayerWise(Criterion):
    """Encoder layer after encoder layer, each with the inputs that the pruned ones before give it."""

    scopes: ClassVar[Tuple[str, ...]] = ("row", "layer")

    def prune(
        self,
        model: nn.Module,
        masks: Masks,
        *,
        sparsity: float,
        pattern: Pattern,
        scope: str = "row",
        batches: Optional[Iterable[Batch]] = None,
        loss_fn: Optional[LossFunction] = None,
        progress: Optional[Progress] = None,
    ) -> PruningReport:
        """See :meth:`obert_edge.host.pruning.criterion.Criterion.prune`; labels and loss are not used."""
        if scope not in self.scopes:
            raise UsageError(
                f'method {self.name} with scope "{scope}": its scores do not compare across layers',
                hint=f"use scope {' or '.join(self.scopes)}",
            )
        weights = prunable_weights(model)
        for name in masks:
            pattern.check(name, tuple(weights[name].shape))
        self._check(pattern, sparsity)
        started = time.perf_counter()
        held = list(batches or [])
        masks.apply(model)
        if masks.sparsity < sparsity:
            for names in by_encoder_layer(masks):
                sums = input_sums(model, held, names, self._statistic, progress)
                for name in names:
                    weight = weights[name]
                    with torch.no_grad():
                        result, kept = self._remove(
                            weight.detach(),
                            masks[name].to(weight.device),
                            sums[name],
                            pattern,
                            sparsity,
                            scope,
                        )
                        weight.copy_(result.to(weight.dtype).masked_fill(~kept, 0.0))
                    masks.replace(name, kept.to(masks[name].device))
        return PruningReport(
            criterion=self.name,
            pattern=str(pattern),
            target=sparsity,
            layers=layer_sparsities(masks),
            seconds={"all": time.perf_counter() - started},
        )

    def _check(self, pattern: Pattern, sparsity: float) -> None:
        """Refuse what the method cannot do.

        Raises:
            UsageError: it cannot.
        """
        check_sparsity(sparsity, pattern)

    @abstractmethod
    def _statistic(self, inputs: Tensor) -> Tensor:
        """What is needed to know of inputs [tokens, in], summed over tokens."""

    @abstractmethod
    def _remove(
        self, weight: Tensor, kept: Tensor, mean: Tensor, pattern: Pattern, sparsity: float, scope: str
    ) -> Tuple[Tensor, Tensor]:
        """New weights [out, in] and mask of one matrix, given the mean of the statistic over tokens."""


class Wanda(LayerWise):
    """``|w_ij| * ||x_j||`` (Sun et al. 2023, arXiv 2306.11695), no update of what stays.

    The score of a group is the sum of squares of its weights' scores. By default every output
    unit (or group of as many as a block has) gets the same sparsity, as in its paper.
    """

    name: ClassVar[str] = "wanda"
    default_scope: ClassVar[str] = "row"

    def _statistic(self, inputs: Tensor) -> Tensor:
        return inputs.square().sum(dim=0)

    def _remove(
        self, weight: Tensor, kept: Tensor, mean: Tensor, pattern: Pattern, sparsity: float, scope: str
    ) -> Tuple[Tensor, Tensor]:
        scores = pattern.group(weight.float().square() * mean)
        scores = scores.masked_fill(pattern.group(kept.int()) == 0, -float("inf"))
        removed = select({"": scores}, pattern=pattern, sparsity=sparsity, scope=scope)[""]
        return weight, kept & ~pattern.expand(removed).to(kept.device)


class SparseGPT(LayerWise):
    """Layer-wise reconstruction, column by column (Frantar & Alistarh 2023, arXiv 2301.00774).

    With ``H = X^T X`` over the inputs and ``H^-1 = U^T U`` (U upper triangular), columns are
    gone through from the left: a removed weight ``w_j`` moves the weights to its right by
    ``- w_j / U_jj * U_j``. The mask of every 128 columns is chosen when they are reached, by
    ``w_j^2 / U_jj^2`` (summed over a group), one threshold for all rows. N:M chooses when a cell of M
    columns is reached, and always removes as many as the pattern allows.

    Args:
        dampening: added to the diagonal of H, relative to its mean.
    """

    name: ClassVar[str] = "sparsegpt"
    default_scope: ClassVar[str] = "layer"

    def __init__(self, *, dampening: float = 0.01) -> None:
        if not dampening > 0:
            raise UsageError(f"dampening is {dampening}", hint="use a value above 0, such as 0.01")
        self.dampening = dampening

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
        hessian.diagonal().add_(self.dampening * float(hessian.diagonal().mean()))
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
