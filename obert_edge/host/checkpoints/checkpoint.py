"""Reading a transformers model folder: ``config.json`` and its tensors, nothing executed."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Set

import numpy as np
import numpy.typing as npt

from obert_edge.errors import CheckpointError
from obert_edge.host.architectures import ARCHITECTURES, Architecture, architecture_of
from obert_edge.host.architectures.base import Decoder
from obert_edge.host.architectures.bert import BERT
from obert_edge.host.checkpoints.sparseml import Floats, Loader, unwrap
from obert_edge.host.hub.names import HOW_TO_NAME
from obert_edge.packages import how_to_install

CONFIG = "config.json"

SAFETENSORS = "model.safetensors"
SAFETENSORS_INDEX = "model.safetensors.index.json"
PICKLE = "pytorch_model.bin"
PICKLE_INDEX = "pytorch_model.bin.index.json"

#: Types of weights in a safetensors file; a bfloat16 is read as the upper half of a float32.
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
#: Types of the buffers that stand beside the weights, such as the switches of a quantizer.
_WHOLE_DTYPES = {"BOOL": "u1", "U8": "u1", "I8": "i1", "I16": "<i2", "I32": "<i4", "I64": "<i8"}
#: What wrappers put before names: ``DataParallel``, DeepSpeed, Lightning, sentence-transformers, PEFT after
#: merging.
_WRAPPERS = ("module", "model", "base_model", "auto_model", "0", "_forward_module")
#: What ``torch.compile``, FSDP and gradient checkpointing put anywhere into a name.
_INNER_WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
#: Parts of names that adapters (PEFT) have and models have not.
_ADAPTER_PARTS = ("base_layer", "modules_to_save", "prompt_encoder")
_ADAPTER_STARTS = ("lora_", "ia3_", "vera_", "hada_", "lokr_", "oft_", "boft_")
ADAPTER_CONFIG = "adapter_config.json"
_ADAPTER_FILES = ("adapter_model.safetensors", "adapter_model.bin")
_MERGE = "merge it into its model first: model.merge_and_unload().save_pretrained(...)"
#: Where training frameworks keep the weights in a file that holds more.
_STATE_DICTS = ("state_dict", "model_state_dict", "model", "module")
#: What Hugging Face's movement pruning examples put before ``bert`` and ``BertFor...`` in ``config.json``.
_MASKED = ("masked_", "Masked")


@dataclass(frozen=True)
class Checkpoint:
    """A model folder: its configuration and its tensors, read when they are asked for.

    Attributes:
        folder: where it is.
        config: ``config.json``, with the names transformers has today.
        quantization: the content of a ``quantization.json`` made of the scales in the weights file
            (SparseML's QAT checkpoints); ``None``: there are none.
    """

    folder: Path
    config: Mapping[str, Any]
    _loaders: Mapping[str, Loader]
    quantization: Optional[Mapping[str, Any]] = None

    @classmethod
    def open(cls, folder: Path) -> Checkpoint:
        """Open a folder that ``save_pretrained`` wrote.

        Raises:
            CheckpointError: no such folder, no or bad ``config.json``, no weights, weights that are
                truncated, are no weights, or hold anything but tensors.
        """
        folder = Path(folder)
        _refuse_adapter(folder)
        config = read_model_config(folder)
        tensors, quantization = unwrap(_open_tensors(folder), str(folder))
        tensors = _renamed(tensors, config.get("model_type"), folder)
        checkpoint = cls(folder, _with_class(config, tensors, folder), tensors, quantization)
        _check_label_count(checkpoint)
        return checkpoint

    @classmethod
    def open_module(cls, folder: Path, config: Mapping[str, Any]) -> Checkpoint:
        """Open the folder of one module of sentence-transformers, such as ``2_Dense``.

        Args:
            folder: of the module.
            config: its configuration.

        Raises:
            CheckpointError: it has no weights, or they are damaged.
        """
        return cls(Path(folder), config, _open_tensors(Path(folder)))

    @property
    def names(self) -> List[str]:
        """Names of all tensors, sorted."""
        return sorted(self._loaders)

    def __contains__(self, name: str) -> bool:
        return name in self._loaders

    def label_count(self, architecture: Architecture) -> Optional[int]:
        """Rows of the head of a classifier among the tensors; None: there is no such head."""
        for task in heads_among(self._loaders, architecture):
            if task.endswith("classification"):
                return len(self._loaders[f"{architecture.heads[task].steps[-1].module}.weight"]())
        return None

    def replaced(self, tensors: Mapping[str, Floats]) -> Checkpoint:
        """The same checkpoint with other values of some of its tensors, float32 by name."""
        loaders: Dict[str, Loader] = {
            name: functools.partial(np.asarray, value) for name, value in tensors.items()
        }
        return dataclasses.replace(self, _loaders={**self._loaders, **loaders})

    def tensor(self, name: str, shape: Optional[tuple[int, ...]] = None) -> Floats:
        """A tensor as float32.

        Args:
            name: the tensor's name in the file.
            shape: what it must have.

        Raises:
            CheckpointError: there is no such tensor, it has another shape, or it is not finite.
        """
        if name not in self._loaders:
            raise CheckpointError(
                f"{self.folder} has no tensor {name!r}, which its config.json implies",
                hint="save the whole model with save_pretrained; a task head must have been trained, or "
                "build its encoder alone with --task encoder (in Python task='encoder')",
            )
        value = np.ascontiguousarray(self._loaders[name]())
        if value.dtype.kind in "iub":
            raise CheckpointError(
                f"tensor {name!r} of {self.folder} has dtype {value.dtype}; "
                f"supported are {', '.join(_DTYPES)}",
                hint="save the model in float32 or bfloat16",
            )
        value = value.astype(np.float32, copy=False)
        if shape is not None and value.shape != shape:
            raise CheckpointError(
                f"tensor {name!r} of {self.folder} has shape {value.shape}; config.json implies {shape}",
                hint="use the config.json that was saved with these weights",
            )
        if not np.isfinite(value).all():
            raise CheckpointError(
                f"tensor {name!r} of {self.folder} holds NaN or infinity",
                hint="the training diverged; use an earlier checkpoint",
            )
        return value


def read_model_config(folder: Path) -> Dict[str, Any]:
    """``config.json`` of a model folder, with the names transformers has today.

    Raises:
        CheckpointError: there is none, or it is not a JSON object.
    """
    folder = Path(folder)
    config = read_json(folder / CONFIG)
    if config is None:
        wanted = "give a folder that transformers' save_pretrained wrote, with config.json and the weights"
        if folder.exists():
            found = "has no" if folder.is_dir() else "is a file, not a folder with a"
            raise CheckpointError(f"{folder} {found} {CONFIG}", hint=wanted)
        raise CheckpointError(f"there is no model folder {folder}", hint=f"{wanted}; {HOW_TO_NAME}")
    kind = config.get("model_type")
    if kind is not None and not isinstance(kind, str):
        raise CheckpointError(
            f"config.json of {folder} has model_type = {str(kind)[:60]!r}; expected a text",
            hint="use the config.json that was saved with the weights",
        )
    if str(config.get("model_type", "")).startswith(_MASKED[0]):
        config["model_type"] = str(config["model_type"])[len(_MASKED[0]) :]
    _check_labels(config, folder)
    names = config.get("architectures")
    if isinstance(names, str):
        names = [names]
    if names is not None and not isinstance(names, list):
        raise CheckpointError(
            f"config.json of {folder} has architectures = {repr(names)[:60]}; expected a list of classes",
            hint='write it as ["BertForSequenceClassification"], the class that the weights were saved from',
        )
    if isinstance(names, list):
        config["architectures"] = [str(name).removeprefix(_MASKED[1]) for name in names]
        # Configurations of 2019 have no model_type; the class tells.
        classes = config["architectures"]
        if not config.get("model_type") and any(name.startswith(BERT.class_prefix) for name in classes):
            config["model_type"] = BERT.model_type
    return config


def read_json(path: Path) -> Optional[Dict[str, Any]]:
    """The JSON object in a file, or ``None`` when there is no such file.

    Raises:
        CheckpointError: it is not a JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, RecursionError, OSError) as error:
        raise CheckpointError(
            f"{path} cannot be read as JSON: {error}", hint="save the model again"
        ) from error
    if not isinstance(value, dict):
        raise CheckpointError(
            f"{path} holds a {type(value).__name__}, not an object", hint="save the model again"
        )
    return value


