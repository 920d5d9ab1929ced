"""How sparse every layer of a model is, as a file for programs and one for people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List

from torch import nn

from obert_edge.errors import UsageError
from obert_edge.host.pruning import Pattern, prunable_weights

JSON_FILE, TEXT_FILE = "sparsity.json", "sparsity.md"
_PATTERNS = ("8x1", "4x1", "2x1", "1x4", "2:4")


def sparsity_report(model: nn.Module) -> Dict[str, Any]:
    """Zeros of every linear of the encoder.

    Returns:
        ``weights``, ``zeros``, ``sparsity`` over all of them; ``layers``: the same per module, with its
        ``shape`` and the ``patterns`` that its zeros follow.
    """
    layers: List[Dict[str, Any]] = []
    for name, weight in prunable_weights(model).items():
        zeros = int((weight == 0).sum())
        layers.append(
            {
                "module": name,
                "shape": list(weight.shape),
                "weights": weight.numel(),
                "zeros": zeros,
                "sparsity": zeros / weight.numel(),
                "patterns": [pattern for pattern in _PATTERNS if zeros and _follows(pattern, name, weight)],
            }
        )
    total, zeros = (sum(layer[key] for layer in layers) for key in ("weights", "zeros"))
    return {"weights": total, "zeros": zeros, "sparsity": zeros / total, "layers": layers}


def write_sparsity(model: nn.Module, folder: Path) -> None:
    """Write ``sparsity.json`` and ``sparsity.md`` into a folder."""
    report = sparsity_report(model)
    (folder / JSON_FILE).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    lines = [
        f"{100 * report['sparsity']:.2f} % of {report['weights']} encoder weights are zero.",
        "",
        "| module | shape | zero % | patterns |",
        "|---|---|---|---|",
    ]
    for layer in report["layers"]:
        shape = "x".join(map(str, layer["shape"]))
        patterns = " ".join(layer["patterns"])
        lines.append(f"| {layer['module']} | {shape} | {100 * layer['sparsity']:.2f} | {patterns} |")
    (folder / TEXT_FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _follows(pattern: str, name: str, weight: nn.Parameter) -> bool:
    parsed = Pattern.parse(pattern)
    try:
        parsed.check(name, tuple(weight.shape))
    except UsageError:
        return False
    return parsed.holds(weight.detach())
