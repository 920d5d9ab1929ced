"""Reading a transformers model folder: ``config.json`` and its tensors, nothing executed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional

import numpy as np
import numpy.typing as npt

from obert_edge.errors import CheckpointError

Floats = npt.NDArray[np.float32]

SAFETENSORS = "model.safetensors"
SAFETENSORS_INDEX = "model.safetensors.index.json"
PICKLE = "pytorch_model.bin"
PICKLE_INDEX = "pytorch_model.bin.index.json"

_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


@dataclass(frozen=True)
class Checkpoint:
    """A model folder: its configuration and its tensors, read when they are asked for.

    Attributes:
        folder: where it is.
        config: ``config.json``.
    """

    folder: Path
    config: Mapping[str, Any]
    _loaders: Mapping[str, Callable[[], Floats]]

    @classmethod
    def open(cls, folder: Path) -> Checkpoint:
        """Open a folder that ``save_pretrained`` wrote.

        Raises:
            CheckpointError: no such folder, no or bad ``config.json``, no weights, weights that are
                truncated, are no weights, or hold anything but tensors.
        """
        folder = Path(folder)
        config = read_json(folder / "config.json")
        if config is None:
            raise CheckpointError(
                f"{folder} has no config.json" if folder.is_dir() else f"there is no model folder {folder}",
                hint="give a folder that transformers' save_pretrained wrote",
            )
        return cls(folder, config, _open_tensors(folder))

    @property
    def names(self) -> List[str]:
        """Names of all tensors, sorted."""
        return sorted(self._loaders)

    def __contains__(self, name: str) -> bool:
        return name in self._loaders

    def tensor(self, name: str, shape: Optional[tuple[int, ...]] = None) -> Floats:
        """A tensor as float32.

        Args:
            name: as in the file.
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
        value = self._loaders[name]()
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


def _open_tensors(folder: Path) -> Dict[str, Callable[[], Floats]]:
    for single, index, reader in (
        (SAFETENSORS, SAFETENSORS_INDEX, _read_safetensors),
        (PICKLE, PICKLE_INDEX, _read_pickle),
    ):
        files = [folder / single] if (folder / single).is_file() else _shards(folder, index)
        if files:
            tensors: Dict[str, Callable[[], Floats]] = {}
            for file in files:
                tensors.update(reader(file))
            return {_modern_name(name): load for name, load in tensors.items()}
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


def _read_safetensors(path: Path) -> Dict[str, Callable[[], Floats]]:
    """Map the file; safetensors itself checks the header first, against hostile files."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="np") as opened:
            names = set(opened.keys())
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not a whole safetensors file: {error}", hint="copy or save the model again"
        ) from error
    data = np.memmap(path, np.uint8, "r")
    header_bytes = int.from_bytes(data[:8].tobytes(), "little")
    header = json.loads(data[8 : 8 + header_bytes].tobytes())
    start = 8 + header_bytes

    def loader(name: str) -> Callable[[], Floats]:
        spec = header[name]
        begin, end = spec["data_offsets"]

        def load() -> Floats:
            if spec["dtype"] not in _DTYPES:
                raise CheckpointError(
                    f"tensor {name!r} of {path} has dtype {spec['dtype']}; "
                    f"supported are {', '.join(_DTYPES)}",
                    hint="save the model in float32 or bfloat16",
                )
            raw = data[start + begin : start + end].view(_DTYPES[spec["dtype"]])
            if spec["dtype"] == "BF16":  # the upper half of a float32
                raw = (raw.astype(np.uint32) << 16).view(np.float32)
            return np.ascontiguousarray(raw.reshape(spec["shape"]), dtype=np.float32)

        return load

    return {name: loader(name) for name in names}


def _read_pickle(path: Path) -> Dict[str, Callable[[], Floats]]:
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
            f"{path} is not a whole checkpoint: {_first_line(error)}",
            hint="copy or save the model again",
        ) from error
    if not isinstance(tensors, dict) or not all(
        isinstance(value, torch.Tensor) for value in tensors.values()
    ):
        raise CheckpointError(f"{path} is not a dictionary of tensors", hint="save the model's state_dict()")

    def loader(tensor: Any) -> Callable[[], Floats]:
        return lambda: np.asarray(tensor.detach().to(torch.float32).contiguous().numpy())

    return {str(name): loader(tensor) for name, tensor in tensors.items()}


def _first_line(error: Exception) -> str:
    return (str(error) or repr(error)).splitlines()[0]
