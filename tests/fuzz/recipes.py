"""Damaged recipes."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any, Dict

import yaml

from obert_edge.host.stages.planning import plan
from obert_edge.host.stages.recipe import Recipe
from tests.fuzz.loop import Target
from tests.fuzz.mutations import change_text, change_value, nested, to_json

ROOT = Path(__file__).parents[2]
_BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi")
)


class Recipes(Target):
    """The recipes of this repository."""

    name = "recipe"

    def prepare(self, folder: Path) -> None:
        paths = [*(ROOT / "tools" / "reproduce").glob("*.yaml"), *(ROOT / "tools").glob("quickstart*.yaml")]
        self._recipes = [_whole(yaml.safe_load(path.read_text())) for path in sorted(paths)]
        self._texts = [yaml.safe_dump(recipe, sort_keys=False).encode() for recipe in self._recipes]
        self._path = folder / "recipe.yaml"
        self._others = {path.name: path.read_bytes() for path in paths}
        for name, text in self._others.items():
            (folder / name).write_bytes(text)

    def attempt(self, random: Random) -> None:
        number = random.randrange(len(self._texts))
        text = self._texts[number]
        action = random.random()
        if action < 0.6:
            text = to_json(change_value(self._recipes[number], random))  # JSON is YAML, too
        elif action < 0.9:
            text = change_text(text, random)
        elif action < 0.95:
            key = random.choice(("model", "task", "prune", "trim", "labels", "extends", "finetune"))
            text = f"{_BOMB}{key}: *{random.choice('abcdefghi')}\n".encode() + text
        else:
            depth = random.choice((50, 500, 5000))
            text += b"\nx: " + random.choice(
                (b"[" * depth, b"{a: " * depth, str(nested(depth % 500)).encode())
            )
        self._path.write_bytes(text)
        recipe = Recipe.load(self._path)
        recipe.to_dict()
        if random.random() < 0.3:
            plan(recipe)


def _whole(recipe: Dict[str, Any]) -> Dict[str, Any]:
    """A recipe with what its reader names on the command line, and the rows of data that are not here."""
    whole = {"model": "model", "output": "output", **recipe}
    if "extends" not in recipe:
        whole["task"] = {"data": "data", "rows": 5000, **recipe["task"]}
    return whole
