"""Movement pruning (Sanh et al. 2020, arXiv 2005.07683): what training pushes toward zero goes."""

from __future__ import annotations

import time
from typing import Callable, ClassVar, Dict, Iterable, List, Mapping, Optional

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from obert_edge.errors import CheckpointError
from obert_edge.host.pruning.criterion import (
    Batch,
    Criterion,
    LossFunction,
    PruningReport,
    layer_sparsities,
)
from obert_edge.host.pruning.gradients import GradientSampler
from obert_edge.host.pruning.masks import Masks, check_sparsity, prunable_weights, select
from obert_edge.host.pruning.patterns import Pattern
from obert_edge.host.pruning.sharding import average
from obert_edge.progress import Progress


class Movement(Criterion):
    """A weight's score is ``S = - sum_t (dL/dw) * w`` over the backward passes of training.

    It is high where training moves the weight away from zero. Removed weights stay removed, as with
    every criterion here. Before any training (in one shot, or where the first pruning step is
    before the first training step) the sum is over the given batches at fixed weights.

    The scores are learned in the backward passes, gradients unclipped; under data-parallel training
    every process has those of its own batches, and they are averaged when pruning.
    """

    name: ClassVar[str] = "movement"

    def __init__(self) -> None:
        self._scores: Dict[str, Tensor] = {}

    @property
    def needs_batches(self) -> bool:
        """Only before training."""
        return not self._scores

    def watch(self, weights: Mapping[str, nn.Parameter]) -> List[RemovableHandle]:
        """Sum up scores in every backward pass from now on."""

        def hook(name: str, weight: nn.Parameter) -> Callable[[Tensor], None]:
            def learn(gradient: Tensor) -> None:
                with torch.no_grad():
                    self._learn(name, gradient.float(), weight)

            return learn

        return [
            weight.register_hook(hook(name, weight))  # type: ignore[no-untyped-call]
            for name, weight in weights.items()
            if weight.requires_grad
        ]

    def state(self) -> Dict[str, Tensor]:
        """The scores."""
        return {f"scores.{name}": score for name, score in self._scores.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from the scores of a checkpoint.

        Raises:
            CheckpointError: they are of another method.
        """
        parts = self._parts()
        for key, value in state.items():
            kind, _, name = key.partition(".")
            if kind not in parts or not name:
                raise CheckpointError(
                    f"the checkpoint has pruning scores {key!r}, which method {self.name} does not",
                    hint="resume with the method the run began with",
                )
            parts[kind][name] = value.clone()

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
        """See :meth:`obert_edge.host.pruning.criterion.Criterion.prune`."""
        check_sparsity(sparsity, pattern)
        started = time.perf_counter()
        prunable = prunable_weights(model)
        weights = {name: prunable[name] for name in masks}
        for name, weight in weights.items():
            pattern.check(name, tuple(weight.shape))
        masks.apply(model)
        count = 0
        if self._scores:
            # A frozen matrix has no gradients and so learns nothing.
            found = {
                name: self._scores.get(name, torch.zeros_like(weight, dtype=torch.float32))
                for name, weight in weights.items()
            }
        else:
            sampler = GradientSampler(model, list(batches or []), loss_fn)
            count = len(sampler)
            found = _at_fixed_weights(sampler, weights, progress)
        for score in found.values():
            average(score)
        if masks.sparsity < sparsity:
            self._remove(found, weights, masks, pattern=pattern, sparsity=sparsity, scope=scope)
        masks.apply(model)
        return PruningReport(
            criterion=self.name,
            pattern=str(pattern),
            target=sparsity,
            layers=layer_sparsities(masks),
            seconds={"saliency": time.perf_counter() - started},
            gradients=count,
        )

    def _parts(self) -> Dict[str, Dict[str, Tensor]]:
        """What is learned, by kind and module."""
        return {"scores": self._scores}

    def _learn(self, name: str, gradient: Tensor, weight: nn.Parameter) -> None:
        score = self._scores.setdefault(name, torch.zeros_like(gradient))
        score.addcmul_(gradient, weight.detach().float(), value=-1.0)

    def _remove(
        self,
        found: Mapping[str, Tensor],
        weights: Mapping[str, nn.Parameter],
        masks: Masks,
        *,
        pattern: Pattern,
        sparsity: float,
        scope: str,
    ) -> None:
        scores = {}
        for name, mask in masks.items():
            gone = pattern.group(mask.int()) == 0
            scores[name] = pattern.group(found[name]).masked_fill(gone.to(found[name].device), -float("inf"))
        for name, removed in select(scores, pattern=pattern, sparsity=sparsity, scope=scope).items():
            masks.replace(name, masks[name] & ~pattern.expand(removed).to(masks[name].device))


def _at_fixed_weights(
    sampler: GradientSampler, weights: Mapping[str, nn.Parameter], progress: Optional[Progress]
) -> Dict[str, Tensor]:
    """Movement scores of a model that is not being trained."""
    scores = {name: torch.zeros_like(weight, dtype=torch.float32) for name, weight in weights.items()}
    samples = sampler.sample(list(weights.values()))
    for done, gradients in enumerate(samples, start=1):
        for (name, weight), gradient in zip(weights.items(), gradients):
            scores[name].addcmul_(gradient.float(), weight.detach().float(), value=-1.0)
        if progress is not None:
            progress("gradients", done, len(sampler))
    return scores
