"""The optimal BERT surgeon: which weights to remove, and how the others make up for them.

Notation of the paper (Kurtic et al. 2022, section 3): ``w`` weights, ``F`` dampened empirical
Fisher matrix in diagonal blocks, ``Q`` a group of weights removed together, ``E_Q`` the rows of
the identity that select it.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import ClassVar, Dict, Iterable, Iterator, List, Optional, Tuple

import torch
from torch import Tensor, nn

from obert_edge.errors import ObertEdgeError, UsageError
from obert_edge.pruning.criterion import (
    Batch,
    Criterion,
    LossFunction,
    Progress,
    PruningReport,
    layer_sparsities,
)
from obert_edge.pruning.fisher import (
    GRADIENTS_PER_PRODUCT,
    BlockFisher,
    BlockLayout,
    GradientSampler,
    accumulate,
)
from obert_edge.pruning.masks import Masks, check_sparsity, prunable_weights, select
from obert_edge.pruning.patterns import Pattern

# Working memory of one batched solve: large enough to amortise a call, small enough to stay in the
# cache of a small CPU (four times as much doubled the time to assemble the blocks). A GPU needs more
# to be busy.
_SOLVE_BYTES = {"cpu": 16 << 20, "cuda": 512 << 20}


class Surgeon(Criterion):
    """oBERT.

    Args:
        block_size: B, weights in a Fisher block. Cost: ``4 * B`` bytes of memory and
            ``O(m * B)`` time per weight. A multiple of the pattern's inputs per block (IN).
            The paper has 50 for single weights, its code 32 for 1x4.
        dampening: lambda of equation 2.
        relative_dampening: lambda is ``dampening`` times the mean diagonal of the matrix's own
            Fisher, so that it does not depend on the scale of the gradients (their batch size).
        layout: "row" (a Fisher block is consecutive inputs of one output unit) or "flat" (of
            the flattened matrix, the paper's), see :class:`obert_edge.pruning.fisher.BlockLayout`.
        solver: how the kept weights of a Fisher block move. "joint": the exact optimum for all
            weights removed from it. "paper": each group as if it were removed alone, the updates
            summed, which ignores that several groups leave the same block (section 3.2.1).
        rescorings: the step is cut into this many parts; after each, saliencies are computed
            again from the same Fisher matrix at the updated weights, so that groups removed later
            know of those removed before. Costs no gradients.
        recomputations: the step is cut into this many parts, each with gradients and Fisher
            matrix of its own.
        memory_budget: bytes for Fisher blocks and gradients; None: half of what is free. When
            the model needs more, matrices are taken in several passes over the gradients, and
            the Fisher blocks wait in temporary files.

    Raises:
        UsageError: an argument is out of range.
    """

    name: ClassVar[str] = "obert"
    needs_gradients: ClassVar[bool] = True

    def __init__(
        self,
        *,
        block_size: int = 32,
        dampening: float = 1e-7,
        relative_dampening: bool = False,
        layout: str = "row",
        solver: str = "joint",
        rescorings: int = 1,
        recomputations: int = 1,
        memory_budget: Optional[int] = None,
    ) -> None:
        BlockLayout((1, 1), block_size, layout)  # checks both
        if not dampening > 0:
            raise UsageError(f"dampening is {dampening}", hint="use a value above 0, such as 1e-7")
        if solver not in ("joint", "paper"):
            raise UsageError(f'solver is "{solver}"', hint='use "joint" or "paper"')
        for what, value in (("rescorings", rescorings), ("recomputations", recomputations)):
            if value < 1:
                raise UsageError(f"{what} is {value}", hint="use 1 or more")
        self.block_size = block_size
        self.dampening = dampening
        self.relative_dampening = relative_dampening
        self.layout = layout
        self.solver = solver
        self.rescorings = rescorings
        self.recomputations = recomputations
        self.memory_budget = memory_budget

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
        """See :meth:`obert_edge.pruning.criterion.Criterion.prune`."""
        check_sparsity(sparsity, pattern)
        prunable = prunable_weights(model)
        weights = {name: prunable[name] for name in masks}
        for name, weight in weights.items():
            pattern.check(name, tuple(weight.shape))
        if self.block_size % pattern.columns:
            raise UsageError(
                f"a Fisher block of {self.block_size} weights cuts through blocks of pattern {pattern}",
                hint=f"use a block_size that is a multiple of {pattern.columns}",
            )
        masks.apply(model)
        held = list(batches or [])
        sampler = GradientSampler(model, held, loss_fn)
        seconds = {"gradients": 0.0, "saliency": 0.0, "update": 0.0}
        increase = 0.0
        if masks.sparsity < sparsity:
            for target in _waypoints(masks.sparsity, sparsity, self.recomputations):
                with tempfile.TemporaryDirectory(prefix="obert-edge-fisher-") as folder:
                    started = time.perf_counter()
                    fishers = self._fishers(sampler, weights, masks, Path(folder), progress)
                    seconds["gradients"] += time.perf_counter() - started
                    operation = _Operation(self, weights, masks, fishers, pattern, scope, progress)
                    operation.run(target, self.rescorings, seconds)
                    increase += operation.loss_increase()
        return PruningReport(
            criterion=self.name,
            pattern=str(pattern),
            target=sparsity,
            layers=layer_sparsities(masks),
            seconds=seconds,
            gradients=len(held),
            loss_increase=increase,
        )

    def _fishers(
        self,
        sampler: GradientSampler,
        weights: Dict[str, nn.Parameter],
        masks: Masks,
        folder: Path,
        progress: Optional[Progress],
    ) -> Dict[str, BlockFisher]:
        """The Fisher blocks of every matrix, in as many passes as the memory budget asks for."""
        device = next(iter(weights.values())).device
        budget = self.memory_budget if self.memory_budget is not None else _free_bytes(device) // 2
        # Per weight: B floats of Fisher, the waiting gradients, and the one autograd returns.
        per_weight = 4 * (self.block_size + min(GRADIENTS_PER_PRODUCT, len(sampler)) + 1)
        passes: List[List[str]] = [[]]
        used = 0
        for name, weight in weights.items():
            cost = per_weight * weight.numel()
            if passes[-1] and used + cost > budget:
                passes.append([])
                used = 0
            passes[-1].append(name)
            used += cost
        fishers: Dict[str, BlockFisher] = {}
        for index, names in enumerate(passes):
            layouts = {
                name: BlockLayout(
                    (weights[name].shape[0], weights[name].shape[1]), self.block_size, self.layout
                )
                for name in names
            }
            found = accumulate(
                sampler, {name: weights[name] for name in names}, dict(masks), layouts, progress
            )
            if len(passes) > 1:
                for number, fisher in enumerate(found.values()):
                    fisher.offload(folder / f"{index}-{number}.f32")
            fishers.update(found)
        return fishers


class _Operation:
    """One removal of weights with a given Fisher matrix."""

    def __init__(
        self,
        surgeon: Surgeon,
        weights: Dict[str, nn.Parameter],
        masks: Masks,
        fishers: Dict[str, BlockFisher],
        pattern: Pattern,
        scope: str,
        progress: Optional[Progress],
    ) -> None:
        self._surgeon = surgeon
        self._weights = weights
        self._masks = masks
        self._fishers = fishers
        self._pattern = pattern
        self._scope = scope
        self._progress = progress
        self._before = {name: weight.detach().clone() for name, weight in weights.items()}
        self._dampening = {name: self._lambda(fisher) for name, fisher in fishers.items()}

    def run(self, sparsity: float, parts: int, seconds: Dict[str, float]) -> None:
        """Remove weights up to ``sparsity``, computing saliencies ``parts`` times."""
        for index, target in enumerate(_waypoints(self._masks.sparsity, sparsity, parts)):
            started = time.perf_counter()
            scores: Dict[str, Tensor] = {}
            for done, name in enumerate(self._weights, start=1):
                scores[name] = self._saliency(name)
                self._report("saliency", index, parts, done)
            removed = select(scores, pattern=self._pattern, sparsity=target, scope=self._scope)
            scored = time.perf_counter()
            for done, name in enumerate(self._weights, start=1):
                mask = self._masks[name]
                kept = mask & ~self._pattern.expand(removed[name]).to(mask.device)
                self._update(name, kept)
                self._masks.replace(name, kept)
                self._report("update", index, parts, done)
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

    def _saliency(self, name: str) -> Tensor:
        """What removing each group costs: float [out / rows, in / columns], -inf where all is gone."""
        fisher, mask = self._fishers[name], self._masks[name]
        columns = self._pattern.columns
        parts: List[Tensor] = []
        for kept, w, matrix in self._blocks(name):
            inverse = torch.cholesky_inverse(_factor(_restrict(matrix, kept)))
            if columns == 1:
                # OBS: rho_j = w_j^2 / (2 [F^-1]_jj), equation 3 with |Q| = 1
                rho = 0.5 * w.square() / inverse.diagonal(dim1=-2, dim2=-1)
            else:
                # rho_Q = 1/2 (E_Q w)^T (E_Q F^-1 E_Q^T)^-1 (E_Q w)
                w_q = w.reshape(w.shape[0], -1, columns)
                rho = 0.5 * (w_q * _solve_groups(inverse, w_q)).sum(dim=-1)
            parts.append(rho.float())
        scores = fisher.layout.to_matrix(torch.cat(parts), columns)
        # A group of several rows lies in as many Fisher blocks, between which F is zero:
        # its saliency is the sum of its rows'.
        rows = self._pattern.rows
        scores = scores.reshape(scores.shape[0] // rows, rows, -1).sum(dim=1)
        gone = self._pattern.group(mask.int()) == 0
        return scores.masked_fill(gone.to(scores.device), float("-inf"))

    def _update(self, name: str, kept: Tensor) -> None:
        """Remove what ``kept`` does not keep, and move the rest to make up for it."""
        fisher, weight, mask = self._fishers[name], self._weights[name], self._masks[name]
        going = fisher.layout.to_blocks(mask & ~kept)
        moved: List[Tensor] = []
        start = 0
        for before, w, matrix in self._blocks(name):
            leaving = going[start : start + len(w)].to(w.device)
            start += len(w)
            step = _joint_update if self._surgeon.solver == "joint" else _separate_update
            moved.append(w + step(matrix, w, before, leaving, self._pattern.columns))
        result = fisher.layout.to_matrix(torch.cat(moved)).to(weight.device, weight.dtype)
        with torch.no_grad():
            # The surgeon's updates end at zero up to rounding; a removed weight is exactly zero.
            weight.copy_(result.masked_fill(~kept.to(weight.device), 0.0))

    def _blocks(self, name: str) -> Iterator[Tuple[Tensor, Tensor, Tensor]]:
        """Spans of blocks: kept (bool [n, B]), weights (float64 [n, B]), F (float64 [n, B, B])."""
        fisher = self._fishers[name]
        device = self._weights[name].device
        kept = fisher.layout.to_blocks(self._masks[name])
        weights = fisher.layout.to_blocks(self._weights[name].detach())
        for span in self._spans(fisher):
            matrix = fisher.matrix(span.start, span.stop, self._dampening[name])
            yield kept[span].to(device), weights[span].double(), matrix.to(device)

    def _spans(self, fisher: BlockFisher) -> Iterator[slice]:
        size = fisher.layout.block_size
        memory = _SOLVE_BYTES.get(fisher.total.device.type, _SOLVE_BYTES["cpu"])
        length = max(1, memory // (4 * 8 * size * size))  # about four float64 copies at once
        for start in range(0, fisher.layout.blocks, length):
            yield slice(start, min(start + length, fisher.layout.blocks))

    def _lambda(self, fisher: BlockFisher) -> float:
        dampening = self._surgeon.dampening
        # A matrix that got no gradient at all has no scale of its own.
        scale = fisher.mean_diagonal() if self._surgeon.relative_dampening else 1.0
        return dampening * scale if scale > 0 else dampening

    def _report(self, stage: str, index: int, parts: int, done: int) -> None:
        if self._progress is not None:
            count = len(self._weights)
            self._progress(stage, index * count + done, parts * count)


def _joint_update(matrix: Tensor, w: Tensor, before: Tensor, leaving: Tensor, _columns: int) -> Tensor:
    """All weights that leave a Fisher block solved together.

    With P the removed and K the kept weights of the block, ``min 1/2 dw^T F dw`` subject to
    ``dw_P = -w_P`` is ``dw_K = F_KK^-1 F_KP w_P``, which equals
    ``dw = -F^-1 E_P^T (E_P F^-1 E_P^T)^-1 E_P w`` without inverting twice. The rows and columns of
    P are replaced by those of the identity, so one batched solve serves blocks with any number
    of removed weights.
    """
    kept = before & ~leaving
    w_p = (w * leaving).unsqueeze(-1)
    pull = (matrix @ w_p).squeeze(-1) * kept
    factor = _factor(_restrict(matrix, kept))
    answer = torch.cholesky_solve(pull.unsqueeze(-1), factor)
    change: Tensor = (answer - w_p).squeeze(-1)
    return change


def _separate_update(matrix: Tensor, w: Tensor, before: Tensor, leaving: Tensor, columns: int) -> Tensor:
    """Each group as if it were removed alone, summed (paper section 3.2.1).

    ``dw = - sum_Q F^-1 E_Q^T (E_Q F^-1 E_Q^T)^-1 E_Q w``
    """
    inverse = torch.cholesky_inverse(_factor(_restrict(matrix, before)))
    w_q = (w * leaving).reshape(w.shape[0], -1, columns)
    multipliers = _solve_groups(inverse, w_q).reshape(w.shape)
    return -(inverse @ multipliers.unsqueeze(-1)).squeeze(-1) * before


def _solve_groups(inverse: Tensor, w_q: Tensor) -> Tensor:
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


def _restrict(matrix: Tensor, kept: Tensor) -> Tensor:
    """Replace rows and columns of weights that are not kept by those of the identity."""
    if bool(kept.all()):
        return matrix
    k = kept.to(matrix.dtype)
    restricted = matrix * k.unsqueeze(-1)
    restricted.mul_(k.unsqueeze(-2))
    restricted.diagonal(dim1=-2, dim2=-1).add_(1.0 - k)
    return restricted


def _factor(matrix: Tensor) -> Tensor:
    """Batched Cholesky factor of symmetric positive definite blocks [n, B, B].

    Sums of outer products carry float32 rounding, which can outweigh a tiny dampening where
    gradients are large. Blocks that are not positive definite get just enough more dampening,
    starting at that rounding's size.

    Raises:
        ObertEdgeError: a block has values that are not finite.
    """
    factor: Tensor
    factor, info = torch.linalg.cholesky_ex(matrix)
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
        factor[failed] = again
        failed = failed[info.nonzero().flatten()]
        extra *= 10.0
    return factor


def _waypoints(start: float, end: float, parts: int) -> List[float]:
    """Sparsities on the way from ``start`` to ``end``: each part removes the same share of what is left."""
    ratio = (1.0 - end) / (1.0 - start)
    return [1.0 - (1.0 - start) * ratio ** (i / parts) for i in range(1, parts)] + [end]


def _free_bytes(device: torch.device) -> int:
    """Memory that is free on a device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, AttributeError, OSError):  # not Linux
        return 8 << 30
