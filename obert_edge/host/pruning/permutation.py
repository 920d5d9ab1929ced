"""Which output units share a group: units change places where the next matrix absorbs it.

A block ``OUTxIN`` with OUT > 1 takes the same inputs from OUT consecutive units. Which units are
neighbors is free wherever a permutation of them leaves the model's function as it is: the units between the
two feed-forward matrices; inside an attention head those of query and key together (they meet in a dot
product), and those of value together with the inputs of the attention output. Queries and keys stay where
they are if they also meet relative positions that have projections of their own (some models of DeBERTa v2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Iterable, List, Optional, Sequence, Tuple, cast

import torch
from torch import Tensor, nn

from obert_edge.host.architectures import architecture_of
from obert_edge.host.pruning.masks import Masks, prunable_linears, prunable_weights
from obert_edge.host.pruning.patterns import Pattern
from obert_edge.packages import imports_for

if TYPE_CHECKING:
    from obert_edge.host.pruning.criterion import Batch, LossFunction
    from obert_edge.host.pruning.surgeon import Surgeon
    from obert_edge.progress import Progress

_ROUNDS = 16


@dataclass(frozen=True)
class Units:
    """Output units that may change places with each other.

    Attributes:
        rows: linears that have these units as outputs, each with the number of the first of them; a matrix
            that is several in one may be there more than once.
        columns: the linear that has them as inputs, and the first of them; None: they meet in a dot product.
        count: how many units.
    """

    rows: Tuple[Tuple[str, int], ...]
    columns: Optional[Tuple[str, int]]
    count: int

    def fit(self, rows: int) -> bool:
        """Whether blocks of so many rows lie within them."""
        return all(start % rows == 0 for start in (self.count, *(first for _, first in self.rows)))


@dataclass(frozen=True)
class ChannelPermutation:
    """What a new grouping keeps.

    Attributes:
        before: share of the saliency of the matrices concerned that is kept at the sparsity
            asked for, with consecutive units as they were.
        after: the same with the units as they are now.
    """

    before: float
    after: float


def permutable_units(model: nn.Module) -> List[Units]:
    """The sets of units of ``model`` that may be permuted, layer by layer.

    Raises:
        UsageError: the model has no encoder that pruning knows.
    """
    weights = prunable_weights(model)
    config = cast(Any, model).config
    architecture = architecture_of(config.to_dict(), type(model).__name__)
    modules = architecture.modules
    heads = int(getattr(config, architecture.fields.heads))
    names = architecture.bottleneck
    width = int(getattr(config, names.width if names is not None else architecture.fields.hidden)) // heads
    positions = architecture.relative_positions
    own = (positions.key, positions.query) if positions is not None else ()
    paths = {path for path, _ in model.named_modules()}
    found: List[Units] = []
    for path in weights:
        prefix, _, name = path.rpartition(modules.query)
        if name or not path.endswith(modules.query):
            continue
        wide, narrow = [prefix + module for module in modules.widening], prefix + modules.output
        between = weights[narrow].shape[1]
        halves = [(wide[0], 0), (wide[0], between)] if modules.gate == modules.intermediate else []
        found.append(Units(tuple(halves or [(linear, 0) for linear in wide]), (narrow, 0), between))
        if names is not None:
            for k in range(int(getattr(config, names.count)) - 1):
                first, second = (prefix + part.format(k=k) for part in (names.intermediate, names.output))
                found.append(Units(((first, 0),), (second, 0), weights[second].shape[1]))
        key, value = prefix + modules.key, prefix + modules.value
        output = prefix + modules.attention_output
        offset = 2 * heads * width if modules.is_fused else 0
        for start in range(0, heads * width, width):
            # Rotary positions turn pairs of units, each by its own angle; and units of relative positions
            # with projections of their own meet those of queries and keys as well.
            if architecture.rotary is None and not any(prefix + name in paths for name in own):
                found.append(Units(((path, start), (key, start)), None, width))
            if len(weights[value]) == offset + heads * width:  # no head of values is of several of queries
                found.append(Units(((value, offset + start),), (output, start), width))
    return found


def permute_channels(
    model: nn.Module,
    batches: Iterable[Batch],
    *,
    pattern: Pattern,
    sparsity: float,
    surgeon: Surgeon,
    rounds: int = _ROUNDS,
    loss_fn: Optional[LossFunction] = None,
    progress: Optional[Progress] = None,
) -> Optional[ChannelPermutation]:
    """Permute units of ``model``, in place, so that blocks of ``pattern`` keep more of the saliency.

    The model computes the same, up to the order of sums. Groups start from units whose saliencies
    (equation 3, of single weights) are alike, and are improved by exchange: see :func:`exchange`.

    Args:
        model: a model of one of ``obert_edge.host.architectures`` that is not pruned yet.
        batches: batches with labels, from which gradients are computed.
        pattern: the blocks; with one row each there is nothing to choose.
        sparsity: what will be removed in the end.
        surgeon: how saliencies are computed.
        rounds: rounds of exchange.
        loss_fn: replaces the model's own label loss.
        progress: told about the work done.

    Returns:
        What is kept before and after; None where nothing was permuted, because groups have one row or
        weights are gone already (their groups must stay), or no unit may change its place.
    """
    if pattern.rows == 1 or Masks.from_weights(model).pruned:
        return None
    units = [one for one in permutable_units(model) if one.fit(pattern.rows)]
    if not units:
        return None
    names = list(dict.fromkeys(name for one in units for name, _ in one.rows))
    scores = surgeon.saliencies(model, names, list(batches), loss_fn=loss_fn, progress=progress)
    found = [
        torch.cat([scores[name][first : first + one.count] for name, first in one.rows], dim=1).float().cpu()
        for one in units
    ]
    # A group of a pattern that is wider than one column goes as a whole.
    found = [s.reshape(len(s), -1, pattern.columns).sum(dim=2) for s in found]
    consecutive = [torch.arange(len(s)).reshape(-1, pattern.rows) for s in found]
    groups = exchange(
        found, [similar_units(s, pattern.rows) for s in found], sparsity, rounds=rounds, progress=progress
    )
    result = ChannelPermutation(
        before=kept_share(found, consecutive, sparsity), after=kept_share(found, groups, sparsity)
    )
    if result.after <= result.before:
        return ChannelPermutation(result.before, result.before)
    permute(model, [(one, group.flatten()) for one, group in zip(units, groups)])
    return result


def permute(model: nn.Module, orders: Iterable[Tuple[Units, Tensor]]) -> None:
    """Put units in another order: unit ``order[i]`` of a set comes to place i of it."""
    linears = prunable_linears(model)
    with torch.no_grad():
        for one, order in orders:
            for name, first in one.rows:
                for tensor in (linears[name].weight, linears[name].bias):
                    if tensor is not None:
                        values = cast(Tensor, tensor)
                        values[first : first + one.count] = values[first + order.to(values.device)]
            if one.columns is not None:
                name, first = one.columns
                weight = cast(Tensor, linears[name].weight)
                weight[:, first : first + one.count] = weight[:, first + order.to(weight.device)]


def similar_units(saliency: Tensor, rows: int) -> Tensor:
    """Greedy groups: the most salient unit left, with those most like it.

    Args:
        saliency: [units, in].
        rows: units in a group; divides their number.

    Returns:
        int64 [units / rows, rows], indices of units.
    """
    alike = nn.functional.normalize(saliency.sqrt(), dim=1)
    alike = alike @ alike.T
    left = torch.ones(len(saliency), dtype=torch.bool)
    groups = []
    for unit in saliency.sum(dim=1).argsort(descending=True).tolist():
        if left[unit]:
            left[unit] = False
            near = alike[unit].masked_fill(~left, -1.0).topk(rows - 1).indices
            left[near] = False
            groups.append([unit, *near.tolist()])
    return torch.tensor(groups)


def exchange(
    found: Sequence[Tensor],
    start: Sequence[Tensor],
    sparsity: float,
    *,
    rounds: int = _ROUNDS,
    progress: Optional[Progress] = None,
) -> List[Tensor]:
    """Choose groups and the blocks they keep together, by exchanging one unit of each group at a time.

    What is kept at a threshold t is the sum over blocks of ``relu(saliency - t)``, the Lagrangian of
    the global selection. In every round each group of a set gives one unit away, and all of them are
    placed anew where they raise that sum the most: an assignment problem, solved exactly. So within a
    round, at its t, the sum never falls.

    Args:
        found: saliencies [units, in] of each set.
        start: groups of each set, int64 [groups, rows].
        sparsity: sets t, anew in every round, as the global threshold over all sets.
        rounds: rounds of exchange.
        progress: told about each round.

    Returns:
        The groups that keep the largest share of the saliency, of all rounds and the start.

    Raises:
        UsageError: scipy, which solves the assignments, is not installed.
    """
    with imports_for("permuting channels"):
        from scipy.optimize import linear_sum_assignment
    generator = torch.Generator().manual_seed(0)
    chosen = [groups.clone() for groups in start]
    best, most = [groups.clone() for groups in start], kept_share(found, start, sparsity)
    for done in range(1, rounds + 1):
        limit = _threshold(found, chosen, sparsity)
        for saliency, groups in zip(found, chosen):
            member = torch.randint(groups.shape[1], (len(groups),), generator=generator)
            given = groups[torch.arange(len(groups)), member]
            rest = _blocks(saliency, groups) - saliency[given] - limit
            gain = torch.stack([(rest + saliency[unit]).clamp_min_(0).sum(dim=1) for unit in given])
            place = torch.as_tensor(linear_sum_assignment(gain.numpy(), maximize=True)[1])
            groups[place, member[place]] = given
        # t moves between rounds, so that what a round gains the threshold may lose again.
        share = kept_share(found, chosen, sparsity)
        if share > most:
            best, most = [groups.clone() for groups in chosen], share
        if progress is not None:
            progress("permuting channels", done, rounds)
    return best


def kept_share(found: Sequence[Tensor], chosen: Sequence[Tensor], sparsity: float) -> float:
    """Share of all saliency in the blocks that one threshold keeps. Arguments as in :func:`exchange`."""
    limit = _threshold(found, chosen, sparsity)
    every = (_blocks(saliency, groups) for saliency, groups in zip(found, chosen))
    kept = sum(float(block[block > limit].sum()) for block in every)
    return kept / sum(float(saliency.sum()) for saliency in found)


def _blocks(saliency: Tensor, groups: Tensor) -> Tensor:
    """Saliency of blocks, [groups, in]."""
    return saliency[groups].sum(dim=1)


def _threshold(found: Sequence[Tensor], chosen: Sequence[Tensor], sparsity: float) -> float:
    """The saliency below which a block goes."""
    every = torch.cat([_blocks(saliency, groups).flatten() for saliency, groups in zip(found, chosen)])
    return float(every.kthvalue(max(1, int(sparsity * len(every)))).values)
