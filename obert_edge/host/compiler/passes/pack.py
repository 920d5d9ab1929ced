"""Chooses the cheapest weight format for every linear, by the target's measured costs, and packs it."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any, Dict, List, NamedTuple, Tuple

import numpy as np
import numpy.typing as npt

from obert_edge.bundle import program
from obert_edge.bundle.manifest import LinearFacts
from obert_edge.bundle.packing import StoredUnits, code_columns, count_units, pack_linear, supports
from obert_edge.bundle.program import Domain, WeightFormat
from obert_edge.errors import CheckpointError
from obert_edge.host.compiler.lowered import LoweredGraph, LoweredOp
from obert_edge.targets import FormatCost

Int8s = npt.NDArray[np.int8]
FormatCosts = Mapping[WeightFormat, FormatCost]
#: Formats that leave zeros out.
SPARSE_FORMATS = frozenset(weight_format for weight_format in WeightFormat if weight_format.is_sparse)


class Choice(NamedTuple):
    """A format and what it is predicted to cost."""

    format: WeightFormat
    cost: float


def choose_format(
    matrix: Int8s, costs: FormatCosts, among: Collection[WeightFormat] = tuple(WeightFormat)
) -> Choice:
    """The cheapest format that can hold an int8 [n, k] matrix.

    Args:
        matrix: the weights.
        costs: ``format_costs`` of the target; only formats named there are used.
        among: only these formats.

    Raises:
        CheckpointError: no format can, as k is too large.
    """
    choices: List[Choice] = []
    for weight_format in sorted(costs):
        if weight_format in among and supports(weight_format, matrix.shape[1]):
            stored = count_units(matrix, weight_format)
            choices.append(Choice(weight_format, _estimate(costs, weight_format, stored)))
    if not choices:
        raise CheckpointError(
            f"a linear of {matrix.shape[1]} input channels is too wide for the engine",
            hint="start from a narrower model",
        )
    return min(choices, key=lambda choice: choice.cost)


def pack(graph: LoweredGraph, costs: FormatCosts) -> Tuple[LoweredGraph, List[LinearFacts]]:
    """Replace every linear's ``matrix`` by its packed arrays.

    Returns:
        the graph, and for each linear what was chosen and why it should be fast.
    """
    ops: List[LoweredOp] = []
    facts: List[LinearFacts] = []
    dense_costs: Dict[Tuple[int, ...], float] = {}
    for op in graph.ops:
        if op.op_type is program.Linear:
            shape = op.arrays["matrix"].shape
            if shape not in dense_costs:
                dense_costs[shape] = choose_format(np.ones(shape, np.int8), costs).cost
            op, about = _pack_op(op, costs, dense_costs[shape])
            facts.append(about)
        ops.append(op)
    return dataclasses.replace(graph, ops=ops), facts


def _pack_op(op: LoweredOp, costs: FormatCosts, dense_cost: float) -> Tuple[LoweredOp, LinearFacts]:
    matrix = op.arrays["matrix"]
    chosen = choose_format(matrix, costs)
    sparse = choose_format(matrix, costs, SPARSE_FORMATS) if SPARSE_FORMATS & set(costs) else None
    packed = pack_linear(matrix, chosen.format)
    packed["columns"], coding = code_columns(packed, chosen.format, matrix.shape[1])
    arrays: Dict[str, npt.NDArray[Any]] = {**op.arrays, **packed}
    del arrays["matrix"]
    if not chosen.format.is_sparse:
        del arrays["columns"]
    numbers = {
        **op.numbers,
        "format": int(chosen.format),
        "groups": len(packed["offsets"]) - 1,
        "column_coding": int(coding),
    }
    about = LinearFacts(
        name=op.name,
        n=matrix.shape[0],
        k=matrix.shape[1],
        sparsity=float(np.mean(matrix == 0)),
        format=chosen.format.name,
        bytes=sum(array.nbytes for array in packed.values()),
        cost=chosen.cost,
        dense_cost=dense_cost,
        per_token=op.values["output"].domain is Domain.TOKENS,
        sparse_format=sparse.format.name if sparse else "",
        sparse_cost=sparse.cost if sparse else 0.0,
    )
    return dataclasses.replace(op, arrays=arrays, numbers=numbers), about


def _estimate(costs: FormatCosts, weight_format: WeightFormat, stored: StoredUnits) -> float:
    cost = costs[weight_format]
    return float(cost.estimate(weights=stored.weights, quads=stored.units, groups=stored.groups))
