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

from obert_edge.errors import UsageError
from obert_edge.host.architectures import ARCHITECTURES
from obert_edge.host.pruning.masks import Masks, prunable_linears, prunable_weights
from obert_edge.host.pruning.patterns import Pattern

if TYPE_CHECKING:
    from obert_edge.host.pruning.criterion import Batch, LossFunction
    from obert_edge.host.pruning.surgeon import Surgeon
    from obert_edge.progress import Progress

# The different namings of a layer's linears: query, key, value, attention output, the feed-forward two.
_NAMES = tuple(dict.fromkeys(architecture.modules.linears for architecture in ARCHITECTURES.values()))
# Linears of relative positions, whose units meet those of queries and keys as well.
_POSITIONS = tuple(
    name
    for architecture in ARCHITECTURES.values()
    if architecture.relative_positions is not None
    for name in (architecture.relative_positions.key, architecture.relative_positions.query)
)
_ROUNDS = 16


@dataclass(frozen=True)
class Units:
    """Output units that may change places with each other.

    Attributes:
        rows: linears that have these units as outputs.
        columns: the linear that has them as inputs; None: they meet in a dot product.
        span: where they are, in all of these.
    """

    rows: Tuple[str, ...]
    columns: Optional[str]
    span: slice

    @property
    def count(self) -> int:
        """How many units."""
        return int(self.span.stop - self.span.start)


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
    modules = {path for path, _ in model.named_modules()}
    heads = int(cast(Any, model).config.num_attention_heads)
    found: List[Units] = []
    for names in _NAMES:
        if names[0] == names[1]:
            continue  # a matrix of queries, keys and values: a unit is in several of its rows
        query, key, value, output, first, second = names
        for path in weights:
            prefix, _, name = path.rpartition(query)
            if name or not path.endswith(query):
                continue
            between = weights[prefix + first].shape[0]
            found.append(Units((prefix + first,), prefix + second, slice(0, between)))
            width = weights[path].shape[0] // heads
            for start in range(0, heads * width, width):
                head = slice(start, start + width)
                if not any(prefix + one in modules for one in _POSITIONS):
                    found.append(Units((path, prefix + key), None, head))
                found.append(Units((prefix + value,), prefix + output, head))
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
        weights are gone already (their groups must stay), or no unit may change its place (ModernBERT).
    """
    if pattern.rows == 1 or Masks.from_weights(model).pruned:
        return None
    units = [one for one in permutable_units(model) if one.count % pattern.rows == 0]
    if not units:
        return None
    names = list(dict.fromkeys(name for one in units for name in one.rows))
    scores = surgeon.saliencies(model, names, list(batches), loss_fn=loss_fn, progress=progress)
    found = [torch.cat([scores[name][one.span] for name in one.rows], dim=1).float().cpu() for one in units]
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
            places = order + one.span.start
            for name in one.rows:
                for tensor in (linears[name].weight, linears[name].bias):
                    values = cast(Tensor, tensor)
                    values[one.span] = values[places.to(values.device)]
            if one.columns is not None:
                weight = cast(Tensor, linears[one.columns].weight)
                weight[:, one.span] = weight[:, places.to(weight.device)]


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
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError as error:
        raise UsageError(
            "permuting channels needs scipy, which is not installed", hint="pip install scipy"
        ) from error
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
