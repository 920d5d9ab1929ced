"""The optimal BERT surgeon: which weights to remove, and how the others make up for them.

Notation of the paper (Kurtic et al. 2022, section 3): ``w`` weights, ``F`` dampened empirical
Fisher matrix in diagonal blocks, ``Q`` a group of weights removed together, ``E_Q`` the rows of
the identity that select it.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Dict, Iterable, Iterator, List, Mapping, Optional, Tuple

import torch
from torch import Tensor, nn

from obert_edge.device.runtime.preflight import free_memory
from obert_edge.errors import UsageError
from obert_edge.files import no_torn_file
from obert_edge.host.pruning.criteria import SurgeonOptions
from obert_edge.host.pruning.criterion import (
    Batch,
    Criterion,
    FisherFacts,
    LossFunction,
    PruningReport,
    layer_sparsities,
)
from obert_edge.host.pruning.fisher import BlockFisher, BlockLayout, accumulate, first_products
from obert_edge.host.pruning.gradients import GradientSampler, GradientSource
from obert_edge.host.pruning.masks import Masks, check_sparsity, prunable_weights
from obert_edge.host.pruning.patterns import Pattern
from obert_edge.host.pruning.sharding import assign_owners, everyones, lowest, send_to_all, this_process
from obert_edge.host.pruning.step import PruningStep, waypoints
from obert_edge.progress import Progress

# Gradients that are multiplied into the Fisher matrix together, the most first: twice as many halve
# the memory traffic of the sums. Beyond these the products themselves are what takes the time.
_CHUNKS = (32, 28, 24, 20, 16, 12, 8)

_log = logging.getLogger(__name__)


class Surgeon(Criterion):
    """oBERT.

    With the joint solver and an N:M pattern, those of every M weights go that cost least *together*. With the
    selection "greedy", groups leave each Fisher block one after the other, each with those before it removed
    and made up for; its saliency is what it then costs
    (see :func:`obert_edge.host.pruning.greedy.greedy_scores`). When memory is short, finished Fisher blocks
    wait in temporary files, half their size (TMPDIR says where).

    Args:
        options: those of :class:`~obert_edge.host.pruning.criteria.SurgeonOptions`.

    Raises:
        UsageError: an option is out of range.
    """

    name: ClassVar[str] = "obert"

    def __init__(self, **options: Any) -> None:
        self.options = SurgeonOptions(**options)
        self._warned = False

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
        if pattern.of is not None and (self.options.solver == "joint" or self.options.selection == "greedy"):
            side = pattern.of
        if self.options.block_size % side:
            raise UsageError(
                f"a Fisher block of {self.options.block_size} weights cuts through blocks of pattern "
                f"{pattern}",
                hint=f"use a block_size that is a multiple of {side}",
            )
        if self.options.selection == "greedy" and self.options.layout == "flat" and pattern.rows > 1:
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
        layouts = self._layouts(weights)
        owners = _owners(layouts)
        seconds = {"gradients": 0.0, "saliency": 0.0, "selection": 0.0, "update": 0.0}
        increase, facts = 0.0, None
        parts = self.options.recomputations if masks.sparsity < sparsity else 0
        for target in waypoints(masks.sparsity, sparsity, parts) if parts else []:
            with tempfile.TemporaryDirectory(prefix="obert-edge-fisher-") as folder:
                step = PruningStep(weights, masks, owners, self.options, pattern, scope, progress)
                started = time.perf_counter()
                for index, fishers, last in self._fishers(source, weights, masks, layouts, pattern, progress):
                    accumulated = time.perf_counter()
                    step.score(fishers)
                    seconds["gradients"] += accumulated - started
                    seconds["saliency"] += time.perf_counter() - accumulated
                    if not last:  # what the last one leaves in memory may stay there
                        with no_torn_file(Path(folder)):
                            for number, fisher in enumerate(fishers.values()):
                                fisher.offload(Path(folder) / f"{index}-{number}.f32")
                    started = time.perf_counter()
                for what, spent in step.run(target, self.options.rescorings).items():
                    seconds[what] += spent
                increase += step.loss_increase()
                facts = step.facts()
                self._warn_if_degenerate(facts)
        return PruningReport(
            criterion=self.name,
            pattern=str(pattern),
            target=sparsity,
            layers=layer_sparsities(masks),
            seconds=seconds,
            gradients=count,
            loss_increase=increase,
            fisher=facts,
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
        alone = replace(self.options, selection="independent")
        source = GradientSampler(model, list(batches), loss_fn)
        found: Dict[str, Tensor] = {}
        for _, fishers, _ in self._fishers(source, weights, masks, layouts, single, progress):
            step = PruningStep(weights, masks, owners, alone, single, progress=progress)
            step.score(fishers)
            found.update(step.scores)
            fishers.clear()  # their memory is needed for the next pass
            del step
        for name, weight in weights.items():
            scores = found.setdefault(name, torch.empty(weight.shape, device=weight.device))
            send_to_all(scores, owners[name])
        return found

    def _warn_if_degenerate(self, facts: FisherFacts) -> None:
        """Say once when dampening is all there is of most Fisher matrices, where oBERT is magnitude."""
        if facts.degenerate < 0.5 or self._warned or this_process()[0]:
            return
        self._warned = True
        _log.warning(
            "the gradients are so small that they hardly decide what is pruned: in %.0f %% of the matrices "
            "their mean square (%.2g in the middle one) is below the dampening of %.2g, and there the "
            "weights nearest to zero go, as with method magnitude. So it is where a model fits its training "
            "data almost without error, or answers nearly the same to everything. Take gradients of the "
            "outputs, which do not vanish (`gradients_of: outputs` in a recipe, --gradients-of outputs on "
            "the command line), or dampen less (`dampening` or `relative_dampening`; --dampening or "
            "--relative-dampening). This is said once, also where later pruning steps find the same",
            100 * facts.degenerate,
            facts.median_diagonal,
            facts.dampening,
        )

    def _layouts(self, weights: Mapping[str, nn.Parameter]) -> Dict[str, BlockLayout]:
        return {
            name: BlockLayout(
                (weight.shape[0], weight.shape[1]), self.options.block_size, self.options.layout
            )
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
        owners = _owners(layouts)
        passes, chunk = self._plan(layouts, owners, count, pattern, device)
        firsts = dict(zip(layouts, first_products(len(layouts), chunk)))
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
        layouts: Mapping[str, BlockLayout],
        owners: Mapping[str, int],
        gradients: int,
        pattern: Pattern,
        device: torch.device,
    ) -> Tuple[List[List[str]], int]:
        """The matrices of each pass, in as few as the memory budget allows, and the chunk of gradients.

        Raises:
            UsageError: a matrix alone takes more than the budget, or without one than there is.
        """
        asked, sizes = self.options.memory_budget, _sizes(layouts)
        # Everyone must make the same plan. The saliencies of all groups stay in memory throughout.
        scores = 4 * sum(sizes.values()) // pattern.size
        budget = lowest(asked if asked is not None else _free_bytes(device) // 2, device) - scores
        processes = this_process()[1]
        # B floats of Fisher, and what autograd returns at once, of everyone's matrices.
        floats = {name: layout.block_size + processes for name, layout in layouts.items()}
        plans = []
        for chunk in sorted({min(chunk, gradients) for chunk in _CHUNKS}, reverse=True):
            firsts = dict(zip(sizes, first_products(len(sizes), chunk)))
            shares = [
                _in_passes(
                    {name: sizes[name] for name in sizes if owners[name] == rank},
                    firsts,
                    chunk,
                    floats,
                    budget,
                )
                for rank in range(processes)
            ]
            passes = [
                [name for share in shares if index < len(share) for name in share[index]]
                for index in range(max(len(share) for share in shares))
            ]
            # Before a product all gradients of its chunk but one wait.
            alone = max(4 * sizes[name] * (floats[name] + chunk - 1) for name in sizes)
            plans.append((max(alone - budget, 0), len(passes), passes, chunk))
        # Of those that fit the fewest passes, and of equals the first, with the largest chunk.
        beyond, _, passes, chunk = min(plans, key=lambda plan: plan[:2])
        there = _most_bytes(device) if asked is None else asked
        if beyond and there is not None:
            most = lowest(there, device)
            self._refuse_beyond(most, budget + scores + beyond, layouts, asked is not None)
        return passes, chunk

    def _refuse_beyond(self, most: int, need: int, layouts: Mapping[str, BlockLayout], asked: bool) -> None:
        """Refuse Fisher blocks of a matrix for which there is too little memory."""
        if need <= most:
            return
        size = max(layout.block_size for layout in layouts.values())
        hint = (
            f"use a smaller block_size, or a memory_budget of {need}" if asked else "use a smaller block_size"
        )
        raise UsageError(
            f"pruning with Fisher blocks of {size} weights takes at least {need} bytes of memory, one matrix "
            f"at a time; {f'memory_budget is {most}' if asked else f'{most} are free'}",
            hint=hint,
        )


def _sizes(layouts: Mapping[str, BlockLayout]) -> Dict[str, int]:
    """Weights of each matrix, padding of its Fisher blocks included."""
    return {name: layout.blocks * layout.block_size for name, layout in layouts.items()}


def _owners(layouts: Mapping[str, BlockLayout]) -> Dict[str, int]:
    """The process that has the Fisher blocks of each matrix."""
    return assign_owners(_sizes(layouts), this_process()[1])


def _in_passes(
    sizes: Mapping[str, int], firsts: Mapping[str, int], chunk: int, floats: Mapping[str, int], budget: int
) -> List[List[str]]:
    """Cut names, in their order, into lists that need up to ``budget`` bytes, with one name at least.

    Args:
        sizes: weights by name.
        firsts: gradients in the first product, by name.
        chunk: gradients in the later products.
        floats: per weight, apart from the gradients that wait, by name.
        budget: bytes.
    """
    passes: List[List[str]] = []
    used, waiting = 0, [0] * chunk  # floats; the second by the number of gradients taken so far
    for name, size in sizes.items():
        more = [size * ((taken - firsts[name]) % chunk) for taken in range(chunk)]
        if not passes or 4 * (used + floats[name] * size + max(map(sum, zip(waiting, more)))) > budget:
            passes.append([])
            used, waiting = 0, [0] * chunk
        passes[-1].append(name)
        used += floats[name] * size
        waiting = [sum(both) for both in zip(waiting, more)]
    return passes


def _most_bytes(device: torch.device) -> Optional[int]:
    """Memory that this process can get, caches of the system included; None: nobody says."""
    return free_memory() if device.type == "cpu" else None


def _free_bytes(device: torch.device) -> int:
    """Memory that is free on a device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, AttributeError, OSError):  # not Linux
        return 8 << 30
