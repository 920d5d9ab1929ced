"""A whole compression run as one typed, validated file.

Every value is checked where it is stored, so that a recipe that loads can run; an error names the
key, the value found, and what to write instead. Nothing here imports torch.
"""

from __future__ import annotations

import dataclasses
import difflib
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Dict, List, Mapping, Optional, Tuple, Type, TypeVar, Union

from obert_edge.errors import UsageError

T = TypeVar("T")


def _check(good: bool, key: str, value: object, expected: str) -> None:
    if not good:
        raise UsageError(f"{key} is {value!r}", hint=f"{key} must be {expected}")


def _one_of(key: str, value: str, choices: Tuple[str, ...]) -> None:
    if value not in choices:
        near = difflib.get_close_matches(str(value), choices, n=1)
        raise UsageError(
            f"{key} is {value!r}",
            hint=f"did you mean {near[0]!r}?" if near else f"{key} must be one of {', '.join(choices)}",
        )


@dataclass(frozen=True)
class Training:
    """How a stage trains; every stage has its own.

    Args:
        epochs: passes over the train split; 0 means no training (one shot).
        max_steps: optimiser steps, instead of ``epochs`` when given.
        learning_rate: peak of the linear decay (with warm-up and rewinds).
        final_learning_rate: where the decay ends.
        warmup: share of all steps spent rising from 0.
        batch_size: examples per step and device.
        max_length: tokens per feature; ``None``: the task's default.
        weight_decay: AdamW's, on weights only.
        precision: ``fp32`` or ``bf16`` (autocast).
        seed: of data order, dropout and new heads.
        dropout: probability in every dropout layer while training; ``None``: the checkpoint's own.
            0 suits short runs, and is several times faster on a CPU.
        freeze_embeddings: leave the embedding tables as they are (faster, and a regulariser).
        save_steps: steps between checkpoints to resume from; ``None``: ten per run.
    """

    epochs: float = 3.0
    max_steps: Optional[int] = None
    learning_rate: float = 5e-5
    final_learning_rate: float = 0.0
    warmup: float = 0.06
    batch_size: int = 32
    max_length: Optional[int] = None
    weight_decay: float = 0.01
    precision: str = "fp32"
    seed: int = 42
    dropout: Optional[float] = None
    freeze_embeddings: bool = False
    save_steps: Optional[int] = None

    def __post_init__(self) -> None:
        _check(self.epochs >= 0, "epochs", self.epochs, "0 (no training) or more")
        _check(self.max_steps is None or self.max_steps >= 0, "max_steps", self.max_steps, "0 or more")
        _check(
            0 < self.learning_rate < 1, "learning_rate", self.learning_rate, "between 0 and 1, such as 5e-5"
        )
        _check(
            0 <= self.final_learning_rate <= self.learning_rate,
            "final_learning_rate",
            self.final_learning_rate,
            "from 0 to learning_rate",
        )
        _check(0 <= self.warmup < 1, "warmup", self.warmup, "a share of the steps in [0, 1)")
        _check(self.batch_size >= 1, "batch_size", self.batch_size, "1 or more")
        _check(
            self.max_length is None or self.max_length >= 8, "max_length", self.max_length, "8 or more tokens"
        )
        _check(self.weight_decay >= 0, "weight_decay", self.weight_decay, "0 or more")
        _one_of("precision", self.precision, ("fp32", "bf16"))
        _check(self.dropout is None or 0 <= self.dropout < 1, "dropout", self.dropout, "in [0, 1)")
        _check(self.save_steps is None or self.save_steps >= 1, "save_steps", self.save_steps, "1 or more")


@dataclass(frozen=True)
class Pruning:
    """What is pruned, how and when.

    Args:
        sparsity: share of the encoder's linear weights that are zero in the end, in [0, 1).
        pattern: ``unstructured``, ``4x1``, ``2x1``, ``1x4``, ``2:4``, ... (blocks are OUTxIN).
        method: ``obert`` or ``magnitude``.
        initial_sparsity: reached by the first pruning step.
        steps: pruning steps, cubically spaced in sparsity.
        until: share of training after which nothing more is pruned.
        gradients: m, mini-batch gradients per pruning step.
        gradient_batch_size: examples in each.
        block_size: B, weights in a Fisher block.
        dampening: lambda of the paper.
        solver: ``joint`` or ``paper``.
        recomputations: Fisher matrices per pruning step.
    """

    sparsity: float = 0.8
    pattern: str = "4x1"
    method: str = "obert"
    initial_sparsity: float = 0.5
    steps: int = 4
    until: float = 0.5
    gradients: int = 256
    gradient_batch_size: int = 16
    block_size: int = 32
    dampening: float = 1e-7
    solver: str = "joint"
    recomputations: int = 1

    METHODS: ClassVar[Tuple[str, ...]] = ("obert", "magnitude")

    def __post_init__(self) -> None:
        for key in ("sparsity", "initial_sparsity"):
            value = getattr(self, key)
            _check(0 <= value < 1, key, value, "a share of the weights in [0, 1), such as 0.8 for 80 %")
        _one_of("method", self.method, self.METHODS)
        _one_of("solver", self.solver, ("joint", "paper"))
        _check(0 < self.until <= 1, "until", self.until, "a share of training in (0, 1]")
        for key in ("steps", "gradients", "gradient_batch_size", "block_size", "recomputations"):
            _check(getattr(self, key) >= 1, key, getattr(self, key), "1 or more")
        _check(self.dampening > 0, "dampening", self.dampening, "above 0, such as 1e-7")


