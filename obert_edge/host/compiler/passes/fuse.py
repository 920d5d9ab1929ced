"""Merges activations and residual additions into the linear in front of them.

The engine applies them to each output while it is in a register, so a value
between a linear and its activation is never written to memory.
"""

from __future__ import annotations

import dataclasses
from typing import List

from obert_edge.bundle.program import Activation
from obert_edge.errors import CheckpointError
from obert_edge.host.compiler import ir


def fuse(graph: ir.Graph) -> ir.Graph:
    """The same graph without ``Activate`` and ``Add`` nodes.

    Raises:
        CheckpointError: one of them does not follow a linear whose value nothing else reads.
    """
    readers = graph.consumers()
    nodes: List[ir.Node] = []
    for node in graph.nodes:
        if isinstance(node, ir.Activate):
            at = _linear_before(nodes, node.input, readers, node)
            linear = nodes[at]
            assert isinstance(linear, ir.Linear)
            if linear.activation is not Activation.NONE or linear.residual is not None:
                raise _cannot(node)
            nodes[at] = dataclasses.replace(linear, output=node.output, activation=node.function)
        elif isinstance(node, ir.Add):
            at = _linear_before(nodes, node.left, readers, node)
            linear = nodes[at]
            assert isinstance(linear, ir.Linear)
            if linear.residual is not None:
                raise _cannot(node)
            nodes[at] = dataclasses.replace(linear, output=node.output, residual=node.right)
        else:
            nodes.append(node)
    return dataclasses.replace(graph, nodes=nodes)


def _linear_before(
    nodes: List[ir.Node], value: ir.Tensor, readers: dict[str, List[ir.Node]], node: ir.Node
) -> int:
    """Index of the linear that writes ``value`` for this node alone."""
    for at in reversed(range(len(nodes))):
        candidate = nodes[at]
        if isinstance(candidate, ir.Linear) and candidate.output == value:
            if len(readers[value.name]) == 1:
                return at
            break
    raise _cannot(node)


def _cannot(node: ir.Node) -> CheckpointError:
    return CheckpointError(
        f"the engine cannot compute {node.name!r} alone: it must follow a linear that nothing else reads",
        hint="this graph does not come from a supported architecture",
    )
