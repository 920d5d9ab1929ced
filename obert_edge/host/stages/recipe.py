"""A whole compression run as one typed, validated file, and the ordered list of stages it may have.

A recipe that loads can run: unknown keys and wrong values are refused with the nearest name or the range.
Nothing here imports torch.
"""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Tuple, Type, Union, cast

from obert_edge.errors import UsageError
from obert_edge.host.hub.names import PREFIX, hub_name
from obert_edge.host.options import S, Settings, brief, option, part
from obert_edge.host.pruning.settings import Distillation, Pruning
from obert_edge.host.stages.recipe_files import read_yaml
from obert_edge.host.stages.settings import Quantization, TaskSettings, Training, training_of
from obert_edge.host.stages.stage import RecipeContext, Stage
from obert_edge.host.stages.stage_build import Build, BuildSettings
from obert_edge.host.stages.stage_drop import Drop, DropSettings
from obert_edge.host.stages.stage_finetune import Finetune, FinetuneSettings
from obert_edge.host.stages.stage_prune import Prune, PruneSettings
from obert_edge.host.stages.stage_quantize import Quantize, QuantizeSettings
from obert_edge.host.stages.stage_transfer import Transfer, TransferSettings
from obert_edge.host.stages.stage_trim import Trim, TrimSettings

if TYPE_CHECKING:
    from obert_edge.host.data import Task

__all__ = [
    "STAGES",
    "BuildSettings",
    "Distillation",
    "DropSettings",
    "FinetuneSettings",
    "PruneSettings",
    "Pruning",
    "Quantization",
    "QuantizeSettings",
    "Recipe",
    "TaskSettings",
    "Training",
    "TransferSettings",
    "TrimSettings",
]

#: Every stage, in the order in which a recipe runs them; each is a key of :class:`Recipe`.
STAGES: Tuple[Stage[Any], ...] = (
    Trim(),
    Finetune(),
    Drop(),
    Transfer(),
    Prune(),
    Quantize(),
    Build(),
)

#: How many recipes may extend one another.
_DEEPEST = 8


@dataclass(frozen=True)
class Recipe(Settings):
    """A compression run."""

    model: str = option(
        path=True, hub=True, help="Folder of the checkpoint to start from, or its name on a hub."
    )
    output: str = option(path=True, help="Folder for everything the run makes.")
    task: TaskSettings = part(help="The data.")
    trim: Optional[TrimSettings] = part(None, help="Absent: the whole vocabulary stays.")
    finetune: Optional[FinetuneSettings] = part(
        None, help="How to train the dense model; absent: the model is fine-tuned already."
    )
    drop: Optional[DropSettings] = part(None, help="Absent: all layers stay.")
    transfer: Optional[TransferSettings] = part(
        None, help="For a model that was pruned upstream; absent: there is none."
    )
    prune: Optional[PruneSettings] = part(None, help="Absent: the model stays dense.")
    quantize: Optional[QuantizeSettings] = part(
        None, help="Absent: the model stays float, and build calibrates it."
    )
    build: Optional[BuildSettings] = part(None, help="Absent: no bundle is made.")

    def stages(self) -> List[Tuple[Stage[Any], Any]]:
        """The stages that run, in their order, with their settings."""
        told = [(stage, getattr(self, stage.name)) for stage in STAGES]
        return [(stage, settings) for stage, settings in told if settings is not None]

    def with_default_length(self) -> List[str]:
        """What takes features of the task's own length: stages that train, and the scores."""
        trained = [(stage.name, training_of(settings)) for stage, settings in self.stages()]
        named = [name for name, training in trained if training is not None and training.max_length is None]
        return named if self.task.max_length is not None else [*named, "the scores"]

    def load_task(self) -> Task:
        """The task, whose rows need labels where a stage learns from them.

        Raises:
            UsageError: there is no such task.
            DataError: its data cannot be used.
        """
        stages = self.stages()
        return self.task.load(not stages or any(stage.needs_labels(told) for stage, told in stages))

    def context(self, start: Optional[str] = None) -> RecipeContext:
        """What the stages know of each other before the first of them runs; ``start``: see there."""
        return RecipeContext(start=start, embeddings=None if self.build is None else self.build.embeddings)

    @classmethod
    def load(
        cls,
        path: Union[str, Path],
        *,
        model: Optional[str] = None,
        data: Optional[str] = None,
        output: Optional[str] = None,
    ) -> Recipe:
        """Read and check a recipe; paths in it are relative to its own folder.

        A recipe that ``extends`` another is that one with its own keys laid over it.

        Args:
            path: the YAML file.
            model: in place of the recipe's ``model``, relative to the working directory.
            data: the same for ``task.data``.
            output: the same for ``output``.

        Raises:
            UsageError: not YAML, an unknown or missing key, or a value of the wrong type or range.
        """
        path = Path(path)
        content = _read(path)
        if isinstance(content, dict):
            for below, key, value in (
                (content, "model", model),
                (content, "output", output),
                (content.get("task"), "data", data),
            ):
                if value is not None and isinstance(below, dict):
                    below[key] = _absolute(value, Path.cwd(), key == "model")
            _make_absolute(cls, content, path.parent)
        return cls.from_dict(content)

    @classmethod
    def from_dict(cls, content: Any) -> Recipe:
        """Check plain values, as YAML gives them.

        Raises:
            UsageError: as :meth:`load`.
        """
        return _make(cls, content, "recipe")

    def to_dict(self) -> Dict[str, Any]:
        """Plain values for JSON; what is absent is left out."""
        return cast(Dict[str, Any], _plain(dataclasses.asdict(self)))