@dataclass(frozen=True)
class Quantization:
    """How activations become 8 bit.

    Args:
        method: ``qat`` (train with the engine's arithmetic) or ``calibrate`` (no training).
        activations: ``static`` or ``dynamic`` (scales per token).
        observe: QAT: share of the steps during which ranges are still updated.
        observer: calibrate: ``minmax``, ``percentile`` or ``mse``.
        calibration_examples: calibrate: train rows to look at.
    """

    method: str = "qat"
    activations: str = "static"
    observe: float = 0.5
    observer: str = "mse"
    calibration_examples: int = 256

    def __post_init__(self) -> None:
        _one_of("method", self.method, ("qat", "calibrate"))
        _one_of("activations", self.activations, ("static", "dynamic"))
        _one_of("observer", self.observer, ("minmax", "percentile", "mse"))
        _check(0 < self.observe <= 1, "observe", self.observe, "a share of training in (0, 1]")
        _check(self.calibration_examples >= 1, "calibration_examples", self.calibration_examples, "1 or more")


@dataclass(frozen=True)
class Distillation:
    """Learning from a teacher.

    Args:
        teacher: folder of a fine-tuned model of the task; ``None``: the stage's own input
            (in a recipe: the dense model).
        hardness: share of the teacher's loss; 1 uses no labels, 0 no teacher.
        temperature: T of the softmax.
    """

    teacher: Optional[str] = None
    hardness: float = 1.0
    temperature: float = 2.0

    def __post_init__(self) -> None:
        _check(0 <= self.hardness <= 1, "hardness", self.hardness, "from 0 (labels only) to 1 (teacher only)")
        _check(self.temperature > 0, "temperature", self.temperature, "above 0, such as 2")

    def with_teacher(self, teacher: Optional[str]) -> Distillation:
        """These settings with ``teacher`` where none is named."""
        return self if self.teacher is not None else dataclasses.replace(self, teacher=teacher)


@dataclass(frozen=True)
class TaskSettings:
    """The data of a recipe; see :func:`obert_edge.tasks.load_task`.

    Args:
        name: ``sst2``, ``squad``, ``text``, ...
        data: folder, file, or ``hub:owner/set``.
        evaluate: the split every stage is scored on.
        tune: rows of train held out as split ``tune``.
        max_length: tokens per feature when scoring; ``None``: the task's default.
        text_columns: of ``text``.
        label_column: of ``text``.
        labels: of ``text``.
    """

    name: str
    data: str
    evaluate: str = "dev"
    tune: int = 0
    max_length: Optional[int] = None
    text_columns: Tuple[str, ...] = ("text",)
    label_column: str = "label"
    labels: Optional[Tuple[str, ...]] = None

    def __post_init__(self) -> None:
        _check(self.tune >= 0, "tune", self.tune, "0 or more rows")


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
        """The part that is about quantisation."""
        return _narrow(self, Quantization)


@dataclass(frozen=True)
class BuildStage:
    """Build a bundle.

    Args:
        target: ``x86`` or another of ``obert-edge doctor``'s targets.
    """

    target: str = "x86"


@dataclass(frozen=True)
class Recipe:
    """A compression run.

    Args:
        model: folder of the checkpoint to start from.
        output: folder for everything the run makes.
        task: the data.
        finetune: how to train the dense model; absent: ``model`` is fine-tuned already.
        prune: absent: stays dense.
        quantize: absent: stays float (``build`` then calibrates).
        build: absent: no bundle.
    """

    model: str
    output: str
    task: TaskSettings
    finetune: Optional[Training] = None
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

        Args:
            path: the YAML file.
            model: in place of the recipe's ``model``, relative to the working directory.
            data: the same for ``task.data``.
            output: the same for ``output``.

        Raises:
            UsageError: not YAML, an unknown or missing key, or a value of the wrong type or range.
        """
        try:
            import yaml
        except ImportError as error:
            raise UsageError(
                "recipes need PyYAML, which is not installed", hint="pip install 'obert-edge[host]'"
            ) from error
        path = Path(path)
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise UsageError(f"there is no recipe {path}", hint="check the path") from error
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise UsageError(
                f"{path} is not YAML: {error}", hint="compare it with docs/recipes.md"
            ) from error
        if isinstance(content, dict):
            _resolve(content, "model", path, model)
            _resolve(content, "output", path, output)
            if isinstance(content.get("task"), dict):
                _resolve(content["task"], "data", path, data)
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
        items = [value] if isinstance(value, str) else value
        if isinstance(items, list) and all(isinstance(item, (str, int)) for item in items):
            return tuple(map(str, items))
    elif wanted is float and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        # YAML 1.1 reads 5e-5 as text: it wants 5.0e-5.
        try:
            return float(value)
        except ValueError:
            pass
    elif isinstance(value, wanted) and not (wanted is int and isinstance(value, bool)):
        return value
    name = "a list of texts" if typing.get_origin(wanted) is tuple else wanted.__name__
    raise UsageError(f"{where} is {value!r}", hint=f"{where} must be {name}")