def _open_tensors(folder: Path) -> Dict[str, Loader]:
    for single, index, reader in (
        (SAFETENSORS, SAFETENSORS_INDEX, _read_safetensors),
        (PICKLE, PICKLE_INDEX, _read_pickle),
    ):
        files = [folder / single] if (folder / single).is_file() else _shards(folder, index)
        if files:
            tensors: Dict[str, Loader] = {}
            for file in files:
                tensors.update(reader(file))
            return _named_as_transformers(tensors, folder)
    raise CheckpointError(
        f"{folder} has neither {SAFETENSORS} nor {PICKLE} (nor their sharded index)",
        hint="save the model with save_pretrained",
    )


def _named_as_transformers(tensors: Mapping[str, Loader], folder: Path) -> Dict[str, Loader]:
    """The tensors without what wrappers put into their names.

    Raises:
        CheckpointError: some belong to an adapter that is not merged, or two have the same name.
    """
    adapters = [name for name in tensors if _is_adapter(name)]
    if adapters:
        raise CheckpointError(
            f"{folder} holds an adapter that is not merged into its model: {_listed(adapters)}", hint=_MERGE
        )
    named: Dict[str, Loader] = {}
    for name, load in tensors.items():
        plain = _modern_name(_without_wrappers(name))
        if plain in named:
            raise CheckpointError(
                f"{folder} holds the tensor {plain!r} twice, once as {name!r}",
                hint="save one model with save_pretrained",
            )
        named[plain] = load
    return named


