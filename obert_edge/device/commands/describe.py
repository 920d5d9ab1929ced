"""What a bundle holds, for ``inspect``: layers, sparsity, formats, bytes, estimated speed-up."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Dict, List, Tuple, Union

from obert_edge.bundle.container import CASES, ENGINE, MANIFEST, PROGRAM, TOKENIZER, WEIGHTS, Bundle
from obert_edge.bundle.manifest import LinearFacts, Manifest
from obert_edge.bundle.program import ABSENT, Embed, Program
from obert_edge.device.roofline.estimate import Estimate, estimate
from obert_edge.device.runtime.library import library_architecture
from obert_edge.device.text_table import megabytes, milliseconds, text_table

#: Lengths, in tokens, that times are estimated for, as far as the model takes them.
_LENGTHS = (32, 128, 384)
#: Constants of linears and norms by what ``inspect`` calls them.
_PARTS = {
    "rows": "rows and offsets",
    "offsets": "rows and offsets",
    "scale": "scales and biases",
    "bias": "scales and biases",
    "correction": "scales and biases",
    "gamma": "LayerNorm",
    "beta": "LayerNorm",
}


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
        program = bundle.program
        parts = part_bytes(program, member_bytes, size)
    lengths = sorted({min(length, program.max_positions) for length in _LENGTHS})
    estimates = [found for length in lengths if (found := estimate(program, manifest, length)) is not None]
    facts: Dict[str, Any] = {
        "path": str(path),
        "bytes": size,
        "engine_architecture": architecture,
        "ops": len(program.ops),
        "encoder_sparsity": manifest.encoder_sparsity,
        "member_bytes": member_bytes,
        "part_bytes": parts,
        "estimated_speedup_over_dense": estimated_speedup(manifest.linears),
        "estimates": [
            {
                **dataclasses.asdict(found),
                "over_dense_int8": found.over_dense_int8,
                "over_dense_fp32": found.over_dense_fp32,
                "warnings": found.warnings,
            }
            for found in estimates
        ],
        **dataclasses.asdict(manifest),
    }
    lines = "\n".join(_lines(manifest, facts, estimates, plain))
    return printable(lines), facts


def printable(text: str) -> str:
    """Text with every control character but the line feed spelled out.

    Names and labels are whoever built the bundle's, and a terminal obeys what it is sent.
    """
    return "\n".join(
        line if line.isprintable() else "".join(one if one.isprintable() else repr(one)[1:-1] for one in line)
        for line in text.split("\n")
    )


def part_bytes(program: Program, member_bytes: Dict[str, int], size: int) -> Dict[str, int]:
    """Bytes of each part of a bundle; they add up to the file.

    Args:
        program: the compiled graph; its constants are told apart by what the ops call them.
        member_bytes: bytes of each member, by name.
        size: bytes of the file.
    """
    parts: Dict[str, int] = {}
    counted = set()
    for op in program.ops:
        for name in op.CONSTS:
            index = getattr(op, name)
            if index == ABSENT or index in counted:
                continue
            counted.add(index)
            part = "embeddings" if isinstance(op, Embed) else _PARTS.get(name, name)
            parts[part] = parts.get(part, 0) + program.consts[index].bytes
    parts["alignment"] = member_bytes[WEIGHTS] - sum(parts.values())
    parts["runner (Python)"] = sum(bytes_ for name, bytes_ in member_bytes.items() if name.endswith(".py"))
    others = {
        PROGRAM: "compiled graph",
        TOKENIZER: "tokenizer",
        CASES: "test cases",
        ENGINE: "engine library",
    }
    parts.update({part: member_bytes[name] for name, part in others.items() if name in member_bytes})
    parts["manifest and archive"] = size - sum(member_bytes.values())
    return dict(sorted(parts.items(), key=lambda part: -part[1]))


def estimated_speedup(linears: List[LinearFacts]) -> float:
    """Times faster than stored dense, by the packer's costs, of the linears that run on every token."""
    per_token = [linear for linear in linears if linear.per_token]
    cost = sum(linear.cost for linear in per_token)
    return sum(linear.dense_cost for linear in per_token) / cost if cost > 0 else 1.0


def _lines(manifest: Manifest, facts: Dict[str, Any], estimates: List[Estimate], plain: bool) -> List[str]:
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
        f"quantization {manifest.quantization.method}, {manifest.quantization.activations} activations, "
        f"{manifest.quantization.embeddings} word embeddings",
        f"quality {manifest.quality.summary}",
        *([manifest.source.summary] if manifest.source.is_known else []),
        f"says it is signed by {manifest.signature.key} (`verify --key` checks it)"
        if manifest.signature.key
        else "not signed",
        f"sparsity {100 * manifest.encoder_sparsity:.1f} % in the linears of the encoder's layers, which "
        f"pruning counts; {100 * manifest.sparsity:.1f} % with those of pooler and head",
        f"linears estimated {facts['estimated_speedup_over_dense']:.2f}x faster than the same stored dense",
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
    part_rows = [
        [part, megabytes(size), f"{100 * size / facts['bytes']:.1f} %"]
        for part, size in facts["part_bytes"].items()
    ]
    lines.append(text_table(["part", "size", "of the file"], part_rows, plain=plain))
    return [*lines, "", *_estimated(estimates, plain)]


def _estimated(estimates: List[Estimate], plain: bool) -> List[str]:
    if not estimates:
        return ["no speed can be estimated: the bundle does not carry its target's measured numbers"]
    rows = [
        [
            f"1 x {found.sequence_length}",
            milliseconds(found.ms),
            *(milliseconds(found.kinds.get(kind, 0.0)) for kind in ("Linear", "Attention")),
            f"{found.over_dense_int8:.2f}x",
            f"{found.over_dense_fp32:.2f}x",
        ]
        for found in estimates
    ]
    headers = [
        "sequences x tokens, 1 thread",
        "ms",
        "linears",
        "attention",
        "over dense INT8",
        "over FP32 at best",
    ]
    return [
        "estimated from the target's measured numbers, milliseconds:",
        text_table(headers, rows, plain=plain),
        *(f"WARNING: {line}" for line in estimates[0].warnings),
    ]


def _short(labels: List[str]) -> str:
    return ", ".join(labels) if len(labels) <= 8 else f"{', '.join(labels[:7])}, ... ({len(labels)})"
