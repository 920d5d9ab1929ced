"""Soft movement pruning (Sanh et al. 2020, arXiv 2005.07683): scores are trained, weights may come back."""

from __future__ import annotations

from typing import Any, ClassVar, Dict, Mapping, Tuple

import torch
from torch import Tensor, nn

from obert_edge.host.pruning.criteria import SoftMovementOptions
from obert_edge.host.pruning.masks import Masks, select
from obert_edge.host.pruning.movement import Movement
from obert_edge.host.pruning.patterns import Pattern


class SoftMovement(Movement):
    """Soft movement pruning: scores are trained, and what was removed may come back.

    Scores S are trained beside the weights, with Adam: the gradient of the masked weight
    passes straight through to the mask, ``dL/dS = dL/dw' * w``, pruned weights included (they keep
    the value they had), and a penalty on ``sigmoid(S)`` draws all scores down. What is below the
    threshold of ``sigmoid(S)`` goes. The paper fixes the threshold and lets the penalty decide the
    sparsity; here the threshold is where the schedule's sparsity is met, so that every method has the
    same budget, and masks change at the schedule's pruning steps. Zeros of the checkpoint stay.

    Args:
        options: those of :class:`~obert_edge.host.pruning.criteria.SoftMovementOptions`.

    Raises:
        UsageError: an option is out of range.
    """

    name: ClassVar[str] = "soft-movement"
    betas: ClassVar[Tuple[float, float]] = (0.9, 0.999)

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = SoftMovementOptions(**options)
        self._first: Dict[str, Tensor] = {}
        self._second: Dict[str, Tensor] = {}
        self._passes: Dict[str, Tensor] = {}
        # The values of weights this criterion has removed; zero elsewhere.
        self._removed: Dict[str, Tensor] = {}

    def _parts(self) -> Dict[str, Dict[str, Tensor]]:
        return {
            "scores": self._scores,
            "first": self._first,
            "second": self._second,
            "passes": self._passes,
            "removed": self._removed,
        }

    def state(self) -> Dict[str, Tensor]:
        """Scores, Adam's moments, and the values of removed weights."""
        return {
            f"{kind}.{name}": value for kind, part in self._parts().items() for name, value in part.items()
        }

    def _learn(self, name: str, gradient: Tensor, weight: nn.Parameter) -> None:
        if name not in self._scores:
            for part in (self._scores, self._first, self._second):
                part[name] = torch.zeros_like(gradient)
            self._passes[name] = torch.zeros(())
        value = weight.detach().float()
        if name in self._removed:
            value = value + self._removed[name]
        score = self._scores[name]
        squashed = score.sigmoid()
        slope = gradient * value + self.options.score_penalty * squashed * (1.0 - squashed)
        passes = self._passes[name].add_(1.0)
        first = self._first[name].lerp_(slope, 1.0 - self.betas[0])
        second = self._second[name].lerp_(slope.square(), 1.0 - self.betas[1])
        step = self.options.score_learning_rate / (1.0 - self.betas[0] ** float(passes))
        spread = (second / (1.0 - self.betas[1] ** float(passes))).sqrt_().add_(1e-8)
        score.addcdiv_(first, spread, value=-step)

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
        scores, theirs = {}, {}
        for name, mask in masks.items():
            weight = weights[name].detach()
            mine = self._removed.setdefault(name, torch.zeros_like(weight, dtype=torch.float32))
            theirs[name] = ~mask.to(weight.device) & (mine == 0)
            gone = pattern.group((~theirs[name]).int()) == 0
            scores[name] = pattern.group(found[name].sigmoid()).masked_fill(gone, -float("inf"))
        for name, removed in select(scores, pattern=pattern, sparsity=sparsity, scope=scope).items():
            weight, mine = weights[name], self._removed[name]
            kept = ~pattern.expand(removed).to(weight.device) & ~theirs[name]
            with torch.no_grad():
                weight.add_(mine.to(weight.dtype))  # every weight's own value, removed or not
                mine.copy_(weight.masked_fill(kept, 0.0))
            masks.replace(name, kept.to(masks[name].device))