def _read(path: Path, depth: int = 0) -> Any:
    """The content of a recipe, laid over the one it extends."""
    content = read_yaml(path)
    if not isinstance(content, dict) or "extends" not in content:
        return content
    base = content.pop("extends")
    if not isinstance(base, str) or depth == _DEEPEST:
        raise UsageError(
            f"{path} extends {brief(base)}",
            hint="name one recipe beside it, which extends at most a few others, not itself",
        )
    return _overlaid(_read(path.parent / base, depth + 1), content)


def _overlaid(base: Any, changes: Any) -> Any:
    """``changes`` over ``base``: key by key where both are mappings."""
    if not isinstance(base, dict) or not isinstance(changes, dict):
        return changes
    return {**base, **{key: _overlaid(base.get(key), value) for key, value in changes.items()}}


def _make_absolute(kind: Type[Settings], content: Dict[str, Any], folder: Path) -> None:
    """Make the paths of a recipe absolute, in place; they are relative to ``folder``."""
    for one in kind.options():
        value = content.get(one.name)
        if one.declared.path and isinstance(value, list):
            content[one.name] = [_absolute(str(item), folder) for item in value]
        elif one.declared.path and isinstance(value, str):
            content[one.name] = _absolute(value, folder, one.declared.hub)
    for name, below in kind.parts().items():
        if isinstance(content.get(name), dict):
            _make_absolute(below, content[name], folder)


def _absolute(value: str, folder: Path, hub: bool = False) -> str:
    """A path beside ``folder``; data on the hub have none, nor have models (``hub``) that are not there."""
    if value.startswith(PREFIX):
        return value
    try:
        path = (folder / value).resolve()
        return value if hub and not path.exists() and hub_name(value) is not None else str(path)
    except (OSError, RuntimeError, ValueError) as error:  # a NUL byte, or links that lead in a circle
        raise UsageError(f"{brief(value)} is no path: {error}", hint="name a file or a folder") from error


def _plain(value: Any) -> Any:
    """Values as YAML has them, without what is absent."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value


def _make(kind: Type[S], content: Any, where: str) -> S:
    """Settings from a mapping, strictly.

    Raises:
        UsageError: an unknown or missing key, or a value of the wrong type or range.
    """
    if content is None and where != "recipe":
        content = {}  # "build:" with nothing below it asks for the defaults
    if not isinstance(content, Mapping):
        raise UsageError(
            f"{where} is {brief(content)}; expected keys and values",
            hint=f"write `key: value` lines below {where}",
        )
    options, parts = {one.name: one for one in kind.options()}, kind.parts()
    names = kind.keys()
    for key in content:
        if key not in names:
            raise UsageError(
                f"{where} has an unknown key {brief(str(key))}; its keys are {', '.join(names)}",
                hint=_instead(kind, str(key)[:60], where),
            )
    missing = [name for name in kind.required() if content.get(name) is None]
    if missing:
        raise UsageError(f"{where} lacks {', '.join(missing)}", hint=f"add `{missing[0]}: ...` below {where}")
    values = {
        key: _make(parts[key], value, f"{where}.{key}")
        if key in parts
        else options[key].parse(value, f"{where}.{key}")
        for key, value in content.items()
    }
    try:
        return kind(**values)
    except UsageError as error:
        raise UsageError(f"{where}.{error.message}", hint=error.hint) from error


def _instead(kind: Type[Settings], key: str, where: str) -> str:
    """What to write in place of an unknown key: the key itself, where a part has it, or a name like it."""
    prefix = where.partition(".")[2] + "." if "." in where else ""
    below = [prefix + path for path in _below(kind)]
    same = [path for path in below if path.rpartition(".")[2] == key]
    if same:
        return f"there is {', '.join(same)}"
    own = kind.keys()
    near = difflib.get_close_matches(key, [*own, *(path.rpartition(".")[2] for path in below)], n=1)
    if not near:
        return "remove it"
    alike = [path for path in below if path.rpartition(".")[2] == near[0]]
    return f"did you mean {', '.join([repr(near[0])] if near[0] in own else alike)}?"


def _below(kind: Type[Settings], prefix: str = "") -> List[str]:
    """The keys of the parts of settings, and of theirs, with the keys that lead there."""
    found: List[str] = []
    for name, part_kind in kind.parts().items():
        keys = part_kind.keys()
        found += [f"{prefix}{name}.{key}" for key in keys]
        found += _below(part_kind, f"{prefix}{name}.")
    return found
