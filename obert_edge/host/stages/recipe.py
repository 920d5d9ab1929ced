"""A whole compression run as one typed, validated file.

A recipe that loads can run: unknown keys and wrong values are refused with the nearest name or the range.
Nothing here imports torch.
"""

from __future__ import annotations

import dataclasses
import difflib
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple, Type, TypeVar, Union

from obert_edge.errors import UsageError
from obert_edge.host.stages.settings import Distillation, Pruning, Quantization, Training, check, one_of

__all__ = [
    "BuildStage",
    "Distillation",
    "DropStage",
    "PruneStage",
    "Pruning",
    "Quantization",
    "QuantizeStage",
    "Recipe",
    "TaskSettings",
    "Training",
    "TransferStage",
    "TrimStage",
]

T = TypeVar("T")
#: How many recipes may extend one another.
_DEEPEST = 8


@dataclass(frozen=True)
class TaskSettings:
    """The data of a recipe; see :func:`obert_edge.host.data.load_task`.

    Args:
        name: ``sst2``, ``squad``, ``text``, ...
        data: folder, file, or ``hub:owner/set``.
        evaluate: the split every stage is scored on.
        tune: rows of train held out as split ``tune``.
        max_length: tokens per feature when scoring; ``None``: the task's default.
        text_columns: of ``text``.
        label_column: of ``text``.
        labels: of ``text``.
        rows: training rows, for a dry run where the data are not at hand.
    """

    name: str
    data: str
    evaluate: str = "dev"
    tune: int = 0
    max_length: Optional[int] = None
    text_columns: Tuple[str, ...] = ("text",)
    label_column: str = "label"
    labels: Optional[Tuple[str, ...]] = None
    rows: Optional[int] = None

    def __post_init__(self) -> None:
        check(self.tune >= 0, "tune", self.tune, "0 or more rows")
        check(self.rows is None or self.rows >= 1, "rows", self.rows, "1 or more")


@dataclass(frozen=True)
class TrimStage:
    """Leave out the pieces of the vocabulary that the task does not use.

    Args:
        corpus: files to count pieces in, beside the task's train split.
        min_count: pieces that occur less often go.
        keep: at most so many pieces stay, the most frequent ones; ``None``: no limit.
    """

    corpus: Tuple[str, ...] = ()
    min_count: int = 1
    keep: Optional[int] = None

    def __post_init__(self) -> None:
        check(self.min_count >= 1, "min_count", self.min_count, "1 or more")
        check(self.keep is None or self.keep >= 1, "keep", self.keep, "1 or more pieces")


@dataclass(frozen=True)
class DropStage:
    """Keep some layers of the encoder, and let them learn from the whole model.

    Args:
        keep: layers to keep, counted from 0, rising.
        training: how to train what is left; 0 epochs: not at all.
        distillation: default teacher: the model before its layers were dropped.
    """

    keep: Tuple[int, ...]
    training: Training = field(default_factory=Training)
    distillation: Distillation = field(default_factory=Distillation)

    def __post_init__(self) -> None:
        good = bool(self.keep) and list(self.keep) == sorted(set(self.keep)) and self.keep[0] >= 0
        check(good, "keep", list(self.keep), "layers counted from 0, rising, such as [0, 2, 4, 6, 8, 11]")


@dataclass(frozen=True)
class TransferStage:
    """Fine-tune a sparse model with its zeros fixed (sparse transfer, paper section 4.2).

    Args:
        training: steps and rates.
        distillation: names a teacher that is fine-tuned on the task, or has hardness 0.
    """

    training: Training = field(default_factory=Training)
    distillation: Distillation = field(default_factory=lambda: Distillation(hardness=0.0))


@dataclass(frozen=True)
class PruneStage(Pruning):
    """What :class:`Pruning` says, with how to train meanwhile."""

    training: Training = field(default_factory=Training)
    distillation: Distillation = field(default_factory=Distillation)

    @property
    def pruning(self) -> Pruning:
        """The part that is about pruning."""
        return _narrow(self, Pruning)


@dataclass(frozen=True)
class QuantizeStage(Quantization):
    """What :class:`Quantization` says, with how to train meanwhile."""

    training: Training = field(default_factory=Training)
    distillation: Distillation = field(default_factory=Distillation)

    @property
    def quantization(self) -> Quantization:
        """The part that is about quantization."""
        return _narrow(self, Quantization)

    def for_build(self, build: Optional[BuildStage]) -> Quantization:
        """The part that is about quantization, for a model that ``build`` will compile."""
        embeddings = self.embeddings or (build.embeddings if build is not None else None)
        return dataclasses.replace(self.quantization, embeddings=embeddings)


@dataclass(frozen=True)
class BuildStage:
    """Build a bundle.

    Args:
        target: ``x86`` or another of ``obert-edge doctor``'s targets.
        embeddings: word embeddings of ``int8`` or ``int4``; ``None``: those the model was quantized with.
    """

    target: str = "x86"
    embeddings: Optional[str] = None

    def __post_init__(self) -> None:
        if self.embeddings is not None:
            one_of("embeddings", self.embeddings, Quantization.EMBEDDINGS)


