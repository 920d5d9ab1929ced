#!/usr/bin/env python3
"""Compare one-shot pruning methods on a fine-tuned text classifier.

    tools/studies/pruning.py --model DENSE_DIR --data SST2_DIR --output docs/results/pruning_study.json

Every cell (method, pattern, sparsity) prunes the dense model anew, without training, and measures
accuracy and loss on the dev rows. All methods see the same train batches. Cells that the output
already has are kept: run the same command again to go on where it was stopped; processes with other
cells may share an output. Beside the JSON a table in Markdown is written. DENSE_DIR is a model folder of
`obert-edge finetune`; SST2_DIR has GLUE's TSV files.

Fisher blocks are accumulated once per layout and block size and serve every cell: with the defaults
(256 gradients, MiniLM-L6) by estimate two minutes on two idle cores, and then 10 to 30 s a cell. Only
recomputations and permuted models take gradients of their own.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import torch

from obert_edge.errors import UsageError
from obert_edge.host.pruning import (
    Masks,
    Pattern,
    Surgeon,
    permute_channels,
    prunable_weights,
    prune_one_shot,
)
from obert_edge.host.pruning.fisher import BlockFisher, BlockLayout, accumulate
from obert_edge.host.pruning.gradients import GradientSampler
from obert_edge.host.pruning.step import PruningStep
from tools.studies.examples import Study, load_study
from tools.studies.rows import StudyRows, mcnemar_of

METHODS: Dict[str, Dict[str, Any]] = {
    "magnitude": {"criterion": "magnitude"},
    "movement": {"criterion": "movement"},
    "wanda": {"criterion": "wanda"},
    "sparsegpt": {"criterion": "sparsegpt"},
    # The paper's: blocks of the flattened matrix, 50 for single weights, every update for itself.
    "paper": {"criterion": "obert", "layout": "flat", "solver": "paper", "block_size": 50},
    "separate": {"criterion": "obert", "solver": "paper"},
    "joint": {"criterion": "obert"},
    "joint, 4 rescorings": {"criterion": "obert", "rescorings": 4},
    "joint, 16 rescorings": {"criterion": "obert", "rescorings": 16},
    "permuted, 4 rescorings": {"criterion": "obert", "rescorings": 4, "channel_permutation": True},
    "greedy": {"criterion": "obert", "selection": "greedy"},
    "joint, 4 recomputations": {"criterion": "obert", "recomputations": 4},
}
"""Methods by name; options are those of :class:`Surgeon` with rows of 32 unless they say otherwise."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="folder of the fine-tuned dense model")
    parser.add_argument("--data", type=Path, required=True, help="folder with the task's TSV files")
    parser.add_argument("--task", default="sst2")
    parser.add_argument("--output", type=Path, required=True, help="JSON file to write, and .md beside it")
    parser.add_argument("--patterns", nargs="+", default=["unstructured", "1x4", "2x1", "4x1", "8x1", "2:4"])
    parser.add_argument("--sparsities", nargs="+", type=float, default=[0.5, 0.6, 0.7, 0.8, 0.9])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--gradients", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--dampening", type=float, default=1e-7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--max-seconds", type=float, help="begin no cell after this; run again to go on")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    started = time.perf_counter()
    study = load_study(
        options.model, options.data, options.task, options.gradients, options.batch_size, options.seed
    )
    settings = {
        key: getattr(options, key) for key in ("task", "gradients", "batch_size", "dampening", "seed")
    }
    dense = {"method": "dense", "pattern": "-", "sparsity": 0.0, **study.score(study.model())}
    found = StudyRows(
        options.output, settings, same=tuple(settings), cell=("method", "pattern", "target"), table=table
    )
    if not found.rows:
        found.add(dense)
    if found.rows[0]["wrong"] != dense["wrong"]:
        raise UsageError(
            f"{options.output} is of another model: its dense accuracy is {found.rows[0]['accuracy']:.2f}",
            hint="give another --output, or remove the file",
        )
    fishers = Fishers(study)
    for method, pattern, sparsity in cells(options.methods, options.patterns, options.sparsities):
        if found.has(method, pattern, sparsity):
            continue
        if options.max_seconds is not None and time.perf_counter() - started > options.max_seconds:
            print("time is up; run the same command again to go on")
            break
        model = study.model()
        begun = time.perf_counter()
        figures = prune(model, study, fishers, method, Pattern.parse(pattern), sparsity, options)
        row = {"method": method, "pattern": pattern, "target": sparsity, **figures}
        row["seconds"] = time.perf_counter() - begun
        row.update(study.score(model))
        show(row)
        found.add(row)


