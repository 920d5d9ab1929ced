"""A pruning step of the surgeon: with one Fisher matrix, weights are scored, selected, removed, and updated.

A pruning step removes weights once. A schedule has several of them; with ``recomputations`` above 1 each is
cut into smaller pruning steps, every one with a Fisher matrix of its own; with ``rescorings`` above 1 a
pruning step is cut into parts, every one with saliencies of its own.
"""

from __future__ import annotations

import time
from typing import Callable, Dict, List, Mapping, Optional, Tuple

import torch
from torch import Tensor, nn

from obert_edge.host.pruning.criteria import SurgeonOptions
from obert_edge.host.pruning.criterion import FisherFacts
from obert_edge.host.pruning.fisher import BlockFisher, BlockLayout
from obert_edge.host.pruning.greedy import cell_scores, greedy_scores
from obert_edge.host.pruning.masks import Masks, select
from obert_edge.host.pruning.parallel import over_spans
from obert_edge.host.pruning.patterns import Pattern
from obert_edge.host.pruning.sharding import send_to_all, this_process, total
from obert_edge.host.pruning.solve import factor, joint_update, restrict, saliency, separate_update
from obert_edge.progress import Progress

# Float64 matrices of Fisher blocks that are worked on at once: on a CPU few enough to stay in the
# cache of a core through all steps, on a GPU enough to keep it busy.
_SPAN_BYTES = {"cpu": 2 << 20, "cuda": 64 << 20}


