"""Magnitude pruning: what is small goes, and nothing else moves (Zhu & Gupta 2017 when gradual)."""

from __future__ import annotations

import time
from typing import ClassVar, Dict, Iterable, Optional

import torch
from torch import Tensor, nn

from obert_edge.host.pruning.criterion import (
    Batch,
    Criterion,
    LossFunction,
    PruningReport,
    layer_sparsities,
)
from obert_edge.host.pruning.masks import Masks, check_sparsity, prunable_weights, select
from obert_edge.host.pruning.patterns import Pattern
from obert_edge.progress import Progress


class Magnitude(Criterion):
    """A group's score is the sum of the squares of its weights.

    That is the surgeon's saliency with the identity for the Fisher matrix, so the two criteria
    differ in nothing but the matrix.
    """

    name: ClassVar[str] = "magnitude"

    @property
    def needs_batches(self) -> bool:
        """Weights are all it looks at."""
        return False

    def prune(
        self,
        model: nn.Module,
        masks: Masks,
        *,
        sparsity: float,
        pattern: Pattern,
        scope: str = "global",
        batches: Optional[Iterable[Batch]] = None,
        loss_fn: Optional[LossFunction] = None,
        progress: Optional[Progress] = None,
    ) -> PruningReport:
        """See :meth:`obert_edge.host.pruning.criterion.Criterion.prune`; gradients are not used."""
        check_sparsity(sparsity, pattern)
        started = time.perf_counter()
        weights = prunable_weights(model)
        scores: Dict[str, Tensor] = {}
        for done, (name, mask) in enumerate(masks.items(), start=1):
            weight = weights[name].detach()
            pattern.check(name, tuple(weight.shape))
            score = pattern.group((weight.float() * mask.to(weight.device)).square())
            gone = pattern.group(mask.int()) == 0
            scores[name] = score.masked_fill(gone.to(score.device), float("-inf"))
            if progress is not None:
                progress("saliency", done, len(masks))
        with torch.no_grad():
            for name, removed in select(scores, pattern=pattern, sparsity=sparsity, scope=scope).items():
                mask = masks[name]
                masks.replace(name, mask & ~pattern.expand(removed).to(mask.device))
        masks.apply(model)
        return PruningReport(
            criterion=self.name,
            pattern=str(pattern),
            target=sparsity,
            layers=layer_sparsities(masks),
            seconds={"saliency": time.perf_counter() - started},
        )
