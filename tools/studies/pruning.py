"""Compare one-shot pruning methods on a fine-tuned text classifier.

    python -m tools.studies.pruning --model DENSE_DIR --data SST2_DIR --output docs/results/pruning_study.json
    python -m tools.studies.pruning ... --patterns 4x1 --sparsities 0.8 --methods magnitude joint

Every cell (method, pattern, sparsity) prunes the dense model anew, without training, and measures accuracy
and loss on the dev rows. All methods see the same train batches. Cells that the output already has are kept:
run the same command again to go on where it was stopped; processes with other cells may share an output. A
table in Markdown is written beside the JSON. DENSE_DIR is a model folder of `obert-edge finetune`; SST2_DIR
has GLUE's TSV files.

Fisher blocks are accumulated once for each layout and block size and serve every cell; only recomputations
and permuted models take gradients of their own.

Needs: the host's packages (torch, transformers).
Takes: some 80 seconds a cell of MiniLM-L6 on two cores (155 cells of pruning_study.json took 3.3 hours); the
default is 338 cells.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch

from obert_edge.errors import UsageError
from obert_edge.host.pruning import (
    Masks,
    OutputLoss,
    Pattern,
    Surgeon,
    permute_channels,
    prunable_weights,
    prune_one_shot,
)
from obert_edge.host.pruning.fisher import BlockFisher, BlockLayout, accumulate
from obert_edge.host.pruning.gradients import GradientSampler
from obert_edge.host.pruning.step import PruningStep
from tools import command_line
from tools.studies.examples import Study, load_study
from tools.studies.rows import StudyRows, mcnemar_of

#: By name of the method: options of :class:`Surgeon`, with rows of 32 unless they say otherwise.
METHODS: Dict[str, Dict[str, Any]] = {
    "magnitude": {"criterion": "magnitude"},
    "movement": {"criterion": "movement"},
    "wanda": {"criterion": "wanda"},
    "sparsegpt": {"criterion": "sparsegpt"},
    # As in the paper: Fisher blocks of the flattened matrix, of 50 for single weights, each weight updated
    # alone.
    "paper": {"criterion": "obert", "layout": "flat", "solver": "paper", "block_size": 50},
    "separate": {"criterion": "obert", "solver": "paper"},
    "joint": {"criterion": "obert"},
    "joint, 4 rescorings": {"criterion": "obert", "rescorings": 4},
    "joint, 16 rescorings": {"criterion": "obert", "rescorings": 16},
    "permuted, 4 rescorings": {"criterion": "obert", "rescorings": 4, "channel_permutation": True},
    "greedy": {"criterion": "obert", "selection": "greedy"},
    "joint, 4 recomputations": {"criterion": "obert", "recomputations": 4},
    # Without labels: the gradients of the logits in place of those of the loss.
    "outputs": {"criterion": "obert", "gradients_of": "outputs"},
}


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Measure the cells that the output does not have yet.

    Raises:
        UsageError: the output is of another study or of another model.
    """
    parser = command_line.parser("tools.studies.pruning", __doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder of the fine-tuned dense model")
    parser.add_argument("--data", type=Path, required=True, help="folder with the task's TSV files")
    parser.add_argument("--task", default="sst2", help="a GLUE task, or text (default: sst2)")
    parser.add_argument("--output", type=Path, required=True, help="JSON file to write, and .md beside it")
    every = ["unstructured", "1x4", "2x1", "4x1", "8x1", "2:4"]
    parser.add_argument("--patterns", nargs="+", default=every, help=f"(default: {' '.join(every)})")
    parser.add_argument(
        "--sparsities", nargs="+", type=float, default=[0.5, 0.6, 0.7, 0.8, 0.9], help="(default: 0.5 to 0.9)"
    )
    parser.add_argument(
        "--methods", nargs="+", default=list(METHODS), choices=list(METHODS), help="(default: all)"
    )
    parser.add_argument("--gradients", type=int, default=256, help="batches for the Fisher (default: 256)")
    parser.add_argument("--batch-size", type=int, default=16, help="examples of a gradient (default: 16)")
    parser.add_argument("--dampening", type=float, default=1e-7, help="of the Fisher (default: 1e-7)")
    parser.add_argument("--threads", type=int, default=2, help="(default: 2)")
    parser.add_argument("--seed", type=int, default=42, help="of the train batches (default: 42)")
    parser.add_argument("--max-seconds", type=float, help="begin no cell after this; run again to go on")
    options = parser.parse_args(arguments)
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
    """The cells to measure, ordered so that methods that share Fisher blocks follow each other."""
    found = []
    for method in methods:
        for pattern in patterns:
            shape = Pattern.parse(pattern)
            for sparsity in sparsities:
                if sparsity > shape.max_sparsity + 1e-9:
                    continue
                if method == "sparsegpt" and shape.of is not None and sparsity < shape.max_sparsity:
                    continue  # SparseGPT always removes as many weights as N:M allows
                found.append((method, pattern, sparsity))
    return found


class Fishers:
    """Fisher blocks of the dense model, accumulated when first asked for; those of one layout at a time."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self._key: Optional[Tuple[str, int, bool]] = None
        self._blocks: Dict[str, BlockFisher] = {}

    def get(self, layout: str, block_size: int, outputs: bool) -> Dict[str, BlockFisher]:
        """The Fisher blocks of every matrix, of gradients of the loss or of the outputs."""
        if self._key != (layout, block_size, outputs):
            self._blocks = {}
            model = self._study.model()
            weights = prunable_weights(model)
            layouts = {
                name: BlockLayout((weight.shape[0], weight.shape[1]), block_size, layout)
                for name, weight in weights.items()
            }
            source = GradientSampler(model, self._study.batches, OutputLoss() if outputs else None)
            self._blocks = accumulate(source, weights, Masks.from_weights(model), layouts)
            self._key = (layout, block_size, outputs)
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
    """Prune the model as one cell says; return the sparsity and the predicted increase of the loss."""
    settings = dict(METHODS[method])
    criterion, permuted = settings.pop("criterion"), settings.pop("channel_permutation", False)
    outputs = settings.pop("gradients_of", "labels") == "outputs"
    if criterion != Surgeon.name:
        report = prune_one_shot(
            model, study.batches, sparsity=sparsity, pattern=pattern, criterion=criterion,
            gradients=options.gradients,
        )  # fmt: skip
        return {"sparsity": report.sparsity, "loss_increase": None}
    if settings.get("block_size", 32) % (pattern.of or pattern.columns):
        settings["block_size"] = 32  # the size that the paper's code uses for 1x4
    surgeon = Surgeon(dampening=options.dampening, **settings)
    surgeon.check_pattern(pattern)
    if permuted:
        permute_channels(model, study.batches, pattern=pattern, sparsity=sparsity, surgeon=surgeon)
    if surgeon.options.recomputations > 1 or permuted:  # the shared Fisher blocks are not of this model
        report = prune_one_shot(
            model, study.batches, sparsity=sparsity, pattern=pattern, criterion=surgeon,
            gradients=options.gradients,
        )  # fmt: skip
        return {"sparsity": report.sparsity, "loss_increase": report.loss_increase}
    masks = Masks.from_weights(model)
    weights = prunable_weights(model)
    step = PruningStep(weights, masks, dict.fromkeys(weights, 0), surgeon.options, pattern)
    step.score(fishers.get(surgeon.options.layout, surgeon.options.block_size, outputs))
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
        f"# One-shot pruning methods: accuracy on {settings['task']}",
        "",
        f"    python -m tools.studies.pruning --model DENSE --data DATA --task {settings['task']}"
        f" --gradients {settings['gradients']} --batch-size {settings['batch_size']}"
        f" --dampening {settings['dampening']:g} --seed {settings['seed']}"
        f" --methods {shlex.join(methods)} --patterns {' '.join(order)}"
        f" --sparsities {' '.join(f'{target:g}' for target in sorted({group[1] for group in groups}))}"
        " --output FILE",
        "",
        f"Dense: {rows[0]['accuracy']:.2f}.",
        f"{settings['gradients']} gradients of {settings['batch_size']} sentences, dampening"
        f" {settings['dampening']:g}, no training.",
        f"\\*: differs from {reference} at p < 0.05 (exact McNemar test on the dev rows).",
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
    """Print a row as one line."""
    print(
        f"{row['pattern']:>12} {row['sparsity']:6.1%} {row['method']:<24} accuracy {row['accuracy']:6.2f}"
        f"  loss {row['loss']:.3f}  {row['seconds']:5.0f} s",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(command_line.run(main))
