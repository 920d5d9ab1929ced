"""One removal of weights: score, select, update, as often as asked, with one Fisher matrix."""

from __future__ import annotations

import time
from typing import Dict, Iterator, List, Optional, Tuple

import torch
from torch import Tensor, nn

from obert_edge.pruning.criterion import Progress
from obert_edge.pruning.fisher import BlockFisher
from obert_edge.pruning.masks import Masks, select
from obert_edge.pruning.patterns import Pattern
from obert_edge.pruning.solve import factor, group_saliency, joint_update, restrict, separate_update

# Working memory of one batched solve: large enough to amortise a call, small enough to stay in the
# cache of a small CPU (four times as much doubled the time to assemble the blocks). A GPU needs more
# to be busy.
_SOLVE_BYTES = {"cpu": 16 << 20, "cuda": 512 << 20}


class Operation:
    """The removal of weights with a given Fisher matrix, in one or more parts.

    Args:
        weights: parameters [out, in] by module path, changed in place.
        masks: what is kept, changed in place.
        fishers: Fisher blocks of every weight, at its present value.
        pattern: shape of what is removed.
        scope: see :func:`obert_edge.pruning.masks.select`.
        solver: "joint" or "paper".
        dampening: lambda.
        relative: lambda is relative to the mean diagonal of each matrix's Fisher blocks.
        progress: told about the work done.
    """

    def __init__(
        self,
        weights: Dict[str, nn.Parameter],
        masks: Masks,
        fishers: Dict[str, BlockFisher],
        *,
        pattern: Pattern,
        scope: str,
        solver: str,
        dampening: float,
        relative: bool,
        progress: Optional[Progress] = None,
    ) -> None:
        self._weights = weights
        self._masks = masks
        self._fishers = fishers
        self._pattern = pattern
        self._scope = scope
        self._solver = solver
        self._progress = progress
        self._before = {name: weight.detach().clone() for name, weight in weights.items()}
        self._dampening: Dict[str, float] = {}
        for name, fisher in fishers.items():
            scale = fisher.mean_diagonal() if relative else 1.0
            # A matrix that got no gradient at all has no scale of its own.
            self._dampening[name] = dampening * scale if scale > 0 else dampening

    def run(self, sparsity: float, parts: int, seconds: Dict[str, float]) -> None:
        """Remove weights up to ``sparsity``; saliencies are computed ``parts`` times.

        Args:
            sparsity: share of weights removed in the end.
            parts: the way there is cut into this many parts, each with the saliencies of the
                weights as the part before left them. With the joint solver those are exact: at a
                constrained optimum, removing more is again equation 3 in what is kept.
            seconds: wall time is added to "saliency" (the first) and "update" (the rest).
        """
        started = time.perf_counter()
        scores: Dict[str, Tensor] = {}
        for done, name in enumerate(self._weights, start=1):
            scores[name] = self._process(name)
            self._report("saliency", done, len(self._weights))
        scored = time.perf_counter()
        for index, target in enumerate(waypoints(self._masks.sparsity, sparsity, parts), start=1):
            removed = select(scores, pattern=self._pattern, sparsity=target, scope=self._scope)
            for done, name in enumerate(self._weights, start=1):
                scores[name] = self._process(name, removed[name], scoring=index < parts)
                self._report("update", (index - 1) * len(scores) + done, parts * len(scores))
        seconds["saliency"] += scored - started
        seconds["update"] += time.perf_counter() - scored

    def loss_increase(self) -> float:
        """``1/2 dw^T F dw`` of everything done so far (equation 1)."""
        total = 0.0
        for name, fisher in self._fishers.items():
            moved = self._weights[name].detach().double() - self._before[name].double()
            change = fisher.layout.to_blocks(moved)
            for span in self._spans(fisher):
                dw = change[span].unsqueeze(-1).to(fisher.total.device)
                matrix = fisher.matrix(span.start, span.stop, self._dampening[name])
                total += 0.5 * float((dw * (matrix @ dw)).sum())
        return total

    def _process(self, name: str, removed: Optional[Tensor] = None, scoring: bool = True) -> Tensor:
        """Remove groups from one matrix, then score what is left; one pass over its blocks.

        Args:
            name: the module.
            removed: bool [out / rows, in / columns], groups to remove now or already gone; None:
                remove nothing.
            scoring: whether saliencies are wanted.

        Returns:
            What removing each group costs, float [out / rows, in / columns], ``-inf`` where a
            group is gone; empty without ``scoring``.
        """
        layout, mask = self._fishers[name].layout, self._masks[name]
        kept = mask
        if removed is not None:
            kept = mask & ~self._pattern.expand(removed).to(mask.device)
        leaving = layout.to_blocks(mask & ~kept)
        moved: List[Tensor] = []
        scores: List[Tensor] = []
        for span, before, w, matrix in self._blocks(name):
            going = leaving[span].to(before.device)
            now = before & ~going
            lower: Optional[Tensor] = None
            if removed is not None:
                if self._solver == "joint":
                    dw, lower = joint_update(matrix, w, before, going)
                else:
                    dw = separate_update(matrix, w, before, going, self._pattern.columns)
                # Updates bring removed weights to zero only up to rounding, or with the paper's
                # solver not at all.
                w = (w + dw) * now
                moved.append(w)
            if scoring:
                if lower is None:
                    lower = factor(restrict(matrix, now))
                scores.append(group_saliency(torch.cholesky_inverse(lower), w, self._pattern.columns).float())
        if removed is not None:
            weight = self._weights[name]
            with torch.no_grad():
                result = layout.to_matrix(torch.cat(moved)).to(weight.device, weight.dtype)
                weight.copy_(result.masked_fill(~kept.to(weight.device), 0.0))
            self._masks.replace(name, kept)
        if not scoring:
            return torch.empty(0)
        return self._by_group(layout.to_matrix(torch.cat(scores), self._pattern.columns), kept)

    def _by_group(self, scores: Tensor, kept: Tensor) -> Tensor:
        """Saliencies of groups from those of their rows."""
        # A group of several rows lies in as many Fisher blocks, between which F is zero:
        # its saliency is the sum of its rows'.
        rows = self._pattern.rows
        scores = scores.reshape(scores.shape[0] // rows, rows, -1).sum(dim=1)
        gone = self._pattern.group(kept.int()) == 0
        return scores.masked_fill(gone.to(scores.device), float("-inf"))

    def _blocks(self, name: str) -> Iterator[Tuple[slice, Tensor, Tensor, Tensor]]:
        """Spans of blocks: which, kept (bool [n, B]), weights (float64 [n, B]), F (float64 [n, B, B])."""
        fisher = self._fishers[name]
        device = self._weights[name].device
        kept = fisher.layout.to_blocks(self._masks[name])
        weights = fisher.layout.to_blocks(self._weights[name].detach())
        for span in self._spans(fisher):
            matrix = fisher.matrix(span.start, span.stop, self._dampening[name])
            yield span, kept[span].to(device), weights[span].double(), matrix.to(device)

    def _spans(self, fisher: BlockFisher) -> Iterator[slice]:
        size = fisher.layout.block_size
        memory = _SOLVE_BYTES.get(fisher.total.device.type, _SOLVE_BYTES["cpu"])
        length = max(1, memory // (4 * 8 * size * size))  # about four float64 copies at once
        for start in range(0, fisher.layout.blocks, length):
            yield slice(start, min(start + length, fisher.layout.blocks))

    def _report(self, stage: str, done: int, total: int) -> None:
        if self._progress is not None:
            self._progress(stage, done, total)


def waypoints(start: float, end: float, parts: int) -> List[float]:
    """Sparsities on the way from ``start`` to ``end``: each part removes the same share of what is left."""
    ratio = (1.0 - end) / (1.0 - start)
    return [1.0 - (1.0 - start) * ratio ** (i / parts) for i in range(1, parts)] + [end]
