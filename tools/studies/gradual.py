r"""Compare pruning methods with the same recipe and budget: prune gradually, QAT, build, score the bundle.

    python -m tools.studies.gradual tools/reproduce/study_sst2.yaml --model DENSE --data SST2 --work DIR \
        --output docs/results/gradual_sst2.json

Every cell (method, pattern, sparsity) is the recipe with these three changed; teacher and start are DENSE, a
model folder of `obert-edge finetune`. Only the bundle is scored, by the engine, once, on all rows of the
recipe's split. Cells the output has are kept, and an interrupted stage goes on: run the same command again.
Processes with other cells may share output and work. A table in Markdown is written beside the JSON.

Needs: the host's packages (torch, transformers), a fine-tuned model and the task's files.
Takes: 4 to 6 minutes for each cell of study_sst2.yaml on two cores; the default is 21 cells.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

from obert_edge.errors import UsageError
from obert_edge.host.compiler.build import build
from obert_edge.host.data import Task, load_task
from obert_edge.host.stages import prune, quantize
from obert_edge.host.stages.evaluation import answer
from obert_edge.host.stages.recipe import Recipe
from tools import command_line
from tools.machine import training_facts
from tools.studies.rows import StudyRows, mcnemar_of

METHODS = ("obert", "magnitude", "movement")
#: Pattern and sparsity of the default cells.
CELLS = (
    "unstructured:0.8",
    "unstructured:0.9",
    "unstructured:0.97",
    "1x4:0.8",
    "1x4:0.9",
    "4x1:0.8",
    "4x1:0.9",
)


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Run the cells that the command line asks for."""
    parser = command_line.parser("tools.studies.gradual", __doc__)
    parser.add_argument("recipe", type=Path, help="YAML file with the budget of every cell")
    parser.add_argument("--model", type=Path, required=True, help="folder of the fine-tuned dense model")
    parser.add_argument("--data", required=True, help="folder with the task's files")
    parser.add_argument("--work", type=Path, required=True, help="folder for stages and bundles")
    parser.add_argument("--output", type=Path, required=True, help="JSON file to write, and .md beside it")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), help="(default: all three)")
    parser.add_argument(
        "--cells",
        nargs="+",
        default=list(CELLS),
        help="each as PATTERN:SPARSITY (default: the paper's and 4x1)",
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[42], help="(default: 42)")
    parser.add_argument("--max-seconds", type=float, help="begin no cell after this; run again to go on")
    study(parser.parse_args(arguments))


def study(options: argparse.Namespace) -> None:
    """Run all cells that the output does not have yet.

    Raises:
        UsageError: the recipe lacks a stage, or the output is of another study.
    """
    began = time.monotonic()
    recipe = Recipe.load(
        options.recipe, model=str(options.model), data=options.data, output=str(options.work)
    )
    if recipe.prune is None or recipe.quantize is None:
        raise UsageError(f"{options.recipe} lacks prune or quantize", hint="add both stages")
    data = recipe.task
    task = load_task(
        data.name,
        data.data,
        text_columns=data.text_columns,
        label_column=data.label_column,
        labels=data.labels,
        tune=data.tune,
    )
    settings = {
        "recipe": {
            key: value for key, value in recipe.to_dict().items() if key not in ("model", "output", "task")
        },
        "recipe_file": options.recipe.name,
        "task": task.name,
        "split": recipe.task.evaluate,
        "machine": training_facts(),
    }
    study = StudyRows(
        options.output,
        settings,
        same=("recipe",),
        cell=("method", "pattern", "target", "seed"),
        table=table,
    )
    if not study.rows:
        dense = options.work / "dense.oeb"
        options.work.mkdir(parents=True, exist_ok=True)
        if not dense.is_file():
            build(options.model, "x86", dense)
        study.add({"method": "dense", "pattern": "-", "target": 0.0, **score(dense, task, recipe)})
    for seed in options.seeds:
        for cell in options.cells:
            for method in options.methods:
                pattern, _, sparsity = cell.rpartition(":")
                key = (method, pattern, float(sparsity), seed)
                if study.has(*key):
                    continue
                if options.max_seconds is not None and time.monotonic() - began > options.max_seconds:
                    print("time is up; run the same command again to go on")
                    return
                names = ("method", "pattern", "target", "seed")
                row = {**dict(zip(names, key)), **one(recipe, task, options.work, *key)}
                study.add(row)
                print({name: value for name, value in row.items() if name != "wrong"}, flush=True)