class PruningStep:
    """The removal of weights with given Fisher matrices, in one or more parts.

    Args:
        weights: parameters [out, in] by module path, changed in place.
        masks: what is kept, changed in place.
        owners: for each module the rank that has its Fisher blocks.
        options: how weights are scored and updated.
        pattern: the shape of what is removed.
        scope: where one threshold holds, see :func:`obert_edge.host.pruning.masks.select`.
        progress: told about the work done.
    """

    def __init__(
        self,
        weights: Mapping[str, nn.Parameter],
        masks: Masks,
        owners: Mapping[str, int],
        options: SurgeonOptions,
        pattern: Pattern,
        scope: str = "global",
        progress: Optional[Progress] = None,
    ) -> None:
        self._weights = weights
        self._masks = masks
        self._owners = owners
        self._options = options
        self._pattern = pattern
        self._scope = scope
        self._progress = progress
        self._rank = this_process()[0]
        self._fishers: Dict[str, BlockFisher] = {}
        self._scores: Dict[str, Tensor] = {}
        self._diagonals: Dict[str, Tuple[float, float]] = {}
        self._increase = 0.0

    @property
    def scores(self) -> Mapping[str, Tensor]:
        """The costs of removing each group, as last computed, of the matrices this process owns."""
        return self._scores

    def score(self, fishers: Mapping[str, BlockFisher]) -> None:
        """Take Fisher blocks of matrices this process owns, at the weights as they are, and score them."""
        for name, fisher in fishers.items():
            self._fishers[name] = fisher
            # Of kept weights alone: pruned ones and the padding of blocks have no gradient.
            places, kept = fisher.layout.blocks * fisher.layout.block_size, int(self._masks[name].sum())
            diagonal = fisher.mean_diagonal() * places / max(kept, 1)
            self._diagonals[name] = (diagonal, self._dampening(fisher))
            self._scores[name] = self._process(name)
            if self._progress is not None:
                self._progress("saliency", len(self._scores), len(self._weights))

    def run(self, sparsity: float, parts: int) -> Dict[str, float]:
        """Remove weights up to ``sparsity``; saliencies are computed ``parts`` times.

        Args:
            sparsity: share of weights removed in the end.
            parts: the way there is cut into this many parts, each with the saliencies of the
                weights as the part before left them. With the joint solver those are exact: at a
                constrained optimum, removing more is again equation 3 in what is kept.

        Returns:
            Wall time of "selection" and "update".
        """
        seconds = {"selection": 0.0, "update": 0.0}
        for index, target in enumerate(waypoints(self._masks.sparsity, sparsity, parts), start=1):
            started = time.perf_counter()
            scores = {name: self._shared_scores(name) for name in self._weights}
            removed = select(scores, pattern=self._pattern, sparsity=target, scope=self._scope)
            del scores
            selected = time.perf_counter()
            for done, (name, weight) in enumerate(self._weights.items(), start=1):
                kept = self._masks[name] & ~self._pattern.expand(removed[name]).to(self._masks[name].device)
                if self._owners[name] == self._rank:
                    self._scores[name] = self._process(name, kept, scoring=index < parts)
                self._masks.replace(name, kept)
                send_to_all(weight.data, self._owners[name])
                if self._progress is not None:
                    self._progress(
                        "update", (index - 1) * len(self._weights) + done, parts * len(self._weights)
                    )
            seconds["selection"] += selected - started
            seconds["update"] += time.perf_counter() - selected
        return seconds

    def facts(self) -> FisherFacts:
        """How the Fisher matrices that were scored compare with their dampening, over all processes."""
        rows = torch.zeros(len(self._weights), 2, dtype=torch.float64)
        for row, name in enumerate(self._weights):
            rows[row] = torch.tensor(self._diagonals.get(name, (0.0, 0.0)), dtype=torch.float64)
            if this_process()[1] > 1:
                shared = rows[row].to(self._weights[name].device)
                send_to_all(shared, self._owners[name])
                rows[row] = shared.cpu()
        diagonals, dampenings = rows[:, 0], rows[:, 1]
        return FisherFacts(
            mean_diagonal=float(diagonals.mean()),
            median_diagonal=float(diagonals.median()),
            dampening=float(dampenings.median()),
            degenerate=float((diagonals < dampenings).double().mean()),
        )

    def _dampening(self, fisher: BlockFisher) -> float:
        """What is added to the diagonal of a matrix."""
        scale = fisher.mean_diagonal()
        # A matrix that got no gradient at all has no scale of its own.
        relative = self._options.relative_dampening and scale > 0
        return self._options.dampening * (scale if relative else 1.0)

    def loss_increase(self) -> float:
        """Sum of ``1/2 dw^T F dw`` (equation 1) over the parts done, over all processes.

        With the joint solver this is also the cost of the whole: every part starts at the optimum
        the one before it ended in.
        """
        return total(self._increase, next(iter(self._weights.values())).device)

    def _process(self, name: str, kept: Optional[Tensor] = None, scoring: bool = True) -> Tensor:
        """Remove weights of one matrix, then score what is left; one pass over its blocks.

        Args:
            name: the module.
            kept: bool [out, in], what is kept from now on; None: nothing is removed.
            scoring: whether saliencies are wanted.

        Returns:
            What removing each group costs, float [out / rows, in / columns], ``-inf`` where a
            group is gone; empty without ``scoring``.
        """
        options, fisher, weight = self._options, self._fishers[name], self._weights[name]
        layout, columns = fisher.layout, self._pattern.columns
        dampening = self._dampening(fisher)
        before = layout.to_blocks(self._masks[name].to(weight.device))
        after = before if kept is None else layout.to_blocks(kept.to(weight.device))
        moved = layout.to_blocks(weight.detach().float()).clone()
        together = self._rows_together
        scores = torch.empty(
            layout.blocks // together if scoring else 0, layout.block_size // columns, device=weight.device
        )
        score = self._scorer(layout, after)

        def work(span: slice) -> float:
            matrix = fisher.matrix(span, dampening).to(weight.device)  # F of equation 2
            w, increase = moved[span].double(), 0.0
            if kept is not None:
                leaving = before[span] & ~after[span]
                # Equation 3 is minimized: for all weights that leave a Fisher block, or group by group.
                if options.solver == "joint":
                    dw = joint_update(matrix, w, before[span], leaving)
                else:
                    dw = separate_update(matrix, w, before[span], leaving, columns)
                # Updates bring removed weights to zero only up to rounding, or with the paper's
                # solver not at all.
                ends = (w + dw) * after[span]
                dw = (ends - w).unsqueeze(-1)
                increase = 0.5 * float((dw * (matrix @ dw)).sum())  # equation 1: 1/2 dw^T F dw
                w = ends
                moved[span] = w.float()
            if scoring:
                lower = factor(restrict(matrix, after[span]))  # F = L L^T, for the saliencies of equation 3
                scores[slice(span.start // together, span.stop // together)] = score(lower, w, span).float()
            return increase

        self._increase += sum(over_spans(work, self._spans(layout), weight.device))
        if kept is not None:
            with torch.no_grad():
                result = layout.to_matrix(moved).to(weight.dtype)
                weight.copy_(result.masked_fill(~kept.to(weight.device), 0.0))
        if not scoring:
            return torch.empty(0)
        return self._by_group(name, scores, self._masks[name] if kept is None else kept)

    @property
    def _rows_together(self) -> int:
        """Rows whose Fisher blocks must be scored side by side."""
        return self._pattern.rows if self._options.selection == "greedy" else 1

    def _scorer(self, layout: BlockLayout, kept: Tensor) -> Callable[[Tensor, Tensor, slice], Tensor]:
        """How blocks are scored: from the factor of F, the weights and their span, [n, B / columns]."""
        pattern = self._pattern
        columns = pattern.columns

        def alone(lower: Tensor, w: Tensor, span: slice) -> Tensor:
            return saliency(lower, w, columns)

        def in_cells(lower: Tensor, w: Tensor, span: slice) -> Tensor:
            assert pattern.keep is not None and pattern.of is not None
            inverse = torch.cholesky_inverse(lower)
            return cell_scores(inverse, w, ~kept[span], keep=pattern.keep, of=pattern.of)

        def in_turn(lower: Tensor, w: Tensor, span: slice) -> Tensor:
            rows, across = pattern.rows, layout.blocks_per_line
            size = layout.block_size

            def side_by_side(values: Tensor) -> Tensor:
                """[n, ...] to [n / rows, rows, ...]: the blocks of the rows of one group together."""
                if rows == 1:
                    return values.unsqueeze(1)
                tiles = values.reshape(-1, rows, across, *values.shape[1:])
                return tiles.transpose(1, 2).reshape(-1, rows, *values.shape[1:])

            there = side_by_side(kept[span]).reshape(-1, rows, size // columns, columns).any(dim=3).any(dim=1)
            cell = (
                None
                if pattern.of is None or pattern.keep is None
                else (pattern.of, pattern.of - pattern.keep)
            )
            inverse = side_by_side(torch.cholesky_inverse(lower))
            return greedy_scores(inverse, side_by_side(w), ~there, columns=columns, cell=cell)

        if self._options.selection == "greedy":
            return in_turn
        # The joint solver searches each N:M cell for the best subset, not for the best single weights.
        return in_cells if pattern.of is not None and self._options.solver == "joint" else alone

    def _by_group(self, name: str, scores: Tensor, kept: Tensor) -> Tensor:
        """Scores of blocks (of groups of rows) as a matrix of groups."""
        layout, pattern = self._fishers[name].layout, self._pattern
        out, inputs = layout.shape
        if self._rows_together > 1:
            grouped = BlockLayout((out // pattern.rows, inputs), layout.block_size, layout.kind)
            matrix = grouped.to_matrix(scores, pattern.columns)
        else:
            # A group of several rows lies in as many Fisher blocks, between which F is zero:
            # its saliency is the sum of its rows'.
            matrix = layout.to_matrix(scores, pattern.columns)
            matrix = matrix.reshape(out // pattern.rows, pattern.rows, -1).sum(dim=1)
        gone = pattern.group(kept.int()) == 0
        return matrix.masked_fill(gone.to(matrix.device), float("-inf"))

    def _shared_scores(self, name: str) -> Tensor:
        """The scores of a matrix, whoever owns it."""
        out, inputs = self._weights[name].shape
        pattern = self._pattern
        scores = self._scores.get(name)
        if scores is None:
            scores = torch.empty(
                out // pattern.rows, inputs // pattern.columns, device=self._weights[name].device
            )
        send_to_all(scores, self._owners[name])
        return scores

    def _spans(self, layout: BlockLayout) -> List[slice]:
        unit = self._rows_together
        if unit > 1:
            unit *= layout.blocks_per_line
        memory = _SPAN_BYTES.get(next(iter(self._weights.values())).device.type, _SPAN_BYTES["cpu"])
        length = unit * max(1, memory // (8 * layout.block_size**2 * unit))
        return [slice(start, min(start + length, layout.blocks)) for start in range(0, layout.blocks, length)]


def waypoints(start: float, end: float, parts: int) -> List[float]:
    """Sparsities on the way from ``start`` to ``end``: each part removes the same share of what is left."""
    ratio = (1.0 - end) / (1.0 - start)
    return [1.0 - (1.0 - start) * ratio ** (i / parts) for i in range(1, parts)] + [end]
