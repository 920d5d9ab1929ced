"""How sparse every layer of a model is, as a file for programs and one for people; and zeros that stay."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

from torch import Tensor, nn

from obert_edge.errors import UsageError
from obert_edge.host.pruning import Masks, Pattern, PruningCallback, prunable_weights
from obert_edge.host.pruning.masks import check_sparsity

JSON_FILE, TEXT_FILE = "sparsity.json", "sparsity.md"
#: A model is pruned when so large a share of any one linear of its encoder is zero. A dense one has a zero
#: here and there, from rounding.
PRUNED_SHARE = 0.01
_PATTERNS = ("8x1", "4x1", "2x1", "1x4", "2:4")
#: How far below what a model has a sparsity may be asked for and still mean the same: patterns round.
_SLACK = 0.005
#: The share of all weights from which zeros outside the pattern are worth a word.
_LOOSE = 0.001

_log = logging.getLogger(__name__)


def is_pruned(model: nn.Module) -> bool:
    """Whether any linear of the encoder has at least :data:`PRUNED_SHARE` zeros."""
    return any(
        float((weight == 0).float().mean()) >= PRUNED_SHARE for weight in prunable_weights(model).values()
    )


def keep_zeros() -> PruningCallback:
    """A callback under which the encoder's linears keep every zero they start with."""
    return PruningCallback(pattern="unstructured")


def check_target(model: nn.Module, name: str, pattern: Pattern, sparsity: float, *, at_once: bool) -> None:
    """Say what pruning a model further comes to, before it begins; nothing for a dense model.

    Args:
        model: the model; its zeros stay.
        name: what to call it.
        pattern: of what is to be removed.
        sparsity: the share that is asked for.
        at_once: whether nothing is trained, so that a model as sparse already would be left as it is.

    Raises:
        UsageError: the pattern does not fit a matrix of the model, or the model has more zeros already, or
            has as many and nothing would be done.
    """
    check_sparsity(sparsity, pattern)
    for module, weight in prunable_weights(model).items():
        pattern.check(module, tuple(weight.shape))
    masks = Masks.from_weights(model)
    have = masks.sparsity
    if have > sparsity + _SLACK or (at_once and have >= sparsity):
        raise UsageError(
            f"{name} is {have:.2%} sparse already, and zeros stay: pruning it to {sparsity:.2%} would "
            "remove nothing",
            hint=f"ask for more than --sparsity {have:.3g}, prune the dense model, or give up what is "
            "pruned with --dense",
        )
    loose = sum(_loose_zeros(mask, pattern) for mask in masks.values()) / masks.total
    if loose >= _LOOSE:
        _log.warning(
            "%s is %.2f %% sparse, and %.2f %% of all weights are zeros that pattern %s does not remove "
            "together; they stay, so the result will be between %.2f %% and %.2f %% sparse, and not every "
            "block of it whole (--dense prunes anew)",
            name,
            100 * have,
            100 * loose,
            pattern,
            100 * max(sparsity, have),
            100 * min(1.0, sparsity + loose),
        )


def check_removed(name: str, asked: float, before: float, after: float) -> None:
    """Refuse pruning without training that removed nothing, and say where it ends far above what was asked.

    Args:
        name: what to call the model.
        asked: the sparsity that was asked for.
        before: the sparsity of the model.
        after: the sparsity of what came of it.

    Raises:
        UsageError: no weight was removed.
    """
    if after == before:
        raise UsageError(
            f"{name} is {before:.2%} sparse already, and without training its zeros stay: pruning it to "
            f"{asked:.2%} removed nothing",
            hint=f"ask for more than --sparsity {before:.3g}, or train with --epochs or --max-steps",
        )
    if after > asked + _SLACK:
        _log.warning(
            "%.2f %% was asked for, and the result is %.2f %% sparse: %.2f %% were zero before and stay so "
            "without training",
            100 * asked,
            100 * after,
            100 * before,
        )


def sparsity_report(weights: Mapping[str, Tensor]) -> Dict[str, Any]:
    """Zeros of every linear of the encoder.

    Args:
        weights: its weights [out, in] by module path.

    Returns:
        ``weights``, ``zeros``, ``sparsity`` over all of them; ``layers``: the same per module, with its
        ``shape`` and the ``patterns`` that its zeros follow.
    """
    layers: List[Dict[str, Any]] = []
    for name, weight in weights.items():
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
    return {"weights": total, "zeros": zeros, "sparsity": zeros / max(1, total), "layers": layers}


def write_sparsity(weights: Mapping[str, Tensor], folder: Path) -> None:
    """Write ``sparsity.json`` and ``sparsity.md`` into a folder; ``weights``: see :func:`sparsity_report`."""
    report = sparsity_report(weights)
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


def read_sparsity(folder: Path) -> Optional[float]:
    """The share of zeros that :func:`write_sparsity` found; ``None`` where it was not asked."""
    path = folder / JSON_FILE
    return float(json.loads(path.read_text(encoding="utf-8"))["sparsity"]) if path.is_file() else None


def _follows(pattern: str, name: str, weight: Tensor) -> bool:
    parsed = Pattern.parse(pattern)
    try:
        parsed.check(name, tuple(weight.shape))
    except UsageError:
        return False
    return parsed.holds(weight.detach())


def _loose_zeros(mask: Tensor, pattern: Pattern) -> int:
    """Pruned weights of a mask [out, in] beyond those that the pattern removes together."""
    if pattern.of is not None and pattern.keep is not None:
        cells = (~mask).reshape(mask.shape[0], -1, pattern.of).sum(dim=-1)
        return int((cells - (pattern.of - pattern.keep)).clamp(min=0).sum())
    whole = int((pattern.group(mask.int()) == 0).sum())
    return int((~mask).sum()) - pattern.size * whole
