"""Chooses the cheapest weight format for every linear, by the target's measured costs, and packs it."""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, List, NamedTuple, Optional, Protocol, Tuple

import numpy as np
import numpy.typing as npt

from obert_edge.bundle import program
from obert_edge.bundle.manifest import LinearFacts
from obert_edge.bundle.packing import count_units, pack_linear, supports
from obert_edge.bundle.program import Domain, WeightFormat
from obert_edge.compiler.lowered import LoweredGraph, LoweredOp
from obert_edge.errors import CheckpointError

Int8s = npt.NDArray[np.int8]


class CostModel(Protocol):
    """What a target says about its kernels (``obert_edge.targets.Target`` is one)."""

    def linear_cost(self, weight_format: WeightFormat, units: int, groups: int, k: int) -> float:
        """Predicted time of one linear per full token panel."""


class Choice(NamedTuple):
    """A format and what it is predicted to cost."""

    format: WeightFormat
    cost: float


def choose_format(matrix: Int8s, costs: CostModel) -> Choice:
    """The cheapest format that can hold an int8 [n, k] matrix.

    Raises:
        CheckpointError: no format can, as k is too large.
    """
    choices: List[Choice] = []
    for weight_format in WeightFormat:
        if supports(weight_format, matrix.shape[1]):
            stored = count_units(matrix, weight_format)
            cost = costs.linear_cost(weight_format, stored.units, stored.groups, matrix.shape[1])
            choices.append(Choice(weight_format, cost))
    if not choices:
        raise CheckpointError(
            f"a linear of {matrix.shape[1]} input channels is too wide for the engine",
            hint="start from a narrower model",
        )
    return min(choices, key=lambda choice: choice.cost)


def pack(graph: LoweredGraph, costs: CostModel) -> Tuple[LoweredGraph, List[LinearFacts]]:
    """Replace every linear's ``matrix`` by its packed arrays.

    Returns:
        the graph, and for each linear what was chosen and why it should be fast.
    """
    ops: List[LoweredOp] = []
    facts: List[LinearFacts] = []
    for op in graph.ops:
        if op.op_type is program.Linear:
            op, about = _pack_op(op, costs)
            facts.append(about)
        ops.append(op)
    return dataclasses.replace(graph, ops=ops), facts


def _pack_op(op: LoweredOp, costs: CostModel) -> Tuple[LoweredOp, LinearFacts]:
    matrix = op.arrays["matrix"]
    chosen = choose_format(matrix, costs)
    packed = pack_linear(matrix, chosen.format)
    arrays: Dict[str, npt.NDArray[Any]] = {k: v for k, v in op.arrays.items() if k != "matrix"}
    arrays.update({name: array for name, array in packed.items() if array.size or name == "weights"})
    if chosen.format is WeightFormat.DENSE_4:
        del arrays["columns"]
    numbers = {**op.numbers, "format": int(chosen.format), "groups": len(packed["offsets"]) - 1}
    about = LinearFacts(
        name=op.name,
        n=matrix.shape[0],
        k=matrix.shape[1],
        sparsity=float(np.mean(matrix == 0)),
        format=chosen.format.name,
        bytes=sum(array.nbytes for array in packed.values()),
        cost=chosen.cost,
        dense_cost=_dense_cost(matrix, costs),
        per_token=op.values["output"].domain is Domain.TOKENS,
    )
    return dataclasses.replace(op, arrays=arrays, numbers=numbers), about


def _dense_cost(matrix: Int8s, costs: CostModel) -> float:
    """Cost of the same layer with no zeros."""
    n, k = matrix.shape
    full = WeightFormat.DENSE_4 if supports(WeightFormat.DENSE_4, k) else WeightFormat.ROW_GATHER_4
    groups = -(-n // 4)
    return costs.linear_cost(full, groups * -(-k // 4), groups, k)
