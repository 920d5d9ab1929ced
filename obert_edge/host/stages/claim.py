"""Whose an output folder is: the recipe that made its stages, and in what another one differs. No torch."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple

from obert_edge.errors import UsageError
from obert_edge.host.options import brief
from obert_edge.host.stages.folders import work_of, write_json
from obert_edge.host.stages.recipe import STAGES, Recipe
from obert_edge.host.stages.stage import Stage

RECIPE_RECORD = "recipe.json"
SUMMARY = "summary.json"
#: Keys of which a message says how they differ; the others are counted.
_SHOWN = 6


def claim(output: Path, recipe: Recipe) -> None:
    """Tie an output folder to one recipe: stages of two recipes must not mix.

    Stages that have left nothing yet may change: whoever sees the score of a pruned model may choose another
    fine-tuning in 8 bit for it.

    Raises:
        UsageError: see :func:`check_claim`.
    """
    check_claim(output, recipe)
    ours = recipe.to_dict()
    recorded = _recorded(output)
    if recorded is None or _plain(recorded) != ours:
        # The summary of the recipe before is not of this one.
        (output / SUMMARY).unlink(missing_ok=True)
        write_json(output / RECIPE_RECORD, ours)


def check_claim(output: Path, recipe: Recipe) -> None:
    """Refuse a recipe whose output folder holds stages of another one, before anything is done.

    Raises:
        UsageError: it does; the message has the keys that differ, with both values. Or nobody knows whose the
            stages are.
    """
    content = _recorded(output)
    if content is None:
        return
    ours, theirs = recipe.to_dict(), _plain(content)
    changed = {key for key in {*ours, *theirs} if ours.get(key) != theirs.get(key)}
    if not changed:
        return
    hint = "name another output in the recipe, or remove that folder"
    recorded = _read(content)
    if recorded is not None and changed <= {stage.name for stage in STAGES}:
        left = _left(output, recorded, Recipe.from_dict(ours))
        if not left:
            return
        hint = f"name another output in the recipe, or remove {', '.join(map(str, left))} to make it anew"
    said = list(_differences(theirs, ours))
    more = f"; and {len(said) - _SHOWN} more" if len(said) > _SHOWN else ""
    raise UsageError(
        f"{output} holds the stages of another recipe: {'; '.join(said[:_SHOWN])}{more}", hint=hint
    )


def score_of(result: Path) -> Path:
    """Where the score of a stage's result is kept."""
    return result.parent / f"{result.name}.score.json"


def _recorded(output: Path) -> Optional[Dict[str, Any]]:
    """The recipe that a folder is of, as it was recorded; ``None``: nobody's.

    Raises:
        UsageError: the record is none.
    """
    record = output / RECIPE_RECORD
    if not record.is_file():
        return None
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise UsageError(
            f"{record} is no record of a recipe, so that nobody knows whose the stages of {output} are",
            hint="name another output in the recipe, or remove that folder",
        )
    return content


def _plain(content: Dict[str, Any]) -> Dict[str, Any]:
    """A recorded recipe, with the defaults of options that came later where it can be read."""
    recorded = _read(content)
    return content if recorded is None else recorded.to_dict()


def _read(content: Dict[str, Any]) -> Optional[Recipe]:
    try:
        return Recipe.from_dict(content)
    except UsageError:
        return None


def _differences(theirs: Mapping[str, Any], ours: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """The keys that differ, each with what the folder has and what the recipe says."""
    for key in sorted({*theirs, *ours}):
        before, now = theirs.get(key), ours.get(key)
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            yield from _differences(before, now, f"{above}{key}.")
        elif before != now:
            yield f"{above}{key} is {_shown(before)} there and {_shown(now)} in this recipe"


def _shown(value: Any) -> str:
    if value is None:
        return "absent"
    return "present" if isinstance(value, Mapping) else brief(value)


def _left(output: Path, theirs: Recipe, ours: Recipe) -> List[Path]:
    """What the first stage that differs between two recipes, and all after it, have left in a folder."""
    before, now = theirs.stages(), ours.stages()
    pairs = zip(before, now)
    same = itertools.takewhile(lambda pair: _told(pair[0], theirs) == _told(pair[1], ours), pairs)
    first = sum(1 for _ in same)
    results = [
        output / stage.output_name(number)
        for stages in (before, now)
        for number, (stage, _) in enumerate(stages[first:], start=first + 1)
    ]
    # A score without its result is nobody's, and will be removed.
    begun = (result for result in results if result.exists() or work_of(result).exists())
    paths = (path for result in begun for path in (result, work_of(result), score_of(result)))
    return [path for path in dict.fromkeys(paths) if path.exists()]


def _told(step: Tuple[Stage[Any], Any], recipe: Recipe) -> Tuple[str, Any]:
    """A stage's name, and what it is told in a recipe."""
    stage, settings = step
    return stage.name, stage.in_recipe(settings, recipe.context())
