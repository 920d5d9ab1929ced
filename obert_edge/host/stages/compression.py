"""All stages of a recipe, one after the other; a run that was killed at any point goes on where it was."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, List, Optional

from obert_edge.errors import UnsupportedDeviceError
from obert_edge.files import alone_in, check_apart, check_folder
from obert_edge.host.data.base import ENCODER
from obert_edge.host.hub.card import card_path, is_ours
from obert_edge.host.hub.download import model_folder
from obert_edge.host.stages.claim import SUMMARY, claim, score_of
from obert_edge.host.stages.evaluation import evaluate
from obert_edge.host.stages.folders import is_main_process, remove_work, write_json
from obert_edge.host.stages.lengths import fitted_to, fitted_to_recipe
from obert_edge.host.stages.models import check_head, has_head, read_config
from obert_edge.host.stages.recipe import Recipe
from obert_edge.host.stages.reports import Score, Summary
from obert_edge.host.stages.runner import check_folder_is_model, check_stage, run_stage, with_length
from obert_edge.host.stages.stage import RecipeContext
from obert_edge.progress import shown

if TYPE_CHECKING:
    from obert_edge.host.data import Task

_log = logging.getLogger(__name__)


def compress(recipe: Recipe, *, progress: bool = True) -> Summary:
    """Run every stage of a recipe: trim, fine-tune, drop layers, transfer, prune, quantize, build.

    Each result that has the task's head is scored, but for a bundle that is for another CPU. Each stage
    leaves ``<output>/<number>-<stage>``, which appears only when it is complete; a second run of the same
    recipe skips complete stages and goes on inside the interrupted one from its last checkpoint, to the very
    weights it would have ended with. Stages that were not begun may be other ones by then.

    Args:
        recipe: from :meth:`Recipe.load`.
        progress: show progress on stderr.

    Returns:
        What ``<output>/summary.json`` holds: the recipe, and the scores of the stages' results.

    Raises:
        UsageError: ``<output>`` holds what another recipe has made or begun, or another process works there.
        ObertEdgeError: a stage failed; the stages before it stay.
    """
    output, current = Path(recipe.output), model_folder(recipe.model)
    check_folder(output, overwrite=True)
    check_apart(output, current)
    check_folder_is_model(current)
    task = recipe.load_task()
    if progress:
        sys.stderr.write(f"{task.describe()}\n")
    start = str(current) if has_head(current, read_config(current), task) else None
    context = recipe.context(start=start)
    task = fitted_to_recipe(current, task, recipe.with_default_length())
    _check_stages(recipe, current, task, context)
    if not is_main_process():
        return _run(recipe, current, task, context, progress)
    with alone_in(output):
        claim(output, recipe)
        return _run(recipe, current, task, context, progress)


def _run(recipe: Recipe, current: Path, task: Task, context: RecipeContext, progress: bool) -> Summary:
    output = Path(recipe.output)
    # Embeddings are scored beside those of the dense model, which everything after it learns from.
    teacher = current if task.head == ENCODER else None
    scores: List[Score] = []
    for number, (stage, settings) in enumerate(recipe.stages(), start=1):
        result = output / stage.output_name(number)
        if stage.finished(result):
            remove_work(result)
        else:
            told = stage.in_recipe(settings, context)
            _forget(result)
            run_stage(stage, current, task, result, told, progress=progress)
        if stage.writes_file:
            if task.labeled and has_head(current, read_config(current), task) and _runs_here(result):
                scores.append(_scored(recipe, task, stage.name, result, progress, teacher or current))
            continue
        current, context = result, stage.tell_others(context, result)
        if task.labeled and has_head(result, read_config(result), task):
            scores.append(_scored(recipe, task, stage.name, result, progress, teacher))
    summary = Summary(recipe.to_dict(), scores)
    write_json(output / SUMMARY, summary.to_dict())
    return summary


def _check_stages(recipe: Recipe, model: Path, task: Task, context: RecipeContext) -> None:
    """Refuse before the first stage what a later one, or a score, would refuse."""
    learning = None
    for stage, settings in recipe.stages():
        told = stage.in_recipe(settings, context)
        check_stage(stage, told, task)
        with_length(told, model, task)
        if learning is None and stage.needs_task and stage.needs_labels(told):
            learning = stage
    if recipe.task.max_length is not None:
        fitted_to(model, task, recipe.task.max_length)
    config = read_config(model)
    if learning is not None or (task.labeled and has_head(model, config, task)):
        task.require(recipe.task.evaluate)
    if learning is not None:  # what comes before it keeps the head
        check_head(model, config, task, new_head=learning.makes_head, quiet=True)
    elif task.labeled and has_head(model, config, task):  # which is scored
        check_head(model, config, task, training=False, quiet=True)


def _forget(result: Path) -> None:
    """Remove what is said of a result that is made anew: the summary, its score, and the card written for it.

    A card that somebody has made his own stays.
    """
    if not is_main_process():
        return
    stale = [result.parent / SUMMARY, score_of(result)]
    card = card_path(result)
    if is_ours(card):
        stale.append(card)
    for path in stale:
        path.unlink(missing_ok=True)


def _runs_here(bundle: Path) -> bool:
    """Whether a bundle is for the CPU of this machine; where not, that is said, and where to score it."""
    from obert_edge.bundle.container import ENGINE, Bundle
    from obert_edge.device.runtime import machine
    from obert_edge.device.runtime.library import check_library_architecture

    with Bundle.open(bundle, "header") as opened:
        try:
            if ENGINE in opened:
                check_library_architecture(opened, machine.architecture(), "this machine")
        except UnsupportedDeviceError as error:
            if is_main_process():
                _log.warning(
                    "the bundle is not scored: %s; to score it, run `obert-edge evaluate` on a machine with "
                    "that CPU",
                    error.message,
                )
            return False
    return True


def _scored(
    recipe: Recipe, task: Task, stage: str, result: Path, progress: bool, against: Optional[Path] = None
) -> Score:
    """Score a stage's result once; the score is kept beside it."""
    path = score_of(result)
    if not path.is_file():
        with shown(progress) as told:
            score = evaluate(
                result,
                task,
                split=recipe.task.evaluate,
                max_length=recipe.task.max_length,
                against=against,
                progress=told,
            )
        write_json(path, score.to_dict())
    return Score(**json.loads(path.read_text(encoding="utf-8")), stage=stage)
