"""Min-max ranges for every quantizer of a graph, found with the float reference: no torch, no calibration."""

from __future__ import annotations

from typing import Any, Dict, List

import numpy as np

from obert_edge.host.compiler import ir
from tests.host.compiler.float_reference import evaluate


def naive_ranges(graph: ir.Graph, samples: List[List[int]], activations: str = "static") -> Dict[str, Any]:
    """The content of a ``quantization.json`` for the graph."""
    seen: Dict[str, List[np.ndarray]] = {}
    for ids in samples:
        values: Dict[str, np.ndarray] = {}
        evaluate(graph, ids, [0] * len(ids), values)
        for node in graph.nodes:
            if isinstance(node, ir.Linear) and activations == "static":
                seen.setdefault(f"{node.module}:input", []).append(values[node.input.name])
            if isinstance(node, ir.SelfAttention):
                for part in ("query", "key", "value"):
                    seen.setdefault(f"{node.module or node.name}:{part}", []).append(
                        values[getattr(node, part).name]
                    )
    quantizers = {name: _quantization_parameters(name, arrays) for name, arrays in seen.items()}
    return {"format": 1, "method": "naive", "activations": activations, "sites": quantizers}


def _quantization_parameters(name: str, arrays: List[np.ndarray]) -> Dict[str, Any]:
    lo = min(0.0, *(float(array.min()) for array in arrays))
    hi = max(0.0, *(float(array.max()) for array in arrays))
    if name.endswith((":key", ":value")):
        return {"scale": max(-lo, hi) / 127, "zero_point": 0}
    scale = (hi - lo) / 255
    return {"scale": scale, "zero_point": round(-lo / scale)}
