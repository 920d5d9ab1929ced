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
from typing import ClassVar, Dict, Iterable, Iterator, List, Mapping, Optional, Tuple

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
from obert_edge.host.pruning.fisher import BlockFisher, BlockLayout, accumulate, first_products
from obert_edge.host.pruning.gradients import GradientSampler, GradientSource
from obert_edge.host.pruning.masks import Masks, check_sparsity, prunable_weights
from obert_edge.host.pruning.patterns import Pattern
from obert_edge.host.pruning.sharding import assign_owners, everyones, lowest, send_to_all, this_process
from obert_edge.host.pruning.step import Method, Operation, waypoints

# Gradients that are multiplied into the Fisher matrix together, the most first: twice as many halve
# the memory traffic of the sums. Beyond these the products themselves are what takes the time.
_CHUNKS = (32, 28, 24, 20, 16, 12, 8)


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
            the flattened matrix, the paper's), see :class:`obert_edge.host.pruning.fisher.BlockLayout`.
        solver: how the kept weights of a Fisher block move. "joint": the exact optimum for all
            weights removed from it. "paper": each group as if it were removed alone, the updates
            summed, which ignores that several groups leave the same block (section 3.2.1).
        selection: what a group's saliency takes into account. "independent": the group alone
            (equation 3). "greedy": groups leave each Fisher block one after the other, each with
            those before it removed and made up for; its saliency is what it then costs (see
            :func:`obert_edge.host.pruning.greedy.greedy_scores`). Either way, with the joint solver
            N:M removes from every M weights those that cost least *together*.
        rescorings: the step is cut into this many parts; after each, saliencies are computed
            again from the same Fisher matrix at the updated weights, so that groups removed later
            know of those removed before. Costs no gradients.
        recomputations: the step is cut into this many parts, each with gradients and Fisher
            matrix of its own.
        memory_budget: bytes beside the model for Fisher blocks, waiting gradients and saliencies
            (per process); None: half of what is free. When the model needs more, matrices are
            taken in several passes over the gradients, and finished Fisher blocks wait in
            temporary files, half their size (TMPDIR says where). A pass has at least one matrix.

    Raises:
        UsageError: an argument is out of range.
    """

    name: ClassVar[str] = "obert"

    def __init__(
        self,
        *,
        block_size: int = 32,
        dampening: float = 1e-7,
        relative_dampening: bool = False,
        layout: str = "row",
        solver: str = "joint",
        selection: str = "independent",
        rescorings: int = 1,
        recomputations: int = 1,
        memory_budget: Optional[int] = None,
    ) -> None:
        BlockLayout((1, 1), block_size, layout)  # checks both
        if not dampening > 0:
            raise UsageError(f"dampening is {dampening}", hint="use a value above 0, such as 1e-7")
        if solver not in ("joint", "paper"):
            raise UsageError(f'solver is "{solver}"', hint='use "joint" or "paper"')
        if selection not in ("independent", "greedy"):
            raise UsageError(f'selection is "{selection}"', hint='use "independent" or "greedy"')
        if memory_budget is not None and memory_budget < 1:
            raise UsageError(f"memory_budget is {memory_budget} bytes", hint="give bytes, such as 8000000000")
        for what, value in (("rescorings", rescorings), ("recomputations", recomputations)):
            if value < 1:
                raise UsageError(f"{what} is {value}", hint="use 1 or more")
        self.block_size = block_size
        self.dampening = dampening
        self.relative_dampening = relative_dampening
        self.layout = layout
        self.solver = solver
        self.selection = selection
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
        """See :meth:`obert_edge.host.pruning.criterion.Criterion.prune`."""
        check_sparsity(sparsity, pattern)
        prunable = prunable_weights(model)
        # In the model's order, which masks out of a checkpoint need not have: turns, and so bits, follow it.
        weights = {name: weight for name, weight in prunable.items() if name in masks}
        for name, weight in weights.items():
            pattern.check(name, tuple(weight.shape))
        self.check_pattern(pattern)
        masks.apply(model)
        source = GradientSampler(model, list(batches or []), loss_fn)
        return self.prune_with(
            source, weights, masks, sparsity=sparsity, pattern=pattern, scope=scope, progress=progress
        )

    def check_pattern(self, pattern: Pattern) -> None:
        """Check that Fisher blocks and blocks of a pattern fit together.

        Raises:
            UsageError: they do not.
        """
        side = pattern.columns
        if pattern.of is not None and (self.solver == "joint" or self.selection == "greedy"):
            side = pattern.of
        if self.block_size % side:
            raise UsageError(
                f"a Fisher block of {self.block_size} weights cuts through blocks of pattern {pattern}",
                hint=f"use a block_size that is a multiple of {side}",
            )
        if self.selection == "greedy" and self.layout == "flat" and pattern.rows > 1:
            raise UsageError(
                f'selection "greedy" of pattern {pattern} needs Fisher blocks at the same place in every row',
                hint='use layout "row"',
            )

    def prune_with(
        self,
        source: GradientSource,
        weights: Dict[str, nn.Parameter],
        masks: Masks,
        *,
        sparsity: float,
        pattern: Pattern,
        scope: str = "global",
        progress: Optional[Progress] = None,
    ) -> PruningReport:
        """Prune with gradients from anywhere; :meth:`prune` takes them of a model.

        Args:
            source: gradients of ``weights``; gone through once per pass and recomputation.
            weights: parameters [out, in] by module path, those of the masks.
            masks: as in :meth:`prune`; and so are the others.
            sparsity: see ``masks``.
            pattern: see ``masks``.
            scope: see ``masks``.
            progress: see ``masks``.
        """
        device = next(iter(weights.values())).device
        count = sum(everyones(len(source), device))
        method = Method(pattern, scope, self.solver, self.selection, self.dampening, self.relative_dampening)
        layouts = self._layouts(weights)
        owners = _owners(layouts)
        seconds = {"gradients": 0.0, "saliency": 0.0, "selection": 0.0, "update": 0.0}
        increase = 0.0
        parts = self.recomputations if masks.sparsity < sparsity else 0
        for target in waypoints(masks.sparsity, sparsity, parts) if parts else []:
            with tempfile.TemporaryDirectory(prefix="obert-edge-fisher-") as folder:
                operation = Operation(weights, masks, owners, method, progress)
                started = time.perf_counter()
                for index, fishers, last in self._fishers(source, weights, masks, layouts, pattern, progress):
                    accumulated = time.perf_counter()
                    operation.score(fishers)
                    seconds["gradients"] += accumulated - started
                    seconds["saliency"] += time.perf_counter() - accumulated
                    if not last:  # what the last one leaves in memory may stay there
                        for number, fisher in enumerate(fishers.values()):
                            fisher.offload(Path(folder) / f"{index}-{number}.f32")
                    started = time.perf_counter()
                for stage, spent in operation.run(target, self.rescorings).items():
                    seconds[stage] += spent
                increase += operation.loss_increase()
        return PruningReport(
            criterion=self.name,
            pattern=str(pattern),
            target=sparsity,
            layers=layer_sparsities(masks),
            seconds=seconds,
            gradients=count,
            loss_increase=increase,
        )

    def saliencies(
        self,
        model: nn.Module,
        names: Iterable[str],
        batches: Iterable[Batch],
        *,
        loss_fn: Optional[LossFunction] = None,
        progress: Optional[Progress] = None,
    ) -> Dict[str, Tensor]:
        """What removing each weight alone would cost (equation 3); nothing is removed.

        Args:
            model: the model.
            names: of the matrices, module paths.
            batches: data with labels to take gradients of, all of them are used.
            loss_fn: replaces the model's own label loss.
            progress: told about the work done.

        Returns:
            By name float [out, in], ``-inf`` where a weight is gone; in every process the same.
        """
        prunable, there = prunable_weights(model), Masks.from_weights(model)
        weights = {name: prunable[name] for name in names}
        masks = Masks({name: there[name] for name in weights})
        layouts = self._layouts(weights)
        owners = _owners(layouts)
        single = Pattern()
        method = Method(single, "global", self.solver, "independent", self.dampening, self.relative_dampening)
        source = GradientSampler(model, list(batches), loss_fn)
        found: Dict[str, Tensor] = {}
        for _, fishers, _ in self._fishers(source, weights, masks, layouts, single, progress):
            operation = Operation(weights, masks, owners, method, progress)
            operation.score(fishers)
            found.update(operation.scores)
            fishers.clear()  # their memory is the next pass's
            del operation
        for name, weight in weights.items():
            scores = found.setdefault(name, torch.empty(weight.shape, device=weight.device))
            send_to_all(scores, owners[name])
        return found

    def _layouts(self, weights: Mapping[str, nn.Parameter]) -> Dict[str, BlockLayout]:
        return {
            name: BlockLayout((weight.shape[0], weight.shape[1]), self.block_size, self.layout)
            for name, weight in weights.items()
        }

    def _fishers(
        self,
        source: GradientSource,
        weights: Mapping[str, nn.Parameter],
        masks: Masks,
        layouts: Mapping[str, BlockLayout],
        pattern: Pattern,
        progress: Optional[Progress],
    ) -> Iterator[Tuple[int, Dict[str, BlockFisher], bool]]:
        """Fisher blocks, in as few passes over the gradients as memory allows: (number, blocks, is last)."""
        device = next(iter(weights.values())).device
        count = sum(everyones(len(source), device))
        sizes, owners = _sizes(layouts), _owners(layouts)
        passes, chunk = self._plan(sizes, owners, count, pattern, device)
        firsts = dict(zip(sizes, first_products(len(sizes), chunk)))
        for index, names in enumerate(passes):
            fishers = accumulate(
                source,
                {name: weights[name] for name in names},
                masks,
                layouts,
                owners=owners,
                chunk=chunk,
                firsts=firsts,
                progress=progress,
            )
            yield index, fishers, index + 1 == len(passes)

    def _plan(
        self,
        sizes: Dict[str, int],
        owners: Dict[str, int],
        gradients: int,
        pattern: Pattern,
        device: torch.device,
    ) -> Tuple[List[List[str]], int]:
        """The matrices of each pass, in as few as the memory budget allows, and the chunk of gradients."""
        budget = self.memory_budget if self.memory_budget is not None else _free_bytes(device) // 2
        # Everyone must make the same plan. The saliencies of all groups stay in memory throughout.
        budget = lowest(budget, device) - 4 * sum(sizes.values()) // pattern.size
        processes = this_process()[1]
        plans = []
        for chunk in sorted({min(chunk, gradients) for chunk in _CHUNKS}, reverse=True):
            firsts = dict(zip(sizes, first_products(len(sizes), chunk)))
            shares = [
                _in_passes(
                    {name: sizes[name] for name in sizes if owners[name] == rank},
                    firsts,
                    chunk,
                    # B floats of Fisher, and what autograd returns at once, of everyone's matrices.
                    self.block_size + processes,
                    budget,
                )
                for rank in range(processes)
            ]
            passes = [
                [name for share in shares if index < len(share) for name in share[index]]
                for index in range(max(len(share) for share in shares))
            ]
            plans.append((passes, chunk))
        return min(plans, key=lambda plan: len(plan[0]))  # of equals the first, with the largest chunk


def _sizes(layouts: Mapping[str, BlockLayout]) -> Dict[str, int]:
    """Weights of each matrix, padding of its Fisher blocks included."""
    return {name: layout.blocks * layout.block_size for name, layout in layouts.items()}


def _owners(layouts: Mapping[str, BlockLayout]) -> Dict[str, int]:
    """The process that has the Fisher blocks of each matrix."""
    return assign_owners(_sizes(layouts), this_process()[1])


def _in_passes(
    sizes: Mapping[str, int], firsts: Mapping[str, int], chunk: int, floats: int, budget: int
) -> List[List[str]]:
    """Cut names, in their order, into lists that need up to ``budget`` bytes, with one name at least.

    Args:
        sizes: weights by name.
        firsts: gradients in the first product, by name.
        chunk: gradients in the later products.
        floats: per weight, apart from the gradients that wait.
        budget: bytes.
    """
    passes: List[List[str]] = []
    used, waiting = 0, [0] * chunk  # floats; the second by the number of gradients taken so far
    for name, size in sizes.items():
        more = [size * ((taken - firsts[name]) % chunk) for taken in range(chunk)]
        if not passes or 4 * (used + floats * size + max(map(sum, zip(waiting, more)))) > budget:
            passes.append([])
            used, waiting = 0, [0] * chunk
        passes[-1].append(name)
        used += floats * size
        waiting = [sum(both) for both in zip(waiting, more)]
    return passes


def _free_bytes(device: torch.device) -> int:
    """Memory that is free on a device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, AttributeError, OSError):  # not Linux
        return 8 << 30
