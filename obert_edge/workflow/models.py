"""Model folders: loading a checkpoint with the head a task needs, and saving it whole."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator

import torch
from torch import nn

from obert_edge.errors import CheckpointError
from obert_edge.tasks import Task
from obert_edge.tasks.base import QUESTION_ANSWERING, SEQUENCE_CLASSIFICATION, TOKEN_CLASSIFICATION

_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
)


def load_model(folder: Path, task: Task, *, seed: int = 42) -> nn.Module:
    """Load a checkpoint with the head of ``task``; a missing head is initialised from ``seed``.

    Pickled weights are read with ``weights_only``; safetensors are preferred.

    Raises:
        CheckpointError: the folder is not a readable checkpoint, or its head has other labels.
    """
    import transformers

    classes = {
        SEQUENCE_CLASSIFICATION: transformers.AutoModelForSequenceClassification,
        QUESTION_ANSWERING: transformers.AutoModelForQuestionAnswering,
        TOKEN_CLASSIFICATION: transformers.AutoModelForTokenClassification,
    }
    config = read_config(folder)
    if quantised(folder):
        raise CheckpointError(
            f"{folder} is already quantised (it holds quantization.json)",
            hint="start from the float checkpoint this one was made from",
        )
    torch.manual_seed(seed)
    options = task.model_options()
    if has_head(config, task) and task.labels:
        _check_labels(folder, config, task)
    try:
        # The class is chosen here, so "architectures" of the folder cannot pick code of its own.
        with quiet_transformers():
            model, found = classes[task.head].from_pretrained(
                str(folder), output_loading_info=True, **options
            )
    except Exception as error:  # the loaders below transformers have no common base of their own
        raise CheckpointError(
            f"{folder} cannot be loaded: {_first_line(error)}",
            hint="check that it is a complete checkpoint of a BERT-family encoder, or download it again",
        ) from error
    _check_complete(folder, model, found["missing_keys"])
    return model  # type: ignore[no-any-return]


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence transformers' bars and its table of missing keys: a new head is what is wanted."""
    from transformers.utils import logging

    verbosity: int = logging.get_verbosity()
    bars: bool = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def read_config(folder: Path) -> Dict[str, Any]:
    """``config.json`` of a model folder.

    Raises:
        CheckpointError: there is none, or it is not JSON.
    """
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise CheckpointError(
            f"{folder} is not a model folder: there is no config.json",
            hint="pass the folder that save_pretrained wrote, with config.json and model.safetensors",
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is not JSON: {error}", hint="download the checkpoint again") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{path} is not a JSON object", hint="download the checkpoint again")
    return config


def quantised(folder: Path) -> bool:
    """Whether a model folder carries quantisation ranges."""
    return (Path(folder) / "quantization.json").is_file()


def save_model(model: nn.Module, source: Path, folder: Path) -> None:
    """Write ``model`` and the tokenizer files of ``source`` into an existing folder."""
    with quiet_transformers():
        model.save_pretrained(str(folder))  # type: ignore[operator]
    copy_tokenizer(source, folder)


def copy_tokenizer(source: Path, folder: Path) -> None:
    """Copy the tokenizer files of one model folder to another."""
    for name in _TOKENIZER_FILES:
        if (Path(source) / name).is_file():
            shutil.copyfile(Path(source) / name, Path(folder) / name)


def has_head(config: Dict[str, Any], task: Task) -> bool:
    """Whether the checkpoint was saved with the kind of head the task needs."""
    suffix = {
        SEQUENCE_CLASSIFICATION: "ForSequenceClassification",
        TOKEN_CLASSIFICATION: "ForTokenClassification",
        QUESTION_ANSWERING: "ForQuestionAnswering",
    }[task.head]
    return any(str(name).endswith(suffix) for name in config.get("architectures") or ())


def _check_complete(folder: Path, model: Any, missing: Iterable[str]) -> None:
    """A new head is trained; an encoder that was filled with random numbers must not pass for one."""
    prefix = f"{model.base_model_prefix}."
    lost = sorted(key for key in missing if key.startswith(prefix) and ".pooler." not in key)
    if lost:
        raise CheckpointError(
            f"{folder} lacks {len(lost)} weights of the encoder, the first is {lost[0]}",
            hint="download the checkpoint again; a converted one must keep transformers' tensor names",
        )


def _check_labels(folder: Path, config: Dict[str, Any], task: Task) -> None:
    found = list((config.get("id2label") or {}).values())
    if found and len(found) != len(task.labels):
        raise CheckpointError(
            f"{folder} has a head of {len(found)} labels ({', '.join(map(str, found))}); "
            f"task {task.name!r} has {len(task.labels)} ({', '.join(task.labels)})",
            hint="pass the checkpoint fine-tuned on this task, or the bare encoder",
        )


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
