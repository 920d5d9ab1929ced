"""Float graphs of tiny checkpoints, what they compute, and what they are lowered to."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Tuple

import numpy as np

from obert_edge.bundle.manifest import LinearFacts
from obert_edge.host.checkpoints.checkpoint import Checkpoint
from obert_edge.host.checkpoints.model_config import read_config
from obert_edge.host.checkpoints.scales import Scales
from obert_edge.host.compiler import ir
from obert_edge.host.compiler.importer import import_graph
from obert_edge.host.compiler.lowered import LoweredGraph
from obert_edge.host.compiler.passes.first_token import select_first_early
from obert_edge.host.compiler.passes.fuse import fuse
from obert_edge.host.compiler.passes.pack import pack
from obert_edge.host.compiler.passes.quantize import quantize
from obert_edge.targets import get_target
from tests.host.compiler.float_reference import evaluate
from tests.host.compiler.naive_ranges import naive_ranges
from tests.host.compiler.tiny_checkpoints import save_model

#: The token ids of the one sequence that graphs are evaluated, and ranges found, on.
IDS = [5, 17, 99, 3, 42]


def imported_graph(folder: Path, task: str, *, architecture: str = "bert", layers: int = 2) -> ir.Graph:
    """The unfused graph of a tiny model, which is saved in ``folder``."""
    save_model(folder, architecture, task, layers=layers)
    checkpoint = Checkpoint.open(folder)
    return import_graph(checkpoint, read_config(checkpoint))


def results_of(graph: ir.Graph) -> Dict[str, np.ndarray]:
    """What the graph computes of :data:`IDS`, by the name of the result."""
    return evaluate(graph, IDS, [0] * len(IDS))


def packed_graph(graph: ir.Graph, activations: str = "static") -> Tuple[LoweredGraph, List[LinearFacts]]:
    """The graph after all passes but the last, for target x86, and what was chosen for its linears."""
    fused = select_first_early(fuse(graph))
    scales = Scales.from_mapping(naive_ranges(fused, [IDS], activations), "bert.")
    return pack(quantize(fused, scales), get_target("x86").format_costs)