def one(
    recipe: Recipe, task: Task, work: Path, method: str, pattern: str, sparsity: float, seed: int
) -> Dict[str, Any]:
    """Run one cell, and return its row without the cell's own fields."""
    assert recipe.prune is not None and recipe.quantize is not None
    folder = work / f"{method}-{pattern.replace(':', 'of')}-{sparsity}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    plan = dataclasses.replace(
        recipe.prune.pruning,
        method=method,
        pattern=pattern,
        sparsity=sparsity,
        initial_sparsity=min(recipe.prune.initial_sparsity, sparsity),
    )
    stages: Dict[str, Any] = {}
    if not (folder / "pruned" / "stage.json").is_file():
        prune(
            recipe.model,
            task,
            folder / "pruned",
            pruning=plan,
            training=dataclasses.replace(recipe.prune.training, seed=seed),
            distillation=recipe.prune.distillation.with_teacher(recipe.model),
        )
    stages["prune"] = figures(folder / "pruned")
    if not (folder / "qat" / "stage.json").is_file():
        quantize(
            folder / "pruned",
            task,
            folder / "qat",
            quantization=recipe.quantize.quantization,
            training=dataclasses.replace(recipe.quantize.training, seed=seed),
            distillation=recipe.quantize.distillation.with_teacher(recipe.model),
        )
    stages["quantize"] = figures(folder / "qat")
    if not (folder / "model.oeb").is_file():
        build(folder / "qat", "x86", folder / "model.oeb")
    found = {
        "sparsity": stages["prune"]["sparsity"],
        "seconds": {name: round(stage["seconds"]) for name, stage in stages.items()},
        **score(folder / "model.oeb", task, recipe),
    }
    # Of a finished cell only the bundle is kept: the folders of its stages are large.
    for stage in ("pruned", "qat"):
        shutil.rmtree(folder / stage)
    return found


def figures(folder: Path) -> Dict[str, Any]:
    """The figures in the report of a finished stage."""
    content = json.loads((folder / "stage.json").read_text(encoding="utf-8"))
    found: Dict[str, Any] = content["figures"]
    return found


def score(bundle: Path, task: Task, recipe: Recipe) -> Dict[str, Any]:
    """Metrics of a bundle, its bytes, and the examples it gets wrong (for paired tests)."""
    split = recipe.task.evaluate
    task, features, answers, _ = answer(bundle, task, split, recipe.task.max_length)
    groups: Dict[str, List[int]] = defaultdict(list)
    for index, feature in enumerate(features):
        groups[str(feature["_id"])].append(index)
    metrics = task.score(split, features, answers)
    hit = "exact_match" if "exact_match" in metrics else "accuracy"
    wrong = [
        place
        for place, members in enumerate(groups.values())
        if task.score(split, [features[i] for i in members], [answers[i] for i in members])[hit] < 50
    ]
    return {"metrics": metrics, "n": len(groups), "bytes": bundle.stat().st_size, "wrong": wrong}


def table(settings: Dict[str, Any], rows: List[Dict[str, Any]]) -> str:
    """The deciding metric by cell (rows) and method (columns); several seeds: mean and range."""
    dense = rows[0]
    metric = "f1" if "f1" in dense["metrics"] and "exact_match" in dense["metrics"] else "accuracy"
    methods = list(dict.fromkeys(row["method"] for row in rows[1:]))
    groups: Dict[Tuple[str, float], Dict[str, List[Dict[str, Any]]]] = {}
    for row in rows[1:]:
        groups.setdefault((row["pattern"], row["target"]), {}).setdefault(row["method"], []).append(row)
    pruning, qat = settings["recipe"]["prune"], settings["recipe"]["quantize"]
    lines = [
        f"# Pruning methods at one budget: {settings['task']}",
        "",
        f"    python -m tools.studies.gradual tools/reproduce/{settings['recipe_file']}"
        f" --model DENSE --data DATA --work DIR --methods {' '.join(methods)} --output FILE",
        "",
        "{cores} x {cpu}, torch {torch}.".format(**settings["machine"]),
        f"{dense['n']} examples of {settings['split']}, each bundle scored once by the engine: {metric}.",
        f"Dense bundle, calibrated without training: {dense['metrics'][metric]:.2f}.",
        f"Every cell has the budget of `{settings['recipe_file']}`: {pruning['training']['max_steps']} steps"
        f" of {pruning['training']['batch_size']} while pruning and {qat['training']['max_steps']} of QAT.",
        "\\*: differs from obert at p < 0.05 (exact McNemar test, same seed).",
        "",
        "| pattern | sparsity | " + " | ".join(methods) + " | MB |",
        "|---" * (3 + len(methods)) + "|",
    ]
    for (pattern, target), cells in sorted(groups.items()):
        shown = [summary(cells.get(method, []), cells.get("obert", []), metric) for method in methods]
        sizes = [row["bytes"] / 1e6 for found in cells.values() for row in found]
        lines.append(f"| {pattern} | {target:.0%} | " + " | ".join(shown) + f" | {max(sizes):.1f} |")
    return "\n".join(lines) + "\n"


def summary(rows: List[Dict[str, Any]], base: List[Dict[str, Any]], metric: str) -> str:
    """A cell of the table: the mean over seeds, their range, and a star where it differs from ``base``."""
    if not rows:
        return ""
    values = [row["metrics"][metric] for row in rows]
    by_seed = {row["seed"]: row for row in base}
    differs = any(mcnemar_of(row, by_seed[row["seed"]]) < 0.05 for row in rows if row["seed"] in by_seed)
    spread: Optional[str] = f" ({min(values):.1f}-{max(values):.1f})" if len(values) > 1 else ""
    return f"{sum(values) / len(values):.2f}{spread}{'*' if differs else ''}"


if __name__ == "__main__":
    sys.exit(command_line.run(main))
