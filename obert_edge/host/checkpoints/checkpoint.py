"""Reading a transformers model folder: ``config.json`` and its tensors, nothing executed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional

import numpy as np
import numpy.typing as npt

from obert_edge.errors import CheckpointError
from obert_edge.host.architectures.bert import BERT
from obert_edge.host.checkpoints.sparseml import Floats, Loader, unwrap

CONFIG = "config.json"

SAFETENSORS = "model.safetensors"
SAFETENSORS_INDEX = "model.safetensors.index.json"
PICKLE = "pytorch_model.bin"
PICKLE_INDEX = "pytorch_model.bin.index.json"

#: Types of weights in a safetensors file; a bfloat16 is read as the upper half of a float32.
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
#: Types of the buffers that stand beside the weights, such as the switches of a quantizer.
_WHOLE_DTYPES = {"BOOL": "u1", "U8": "u1", "I8": "i1", "I16": "<i2", "I32": "<i4", "I64": "<i8"}
#: What ``DataParallel`` puts before every name.
_PARALLEL = "module."
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
        config = read_model_config(folder)
        tensors, quantization = unwrap(_open_tensors(folder), str(folder))
        return cls(folder, config, tensors, quantization)

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
                "build with task='encoder'",
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
        raise CheckpointError(
            f"{folder} has no {CONFIG}" if folder.is_dir() else f"there is no model folder {folder}",
            hint="give a folder that transformers' save_pretrained wrote, with config.json and the weights",
        )
    if str(config.get("model_type", "")).startswith(_MASKED[0]):
        config["model_type"] = str(config["model_type"])[len(_MASKED[0]) :]
    names = config.get("architectures")
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
            parallel = all(name.startswith(_PARALLEL) for name in tensors)
            start = len(_PARALLEL) if parallel else 0
            return {_modern_name(name[start:]): load for name, load in tensors.items()}
    raise CheckpointError(
        f"{folder} has neither {SAFETENSORS} nor {PICKLE} (nor their sharded index)",
        hint="save the model with save_pretrained",
    )


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
            hint="pip install 'obert-edge[host]', or save the model as safetensors",
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
