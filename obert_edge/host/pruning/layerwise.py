"""What criteria share that prune encoder layer after encoder layer, by the inputs of each."""

from __future__ import annotations

import time
from abc import abstractmethod
from typing import ClassVar, Iterable, Optional, Tuple

import torch
from torch import Tensor, nn

from obert_edge.errors import UsageError
from obert_edge.host.pruning.criterion import (
    Batch,
    Criterion,
    LossFunction,
    PruningReport,
    layer_sparsities,
)
from obert_edge.host.pruning.inputs import by_encoder_layer, input_sums
from obert_edge.host.pruning.masks import Masks, check_sparsity, prunable_weights
from obert_edge.host.pruning.patterns import Pattern
from obert_edge.progress import Progress


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