def _renamed(tensors: Mapping[str, Loader], model_type: Any, folder: Path) -> Dict[str, Loader]:
    """The tensors of a family whose files have other names than transformers' modules, under the latter.

    Raises:
        CheckpointError: one of them is no whole number of matrices.
    """
    renamings = ARCHITECTURES[model_type].renamings if model_type in ARCHITECTURES else ()
    found: Dict[str, Loader] = {}
    for name, load in tensors.items():
        names = [name]
        for renaming in renamings:
            if renaming.published in names[0] and len(names) == 1:
                names = [names[0].replace(renaming.published, part) for part in renaming.parts]
        for index, new in enumerate(names):
            found[new] = (
                functools.partial(_rows, load, index, len(names), name, folder) if names[1:] else load
            )
    return found


def _rows(load: Loader, index: int, parts: int, name: str, folder: Path) -> Any:
    """Part ``index`` of a tensor whose rows are ``parts`` tensors one after the other."""
    value = load()
    if value.ndim == 0 or len(value) % parts:
        raise CheckpointError(
            f"tensor {name!r} of {folder} has shape {value.shape}; expected {parts} times as many rows as "
            "each of its parts has",
            hint="use the weights as they were published, or save the model again",
        )
    rows = len(value) // parts
    return value[index * rows : (index + 1) * rows]


def _is_adapter(name: str) -> bool:
    parts = name.split(".")
    return any(part in _ADAPTER_PARTS or part.startswith(_ADAPTER_STARTS) for part in parts)


def _without_wrappers(name: str) -> str:
    parts = [part for part in name.split(".") if part not in _INNER_WRAPPERS]
    while len(parts) > 1 and parts[0] in _WRAPPERS:
        del parts[0]
    return ".".join(parts)