@dataclass(frozen=True)
class Recipe:
    """A compression run.

    Args:
        model: folder of the checkpoint to start from.
        output: folder for everything the run makes.
        task: the data.
        trim: absent: the whole vocabulary stays.
        finetune: how to train the dense model; absent: ``model`` is fine-tuned already.
        drop: absent: all layers stay.
        transfer: for a model that was pruned upstream; absent: none.
        prune: absent: stays dense.
        quantize: absent: stays float (``build`` then calibrates).
        build: absent: no bundle.
    """

    model: str
    output: str
    task: TaskSettings
    trim: Optional[TrimStage] = None
    finetune: Optional[Training] = None
    drop: Optional[DropStage] = None
    transfer: Optional[TransferStage] = None
    prune: Optional[PruneStage] = None
    quantize: Optional[QuantizeStage] = None
    build: Optional[BuildStage] = None

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
            _resolve(content, "model", path, model)
            _resolve(content, "output", path, output)
            if isinstance(content.get("task"), dict):
                _resolve(content["task"], "data", path, data)
            trim = content.get("trim")
            if isinstance(trim, dict) and isinstance(trim.get("corpus"), list):
                trim["corpus"] = [str((path.parent / str(file)).resolve()) for file in trim["corpus"]]
            for stage in content.values():
                if isinstance(stage, dict) and isinstance(stage.get("distillation"), dict):
                    _resolve(stage["distillation"], "teacher", path, None)
        return cls.from_dict(content)

    @classmethod
    def from_dict(cls, content: Any) -> Recipe:
        """Check plain values, as YAML gives them.

        Raises:
            UsageError: as :meth:`load`.
        """
        return _build(cls, content, "recipe")

    def to_dict(self) -> Dict[str, Any]:
        """Plain values for JSON; what is absent is left out."""
        return typing.cast(Dict[str, Any], _plain(dataclasses.asdict(self)))


def _read(path: Path, depth: int = 0) -> Any:
    """The content of a recipe, laid over the one it extends."""
    try:
        import yaml
    except ImportError as error:
        raise UsageError(
            "recipes need PyYAML, which is not installed", hint="pip install 'obert-edge[host]'"
        ) from error
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"there is no recipe {path}", hint="check the path") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{path} is not YAML: {error}", hint="compare it with docs/recipes.md") from error
    if not isinstance(content, dict) or "extends" not in content:
        return content
    base = content.pop("extends")
    if not isinstance(base, str) or depth == _DEEPEST:
        raise UsageError(
            f"{path} extends {base!r}",
            hint="name one recipe beside it, which extends at most a few others, not itself",
        )
    return _overlaid(_read(path.parent / base, depth + 1), content)


def _overlaid(base: Any, changes: Any) -> Any:
    """``changes`` over ``base``: key by key where both are mappings."""
    if not isinstance(base, dict) or not isinstance(changes, dict):
        return changes
    return {**base, **{key: _overlaid(base.get(key), value) for key, value in changes.items()}}


def _narrow(stage: Any, kind: Type[T]) -> T:
    fields = dataclasses.fields(kind)  # type: ignore[arg-type]
    return kind(**{f.name: getattr(stage, f.name) for f in fields})


def _resolve(content: Dict[str, Any], key: str, recipe: Path, override: Optional[str]) -> None:
    """Make a path of a recipe absolute: the caller's, or the recipe's beside its file."""
    value = override if override is not None else content.get(key)
    if isinstance(value, str) and not value.startswith("hub:"):
        folder = Path.cwd() if override is not None else recipe.parent
        content[key] = str((folder / value).resolve())
    elif override is not None:
        content[key] = override


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value


def _build(kind: Type[T], content: Any, where: str) -> T:
    """An instance of a dataclass from a mapping, strictly."""
    if content is None and where != "recipe":
        content = {}  # "build:" with nothing below it asks for the defaults
    if not isinstance(content, Mapping):
        raise UsageError(
            f"{where} is {content!r}, where keys and values were expected",
            hint=f"write `key: value` lines below {where}",
        )
    fields = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in content:
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=1)
            raise UsageError(
                f"{where} has an unknown key {str(key)!r}; its keys are {', '.join(fields)}",
                hint=f"did you mean {near[0]!r}?" if near else "remove it",
            )
    required = [
        name
        for name, f in fields.items()
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    missing = [name for name in required if content.get(name) is None]
    if missing:
        raise UsageError(f"{where} lacks {', '.join(missing)}", hint=f"add `{missing[0]}: ...` below {where}")
    hints = typing.get_type_hints(kind)
    values = {key: _convert(hints[key], value, f"{where}.{key}") for key, value in content.items()}
    try:
        return kind(**values)
    except UsageError as error:
        raise UsageError(f"{where}: {error.message}", hint=error.hint) from error


def _convert(hint: Any, value: Any, where: str) -> Any:
    """Check one value against its type; whole numbers may stand for floats, "5e-5" too."""
    options: List[Any] = list(typing.get_args(hint)) if typing.get_origin(hint) is Union else [hint]
    if value is None and type(None) in options and not any(map(dataclasses.is_dataclass, options)):
        return None
    wanted = next(option for option in options if option is not type(None))
    if dataclasses.is_dataclass(wanted):
        return _build(typing.cast(Type[Any], wanted), value, where)
    if typing.get_origin(wanted) is tuple:
        kind = typing.get_args(wanted)[0]
        alone = isinstance(value, str) if kind is str else isinstance(value, (int, float))
        items = [value] if alone else value
        if (
            kind is str
            and isinstance(items, (list, tuple))
            and all(isinstance(item, (str, int)) for item in items)
        ):
            return tuple(map(str, items))
        whole = isinstance(items, (list, tuple)) and all(type(item) in (int, kind) for item in items)
        if kind is not str and whole:
            return tuple(map(kind, items))
    elif wanted is float and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        # YAML 1.1 reads 5e-5 as text: it wants 5.0e-5.
        try:
            return float(value)
        except ValueError:
            pass
    elif isinstance(value, wanted) and not (wanted is int and isinstance(value, bool)):
        return value
    kinds = {str: "texts", int: "whole numbers", float: "numbers"}
    is_list = typing.get_origin(wanted) is tuple
    name = f"a list of {kinds[typing.get_args(wanted)[0]]}" if is_list else wanted.__name__
    raise UsageError(f"{where} is {value!r}", hint=f"{where} must be {name}")
