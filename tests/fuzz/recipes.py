"""Damaged recipes."""

from __future__ import annotations

from pathlib import Path
from random import Random

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
        paths = [*(ROOT / "tools" / "reproduce").glob("*.yaml"), ROOT / "tools" / "quickstart.yaml"]
        # The folders that a reader names on the command line, and the rows of data that are not here.
        more = b"\nmodel: model\noutput: output\n"
        texts = [
            path.read_bytes().replace(b"task:\n", b"task:\n  rows: 5000\n  data: data\n")
            for path in sorted(paths)
        ]
        texts = [
            text.replace(b"  data: data\n", b"", 1) if text.count(b"  data: ") > 1 else text for text in texts
        ]
        self._texts = [text if b"\nmodel:" in text else text + more for text in texts]
        self._path = folder / "recipe.yaml"
        self._others = {path.name: path.read_bytes() for path in paths}
        for name, text in self._others.items():
            (folder / name).write_bytes(text)

    def attempt(self, random: Random) -> None:
        text = random.choice(self._texts)
        action = random.random()
        if action < 0.6:
            text = to_json(change_value(yaml.safe_load(text), random))  # JSON is YAML, too
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
