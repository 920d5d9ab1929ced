"""Wanda: what is small and meets small inputs goes (Sun et al. 2023, arXiv 2306.11695)."""

from __future__ import annotations

from typing import ClassVar, Tuple

from torch import Tensor

from obert_edge.host.pruning.layerwise import LayerWise
from obert_edge.host.pruning.masks import select
from obert_edge.host.pruning.patterns import Pattern


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