def cells(methods: List[str], patterns: List[str], sparsities: List[float]) -> List[Tuple[str, str, float]]:
    """What is to be measured; methods that share Fisher blocks one after the other."""
    found = []
    for method in methods:
        for pattern in patterns:
            shape = Pattern.parse(pattern)
            for sparsity in sparsities:
                if sparsity > shape.max_sparsity + 1e-9:
                    continue
                if method == "sparsegpt" and shape.of is not None and sparsity < shape.max_sparsity:
                    continue  # it always removes as many as N:M allows
                found.append((method, pattern, sparsity))
    return found


class Fishers:
    """Fisher blocks of the dense model, accumulated when first asked for; those of one layout at a time."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self._key: Optional[Tuple[str, int]] = None
        self._blocks: Dict[str, BlockFisher] = {}

    def get(self, layout: str, block_size: int) -> Dict[str, BlockFisher]:
        """The Fisher blocks of every matrix."""
        if self._key != (layout, block_size):
            self._blocks = {}
            model = self._study.model()
            weights = prunable_weights(model)
            layouts = {
                name: BlockLayout((weight.shape[0], weight.shape[1]), block_size, layout)
                for name, weight in weights.items()
            }
            source = GradientSampler(model, self._study.batches)
            self._blocks = accumulate(source, weights, Masks.from_weights(model), layouts)
            self._key = (layout, block_size)
        return self._blocks


def prune(
    model: torch.nn.Module,
    study: Study,
    fishers: Fishers,
    method: str,
    pattern: Pattern,
    sparsity: float,
    options: argparse.Namespace,
) -> Dict[str, Any]:
    """Prune as one cell says; what the report has of it."""
    settings = dict(METHODS[method])
    criterion, permuted = settings.pop("criterion"), settings.pop("channel_permutation", False)
    if criterion != Surgeon.name:
        report = prune_one_shot(
            model, study.batches, sparsity=sparsity, pattern=pattern, criterion=criterion,
            gradients=options.gradients,
        )  # fmt: skip
        return {"sparsity": report.sparsity, "loss_increase": None}
    if settings.get("block_size", 32) % (pattern.of or pattern.columns):
        settings["block_size"] = 32  # as the paper's code has it for 1x4
    surgeon = Surgeon(dampening=options.dampening, **settings)
    surgeon.check_pattern(pattern)
    if permuted:
        permute_channels(model, study.batches, pattern=pattern, sparsity=sparsity, surgeon=surgeon)
    if surgeon.options.recomputations > 1 or permuted:  # with gradients of its own
        report = prune_one_shot(
            model, study.batches, sparsity=sparsity, pattern=pattern, criterion=surgeon,
            gradients=options.gradients,
        )  # fmt: skip
        return {"sparsity": report.sparsity, "loss_increase": report.loss_increase}
    masks = Masks.from_weights(model)
    weights = prunable_weights(model)
    step = PruningStep(weights, masks, dict.fromkeys(weights, 0), surgeon.options, pattern)
    step.score(fishers.get(surgeon.options.layout, surgeon.options.block_size))
    step.run(sparsity, surgeon.options.rescorings)
    masks.apply(model)
    return {"sparsity": masks.sparsity, "loss_increase": step.loss_increase()}


def table(settings: Dict[str, Any], rows: List[Dict[str, Any]], reference: str = "joint") -> str:
    """Accuracy by pattern and sparsity (rows) and method (columns)."""
    methods = [m for m in METHODS if any(row["method"] == m for row in rows)]
    by_cell = {(row["method"], row["pattern"], row["target"]): row for row in rows[1:]}
    groups = list(dict.fromkeys((row["pattern"], row["target"]) for row in rows[1:]))
    order = list(dict.fromkeys(row["pattern"] for row in rows[1:]))
    lines = [
        f"Dense: {rows[0]['accuracy']:.2f}. {settings['gradients']} gradients of {settings['batch_size']}"
        f" sentences, dampening {settings['dampening']:g}, no training. \\*: differs from {reference} at"
        " p < 0.05 (exact McNemar test on the dev rows).",
        "",
        "| pattern | sparsity | " + " | ".join(methods) + " |",
        "|---" * (2 + len(methods)) + "|",
    ]
    for pattern, target in sorted(groups, key=lambda group: (order.index(group[0]), group[1])):
        base = by_cell.get((reference, pattern, target))
        cells = []
        for method in methods:
            row = by_cell.get((method, pattern, target))
            star = row is not None and base is not None and mcnemar_of(row, base) < 0.05
            cells.append("" if row is None else f"{row['accuracy']:.1f}{'*' if star else ''}")
        lines.append(f"| {pattern} | {target:.0%} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def show(row: Dict[str, Any]) -> None:
    print(
        f"{row['pattern']:>12} {row['sparsity']:6.1%} {row['method']:<24} accuracy {row['accuracy']:6.2f}"
        f"  loss {row['loss']:.3f}  {row['seconds']:5.0f} s",
        flush=True,
    )


if __name__ == "__main__":
    main()
