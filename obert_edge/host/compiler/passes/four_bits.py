"""The word embeddings of a packed graph in four bits, all else as it is."""

from __future__ import annotations

import dataclasses
from typing import List

from obert_edge.bundle import program
from obert_edge.bundle.program import RowFormat
from obert_edge.host.compiler import ir
from obert_edge.host.compiler.lowered import LoweredGraph, LoweredOp


def four_bit_words(graph: ir.Graph, packed: LoweredGraph) -> LoweredGraph:
    """The graph that ``quantize`` and ``pack`` make with INT4 rows, without packing the linears again.

    Args:
        graph: what was lowered, with the word embeddings in float.
        packed: what became of it, with INT8 rows.
    """
    nodes = {node.name: node for node in graph.nodes if isinstance(node, ir.Embedding)}
    ops: List[LoweredOp] = []
    for op in packed.ops:
        rows = nodes[op.name].word_rows(RowFormat.INT4) if op.op_type is program.Embed else {}
        if rows:
            numbers = {**op.numbers, "word_format": int(RowFormat.INT4)}
            op = dataclasses.replace(op, arrays={**op.arrays, **rows}, numbers=numbers)
        ops.append(op)
    return dataclasses.replace(packed, ops=ops)
