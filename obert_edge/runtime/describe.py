"""What a bundle holds, for ``inspect``: layers, sparsity, formats, bytes, predicted speed-up."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Dict, List, Tuple, Union

from obert_edge.bundle.container import ENGINE, MANIFEST, Bundle
from obert_edge.bundle.manifest import LinearFacts, Manifest
from obert_edge.runtime.library import library_architecture
from obert_edge.runtime.text_table import megabytes, text_table


def describe(path: Union[str, Path], *, plain: bool = False) -> Tuple[str, Dict[str, Any]]:
    """Describe a bundle without running it; works for bundles of any target.

    Args:
        path: the ``.oeb`` file.
        plain: do not use rich for the tables even where it is installed.

    Returns:
        Text for people, and the same facts for JSON.

    Raises:
        BundleError: not a bundle, truncated, altered, or of a newer format.
    """
    with Bundle.open(path, "header") as bundle:
        manifest = bundle.manifest
        architecture = library_architecture(bundle.member(ENGINE)) if ENGINE in bundle else None
        size = bundle.path.stat().st_size
        member_bytes = {name: len(bundle.member(name)) for name in bundle.names if name != MANIFEST}
        ops = len(bundle.program.ops)
    facts: Dict[str, Any] = {
        "path": str(path),
        "bytes": size,
        "engine_architecture": architecture,
        "ops": ops,
        "member_bytes": member_bytes,
        "predicted_speedup_over_dense": predicted_speedup(manifest.linears),
        **dataclasses.asdict(manifest),
    }
    return "\n".join(_lines(manifest, facts, plain)), facts


def predicted_speedup(linears: List[LinearFacts]) -> float:
    """Time of the linears that run on every token, stored dense, over their time as packed (cost model)."""
    per_token = [linear for linear in linears if linear.per_token]
    cost = sum(linear.cost for linear in per_token)
    return sum(linear.dense_cost for linear in per_token) / cost if cost > 0 else 1.0


def _lines(manifest: Manifest, facts: Dict[str, Any], plain: bool) -> List[str]:
    model, task = manifest.model, manifest.task
    lines = [
        f"{facts['path']}: {megabytes(facts['bytes'])}, format {manifest.format_version}, "
        f"target {manifest.target} ({facts['engine_architecture'] or 'no engine inside'})",
        f"{model.class_name}: {model.layers} layers, H={model.hidden}, {model.heads} heads, "
        f"intermediate {model.intermediate}, vocabulary {model.vocabulary}, up to {model.max_length} tokens",
        f"task {task.type}{f' ({task.problem_type})' if task.problem_type else ''}"
        + (f", labels {_short(task.labels)}" if task.labels else "")
        + (f", pooling {task.pooling}" if task.pooling else ""),
        "outputs "
        + ", ".join(f"{output.name} [{output.domain}, {output.channels}]" for output in manifest.outputs),
        f"quantisation {manifest.quantization.method}, {manifest.quantization.activations} activations",
        f"sparsity {100 * manifest.sparsity:.1f} %, linears predicted "
        f"{facts['predicted_speedup_over_dense']:.2f}x faster than the same stored dense",
        "",
    ]
    rows = [
        [
            linear.name,
            f"{linear.n}x{linear.k}",
            f"{100 * linear.sparsity:.1f} %",
            linear.format.lower(),
            f"{linear.bytes / 1024:.1f}",
            f"{linear.dense_cost / linear.cost:.2f}x" if linear.cost > 0 else "",
        ]
        for linear in manifest.linears
    ]
    lines.append(text_table(["linear", "OUTxIN", "zeros", "format", "KiB", "vs dense"], rows, plain=plain))
    lines.append("")
    sizes = {name: size for name, size in facts["member_bytes"].items() if not name.endswith(".py")}
    sizes["runner (Python)"] = sum(
        size for name, size in facts["member_bytes"].items() if name.endswith(".py")
    )
    member_rows = [[name, megabytes(size)] for name, size in sizes.items()]
    lines.append(text_table(["member", "size"], member_rows, plain=plain))
    return lines


def _short(labels: List[str]) -> str:
    return ", ".join(labels) if len(labels) <= 8 else f"{', '.join(labels[:7])}, ... ({len(labels)})"