def _refuse_adapter(folder: Path) -> None:
    """An adapter changes what the weights beside it compute; alone it is no model at all."""
    found = [name for name in _ADAPTER_FILES if (folder / name).is_file()]
    if not found:
        return
    about = read_json(folder / ADAPTER_CONFIG) or {}
    base = about.get("base_model_name_or_path")
    raise CheckpointError(
        f"{folder} holds an adapter ({found[0]})" + (f" of the model {base!r}" if base else ""),
        hint=f"{_MERGE}; or remove the adapter's files if it is merged already",
    )


def unknown_tensors(names: Iterable[str], architecture: Architecture, base: str) -> List[str]:
    """Those of some tensors that belong neither to a head the architecture has, nor to old buffers.

    Where a reader leaves one of them out, the model computes something else than the checkpoint did.

    Args:
        names: of tensors that a reader has no use for.
        architecture: its names.
        base: what every tensor name of the encoder starts with: ``"bert."`` or ``""``.
    """
    heads = {f"{base}{architecture.pooler}."} | {f"{name}." for name in architecture.other_heads}
    for head in architecture.heads.values():
        heads |= {f"{step.module.format(base=base)}." for step in head.steps}
    ignored = {base + name for name in architecture.ignored}
    return [name for name in names if name not in ignored and not name.startswith(tuple(heads))]


def heads_among(names: Collection[str], architecture: Architecture) -> List[str]:
    """The tasks whose heads are among the tensors: several where the names alone do not tell.

    Args:
        names: of all tensors.
        architecture: its names.
    """
    base = f"{architecture.prefix}."
    found: Dict[str, Set[str]] = {}  # task -> the modules of its head alone
    for task, head in architecture.heads.items():
        modules = [step.module for step in head.steps if not isinstance(step, Decoder)]
        if all(f"{module.format(base=base)}.weight" in names for module in modules):
            found[task] = {module for module in modules if not module.startswith("{base}")}
    return [task for task, own in found.items() if not any(own < other for other in found.values())]


def _with_class(config: Dict[str, Any], names: Collection[str], folder: Path) -> Dict[str, Any]:
    """The configuration with the class of the head among the tensors, where it names none or several.

    Where the tensors do not tell either, ``architectures`` stays as it is: the user has to name a task.
    """
    classes = config.get("architectures")
    if isinstance(classes, list) and len(classes) == 1 or config.get("model_type") not in ARCHITECTURES:
        return config
    architecture = architecture_of(config, folder)
    tasks = heads_among(names, architecture)
    if len(tasks) == 1:
        return {**config, "architectures": [architecture.class_name(tasks[0])]}
    return config


def _check_labels(config: Mapping[str, Any], folder: Path) -> None:
    labels = config.get("id2label")
    if not labels:
        return
    keys = sorted(labels, key=str) if isinstance(labels, dict) else []
    numbers = sorted(int(key) for key in keys if str(key).isdecimal())
    if not keys or numbers != list(range(len(keys))):
        raise CheckpointError(
            f"config.json of {folder} has id2label {labels!r}; expected the names of the labels by their "
            "numbers, from 0 on",
            hint='write it as {"0": "NEGATIVE", "1": "POSITIVE"}, a name for each row of the head',
        )
    names = [str(name) for name in labels.values()]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:  # the scores of an answer stand by their names
        raise CheckpointError(
            f"config.json of {folder} gives several labels the name {twice[0]!r} (id2label)",
            hint="give each row of the head a name of its own",
        )


def _check_label_count(checkpoint: Checkpoint) -> None:
    """Refuse names for more or fewer labels than the head of a classifier has rows."""
    labels = checkpoint.config.get("id2label")
    if not labels or checkpoint.config.get("model_type") not in ARCHITECTURES:
        return
    architecture = architecture_of(checkpoint.config, checkpoint.folder)
    rows = checkpoint.label_count(architecture)
    if rows is not None and rows != len(labels):
        raise CheckpointError(
            f"config.json of {checkpoint.folder} names {len(labels)} label{'' if len(labels) == 1 else 's'} "
            f"(id2label); the head has {rows} row{'' if rows == 1 else 's'}",
            hint="use the config.json that was saved with these weights, or correct id2label in it",
        )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(names[:4]) + more


