"""Merges activations and residual additions into the linear in front of them.

The engine applies them as the linear's epilogue, to each output while it is in a register, so a value between
a linear and its activation is never written to memory.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Dict, List, Optional, Tuple, Type

from obert_edge.bundle.program import Activation
from obert_edge.errors import CheckpointError
from obert_edge.host.compiler import ir


def _with_activation(node: ir.Activate, linear: ir.Linear) -> Optional[ir.Linear]:
    if linear.activation is not Activation.NONE or linear.residual is not None:
        return None
    return dataclasses.replace(linear, output=node.output, activation=node.function)


def _with_residual(node: ir.Add, linear: ir.Linear) -> Optional[ir.Linear]:
    if linear.residual is not None:
        return None
    return dataclasses.replace(linear, output=node.output, residual=node.right)


#: For each kind of node that becomes part of a linear: the field that names the value the linear must write,
#: and how the linear takes the node in (None: it has taken in another already).
_FUSIONS: Dict[Type[ir.Node], Tuple[str, Callable[[Any, ir.Linear], Optional[ir.Linear]]]] = {
    ir.Activate: ("input", _with_activation),
    ir.Add: ("left", _with_residual),
}


def fuse(graph: ir.Graph) -> ir.Graph:
    """The same graph without ``Activate`` and ``Add`` nodes.

    Raises:
        CheckpointError: one of them does not follow a linear whose value nothing else reads.
    """
    readers = graph.consumers()
    nodes: List[ir.Node] = []
    for node in graph.nodes:
        if type(node) not in _FUSIONS:
            nodes.append(node)
            continue
        follows, merge = _FUSIONS[type(node)]
        index, linear = _linear_before(nodes, getattr(node, follows), readers, node)
        merged = merge(node, linear)
        if merged is None:
            raise _cannot(node)
        nodes[index] = merged
    return dataclasses.replace(graph, nodes=nodes)


def _linear_before(
    nodes: List[ir.Node], value: ir.Tensor, readers: Dict[str, List[ir.Node]], node: ir.Node
) -> Tuple[int, ir.Linear]:
    """The linear that writes ``value`` for this node alone, and its index."""
    for index in reversed(range(len(nodes))):
        candidate = nodes[index]
        if isinstance(candidate, ir.Linear) and candidate.output == value:
            if len(readers[value.name]) == 1:
                return index, candidate
            break
    raise _cannot(node)


def _cannot(node: ir.Node) -> CheckpointError:
    return CheckpointError(
        f"the engine cannot compute {node.name!r} alone: it must follow a linear that nothing else reads",
        hint="this graph does not come from a supported architecture",
    )
