"""All stages of a recipe, resumable after a kill at any point."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

from obert_edge.errors import UsageError
from obert_edge.files import atomic_file
from obert_edge.host.data import Task, load_task
from obert_edge.host.stages.dropping import drop_layers
from obert_edge.host.stages.evaluation import evaluate
from obert_edge.host.stages.finetuning import finetune, transfer
from obert_edge.host.stages.models import has_head, read_config
from obert_edge.host.stages.pruning import prune
from obert_edge.host.stages.quantizing import quantize
from obert_edge.host.stages.recipe import Recipe
from obert_edge.host.stages.stage import REPORT, remove_work
from obert_edge.host.stages.trimming import trim_vocabulary

RECIPE_RECORD = "recipe.json"
SUMMARY = "summary.json"

#: Name of a stage's folder and what runs it, given the folder it starts from and its own.
_Step = Tuple[str, Callable[[Path, Path], Dict[str, Any]]]


def compress(recipe: Recipe, *, progress: bool = True) -> Dict[str, Any]:
    """Run every stage of a recipe: trim, fine-tune, drop layers, transfer, prune, quantize, build.

    Each result that has the task's head is scored. Each stage leaves ``<output>/<number>-<stage>``, which
    appears only when it is complete; a second run of the same recipe skips complete stages and goes on
    inside the interrupted one from its last checkpoint, to the very weights it would have ended with.

    Args:
        recipe: from :meth:`Recipe.load`.
        progress: show progress on stderr.

    Returns:
        What ``<output>/summary.json`` holds: the stages with their folders and scores.

    Raises:
        UsageError: ``<output>`` holds the results of another recipe.
        ObertEdgeError: a stage failed; the stages before it stay.
    """
    output = Path(recipe.output)
    _claim(output, recipe)
    task = load_task(
        recipe.task.name,
        recipe.task.data,
        text_columns=recipe.task.text_columns,
        label_column=recipe.task.label_column,
        labels=recipe.task.labels,
        tune=recipe.task.tune,
    )
    current = Path(recipe.model)
    stages: List[Dict[str, Any]] = []
    for number, (name, run) in enumerate(_steps(recipe, task, progress), start=1):
        folder = output / f"{number}-{name}"
        if (folder / REPORT).is_file():
            remove_work(folder)
        else:
            run(current, folder)
        current = folder
        if has_head(read_config(folder), task):
            stages.append(_scored(recipe, task, name, folder))
    if recipe.build is not None:
        bundle = output / "model.oeb"
        if not bundle.is_file():
            _build(recipe, current, bundle)
        stages.append(_scored(recipe, task, "build", bundle, against=current))
    summary = {"recipe": recipe.to_dict(), "stages": stages}
    with atomic_file(output / SUMMARY) as path:
        path.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    return summary


def _steps(recipe: Recipe, task: Task, progress: bool) -> List[_Step]:
    steps: List[_Step] = []
    # The model to start from teaches the last stages, unless it has no head of the task itself.
    start = recipe.model if has_head(read_config(Path(recipe.model)), task) else None
    if recipe.trim is not None:
        trimming = recipe.trim
        steps.append(
            (
                "trim",
                lambda a, b: trim_vocabulary(
                    a,
                    b,
                    task=task,
                    corpus=trimming.corpus,
                    min_count=trimming.min_count,
                    keep=trimming.keep,
                    progress=progress,
                ),
            )
        )
        start = None if start is None else str(Path(recipe.output) / "1-trim")  # with the same token ids
    dense = str(Path(recipe.output) / f"{len(steps) + 1}-finetune") if recipe.finetune is not None else None
    if recipe.finetune is not None:
        training = recipe.finetune
        steps.append(("finetune", lambda a, b: finetune(a, task, b, training=training, progress=progress)))
    if recipe.drop is not None:
        dropping = recipe.drop
        steps.append(
            (
                "drop",
                lambda a, b: drop_layers(
                    a,
                    task,
                    b,
                    keep=dropping.keep,
                    training=dropping.training,
                    distillation=dropping.distillation,
                    progress=progress,
                ),
            )
        )
    if recipe.transfer is not None:
        transferring = recipe.transfer
        steps.append(
            (
                "transfer",
                lambda a, b: transfer(
                    a,
                    task,
                    b,
                    training=transferring.training,
                    distillation=transferring.distillation.with_teacher(dense),
                    progress=progress,
                ),
            )
        )
    if recipe.prune is not None:
        pruning = recipe.prune
        steps.append(
            (
                "prune",
                lambda a, b: prune(
                    a,
                    task,
                    b,
                    pruning=pruning.pruning,
                    training=pruning.training,
                    distillation=pruning.distillation.with_teacher(dense),
                    progress=progress,
                ),
            )
        )
    if recipe.quantize is not None:
        quantization = recipe.quantize
        steps.append(
            (
                "quantize",
                lambda a, b: quantize(
                    a,
                    task,
                    b,
                    quantization=quantization.for_build(recipe.build),
                    training=quantization.training,
                    distillation=quantization.distillation.with_teacher(dense or start),
                    progress=progress,
                ),
            )
        )
    return steps


def _claim(output: Path, recipe: Recipe) -> None:
    """Tie an output folder to one recipe: stages of two recipes must not mix."""
    record = output / RECIPE_RECORD
    ours = recipe.to_dict()
    if record.is_file():
        theirs = json.loads(record.read_text(encoding="utf-8"))
        changed = sorted(key for key in {*ours, *theirs} if ours.get(key) != theirs.get(key))
        if changed:
            raise UsageError(
                f"{output} holds the stages of another recipe: {', '.join(changed)} differ",
                hint="name another output in the recipe, or remove that folder",
            )
        return
    with atomic_file(record) as path:
        path.write_text(json.dumps(ours, indent=1) + "\n", encoding="utf-8")


def _scored(
    recipe: Recipe, task: Task, stage: str, result: Path, against: Optional[Path] = None
) -> Dict[str, Any]:
    """Score a stage's result once; the score is kept beside it."""
    path = result.parent / f"{result.name}.score.json"
    if not path.is_file():
        score = evaluate(
            result,
            task,
            split=recipe.task.evaluate,
            max_length=recipe.task.max_length,
            against=against,
        )
        with atomic_file(path) as file:
            file.write_text(json.dumps(score, indent=1) + "\n", encoding="utf-8")
    kept: Dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return {"stage": stage, **kept}


def _build(recipe: Recipe, model: Path, bundle: Path) -> None:
    from obert_edge.host.compiler.build import build

    assert recipe.build is not None
    build(model, recipe.build.target, bundle, embeddings=recipe.build.embeddings)