def _modern_name(name: str) -> str:
    """Checkpoints of 2019 call the LayerNorm parameters gamma and beta."""
    for old, new in ((".gamma", ".weight"), (".beta", ".bias")):
        if name.endswith(f"LayerNorm{old}"):
            return name[: -len(old)] + new
    return name


def _shards(folder: Path, index: str) -> List[Path]:
    listing = read_json(folder / index)
    if listing is None:
        return []
    names = listing.get("weight_map")
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise CheckpointError(f"{folder / index} has no weight_map", hint="save the model again")
    files = [folder / name for name in sorted(set(names.values()))]
    for file in files:
        if file.parent != folder or not file.is_file():
            raise CheckpointError(
                f"{folder / index} names the shard {file.name!r}, which is not in the folder",
                hint="copy every shard of the model",
            )
    return files


def _read_safetensors(path: Path) -> Dict[str, Loader]:
    """Map the file; safetensors itself checks the header first, against hostile files."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="np") as opened:
            names = set(opened.keys())
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not a whole safetensors file: {error}",
            hint="compare its size with the one where it came from, and copy or download it again",
        ) from error
    data = np.memmap(path, np.uint8, "r")
    header_bytes = int.from_bytes(data[:8].tobytes(), "little")
    header = json.loads(data[8 : 8 + header_bytes].tobytes())
    start = 8 + header_bytes

    def loader(name: str) -> Loader:
        spec = header[name]
        begin, end = spec["data_offsets"]

        def load() -> npt.NDArray[Any]:
            dtype = _DTYPES.get(spec["dtype"]) or _WHOLE_DTYPES.get(spec["dtype"])
            if dtype is None:
                raise CheckpointError(
                    f"tensor {name!r} of {path} has dtype {spec['dtype']}; "
                    f"supported are {', '.join(_DTYPES)}",
                    hint="save the model in float32 or bfloat16",
                )
            raw = data[start + begin : start + end].view(dtype)
            if spec["dtype"] == "BF16":  # the upper half of a float32
                raw = (raw.astype(np.uint32) << 16).view(np.float32)
            return raw.reshape(spec["shape"])

        return load

    return {name: loader(name) for name in names}


def _read_pickle(path: Path) -> Dict[str, Loader]:
    """``torch.load(weights_only=True)``: tensors only; a pickle that would run code is refused."""
    import pickle

    try:
        import torch
    except ImportError as error:
        raise CheckpointError(
            f"{path} is a pickle, and reading one safely needs torch, which is not installed",
            hint=f"{how_to_install('torch')}, or save the model as safetensors",
        ) from error
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds more than tensors, or is damaged, and was not loaded: {_first_line(error)}",
            hint="do not use a checkpoint you do not trust; ask for one in safetensors",
        ) from error
    except Exception as error:  # the restricted unpickler lets any error of damaged bytes through
        raise CheckpointError(
            f"{path} ({path.stat().st_size} bytes) is not a whole checkpoint: {_first_line(error)}",
            hint="compare its size with the one where it came from, and copy or download it again",
        ) from error
    for key in _STATE_DICTS:
        if isinstance(tensors, dict) and isinstance(tensors.get(key), dict):
            tensors = tensors[key]
            break
    if not isinstance(tensors, dict) or not all(
        isinstance(value, torch.Tensor) for value in tensors.values()
    ):
        raise CheckpointError(f"{path} is not a dictionary of tensors", hint="save the model's state_dict()")

    def loader(tensor: Any) -> Loader:
        exact = torch.float32 if tensor.is_floating_point() else tensor.dtype
        return lambda: np.asarray(tensor.detach().to(exact).contiguous().numpy())

    return {str(name): loader(tensor) for name, tensor in tensors.items()}


def _first_line(error: Exception) -> str:
    return (str(error) or repr(error)).splitlines()[0]
