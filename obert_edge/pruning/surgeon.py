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
from typing import ClassVar, Dict, Iterable, List, Optional

import torch
from torch import nn

from obert_edge.errors import UsageError
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
from obert_edge.pruning.masks import Masks, check_sparsity, prunable_weights
from obert_edge.pruning.operation import Operation, waypoints
from obert_edge.pruning.patterns import Pattern


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
            for target in waypoints(masks.sparsity, sparsity, self.recomputations):
                with tempfile.TemporaryDirectory(prefix="obert-edge-fisher-") as folder:
                    started = time.perf_counter()
                    fishers = self._fishers(sampler, weights, masks, Path(folder), progress)
                    seconds["gradients"] += time.perf_counter() - started
                    operation = Operation(
                        weights,
                        masks,
                        fishers,
                        pattern=pattern,
                        scope=scope,
                        solver=self.solver,
                        dampening=self.dampening,
                        relative=self.relative_dampening,
                        progress=progress,
                    )
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


def _free_bytes(device: torch.device) -> int:
    """Memory that is free on a device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, AttributeError, OSError):  # not Linux
        return 8 << 30
