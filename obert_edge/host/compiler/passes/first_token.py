"""Computes only the first token of each sequence where nothing else is read.

A classifier reads the first token of the last layer. Everything after that layer's attention works on one
token at a time, so it need not be computed for the others: the selection moves up, in front of the
attention's output projection. With L layers this saves most of one in L.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, List, Set

from obert_edge.bundle.program import Domain
from obert_edge.host.compiler import ir


def select_first_early(graph: ir.Graph) -> ir.Graph:
    """The same results, with every ``SelectFirst`` moved up as far as it goes."""
    readers = graph.consumers()
    moved: Set[str] = set()  # names of the values that are needed for the first token only
    for node in reversed(graph.nodes):
        if node.PER_TOKEN and all(output.domain is Domain.TOKENS for output in node.outputs):
            (output,) = node.outputs
            needed_by = readers.get(output.name, [])
            if needed_by and all(_reads_first_only(reader, moved) for reader in needed_by):
                moved.add(output.name)
    if not moved:
        return graph
    return dataclasses.replace(graph, nodes=_Rewrite(moved).run(graph.nodes))


def _reads_first_only(reader: ir.Node, moved: Set[str]) -> bool:
    return isinstance(reader, ir.SelectFirst) or _writes_one_of(moved, reader)


def _writes_one_of(moved: Set[str], node: ir.Node) -> bool:
    return any(output.name in moved for output in node.outputs)


class _Rewrite:
    """Copies a graph; the nodes that write one of ``moved`` work on sequences instead of tokens."""

    def __init__(self, moved: Set[str]) -> None:
        self.moved = moved
        self.nodes: List[ir.Node] = []
        self.first: Dict[str, ir.Tensor] = {}  # value -> its first tokens

    def run(self, nodes: List[ir.Node]) -> List[ir.Node]:
        renamed: Dict[str, ir.Tensor] = {}  # output of a dropped SelectFirst -> the value in its place
        for node in nodes:
            if isinstance(node, ir.SelectFirst) and node.input.name in self.moved:
                renamed[node.output.name] = self.first[node.input.name]
            elif _writes_one_of(self.moved, node):
                self.nodes.append(self._on_first(node))
            else:
                self.nodes.append(_with_inputs(node, renamed))
        return self.nodes

    def _on_first(self, node: ir.Node) -> ir.Node:
        """The node on sequences instead of tokens."""
        inputs = {tensor.name: self._select(tensor) for tensor in node.inputs}
        (output,) = node.outputs
        output = dataclasses.replace(output, domain=Domain.SEQUENCES)
        self.first[output.name] = output
        changed: Any = _with_inputs(node, inputs)
        moved: ir.Node = dataclasses.replace(changed, output=output)
        return moved

    def _select(self, tensor: ir.Tensor) -> ir.Tensor:
        """The first tokens of a value; selected once, however many nodes read them."""
        if tensor.name not in self.first:
            output = ir.Tensor(f"{tensor.name}.first", tensor.channels, Domain.SEQUENCES)
            self.nodes.append(ir.SelectFirst(output.name, tensor, output))
            self.first[tensor.name] = output
        return self.first[tensor.name]


def _with_inputs(node: Any, replaced: Dict[str, ir.Tensor]) -> ir.Node:
    """The node with some of its inputs, by their names, replaced by other values."""
    changes = {
        spec.name: replaced[value.name]
        for spec in dataclasses.fields(node)
        if spec.name != "output"
        and isinstance(value := getattr(node, spec.name), ir.Tensor)
        and value.name in replaced
    }
    changed: ir.Node = dataclasses.replace(node, **changes)
    return changed
