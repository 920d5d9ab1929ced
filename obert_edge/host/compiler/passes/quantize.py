"""Float graph to INT8 ops: decides which values become 8 bits, and lets every node write its ops."""

from __future__ import annotations

from obert_edge.host.checkpoints.scales import Scales
from obert_edge.host.compiler import ir
from obert_edge.host.compiler.lowered import LoweredGraph
from obert_edge.host.compiler.lowering import Lowering


def quantize(graph: ir.Graph, scales: Scales) -> LoweredGraph:
    """Lower a fused graph.

    Args:
        graph: what ``fuse`` returned.
        scales: the quantization parameters of every quantizer of the graph.

    Raises:
        CheckpointError: a quantizer has no scale.
    """
    reads = [read for node in graph.nodes for read in node.reads(scales)]
    lowering = Lowering(graph.max_length, scales, reads)
    for node in graph.nodes:
        node.lower(lowering)
    return lowering.graph
