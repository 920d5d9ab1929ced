"""Model folders: loading a checkpoint with the head a task needs, and saving it whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, Optional, cast

import torch
from torch import nn

from obert_edge.errors import CheckpointError
from obert_edge.host.checkpoints.checkpoint import Checkpoint, read_model_config
from obert_edge.host.checkpoints.pytorch import load_pytorch, quiet_transformers
from obert_edge.host.data import Task
from obert_edge.host.data.base import (
    MASKED_LM,
    QUESTION_ANSWERING,
    SEQUENCE_CLASSIFICATION,
    TOKEN_CLASSIFICATION,
)
from obert_edge.host.stages.companions import copy_companions

QUANTIZATION = "quantization.json"
#: What transformers' classes with a head are called, after the architecture's name.
HEADS = {
    SEQUENCE_CLASSIFICATION: "ForSequenceClassification",
    TOKEN_CLASSIFICATION: "ForTokenClassification",
    QUESTION_ANSWERING: "ForQuestionAnswering",
    MASKED_LM: "ForMaskedLM",
}


def load_model(folder: Path, task: Task, *, seed: int = 42, new_head: bool = False) -> nn.Module:
    """Load a checkpoint with the head of ``task``; a missing head is initialized from ``seed``.

    Any folder that ``build`` takes will do, since one importer serves both. From a quantized checkpoint of
    SparseML the float weights are loaded. A head whose labels come in another order than the task's is
    put in the task's order.

    Raises:
        CheckpointError: the folder is not a readable checkpoint, or its head has other labels.
    """
    _refuse_quantized(folder)
    checkpoint = Checkpoint.open(folder)
    if not new_head and not has_head(checkpoint.config, task):
        raise CheckpointError(
            f"{folder} has no {task.head} head, which task {task.name!r} needs",
            hint="fine-tune it on the task first (`obert-edge finetune`)",
        )
    torch.manual_seed(seed)
    order: Optional[List[int]] = None
    if has_head(checkpoint.config, task) and task.labels:
        order = _label_order(folder, checkpoint.config, task)
    model, missing = load_pytorch(checkpoint, HEADS[task.head], **task.model_options())
    _check_complete(folder, model, missing)
    if order is not None and order != sorted(order):
        head = _output_layer(model)
        with torch.no_grad():
            head.weight.copy_(head.weight[order].clone())
            head.bias.copy_(head.bias[order].clone())
    return model  # type: ignore[no-any-return]


def load_as_it_is(folder: Path) -> nn.Module:
    """Load a checkpoint with the head it was saved with, or with none, for work that needs no other.

    Raises:
        CheckpointError: the folder is not a readable checkpoint, lacks weights, or has another head.
    """
    _refuse_quantized(folder)
    checkpoint = Checkpoint.open(folder)
    name = str((checkpoint.config.get("architectures") or ["Model"])[0])
    suffixes = (*HEADS.values(), "ForPreTraining", "Model")
    suffix = next((suffix for suffix in suffixes if name.endswith(suffix)), None)
    if suffix is None:
        raise CheckpointError(
            f"{folder} is a {name}, a head that is not supported; supported are {', '.join(suffixes)}",
            hint="save its encoder alone with save_pretrained",
        )
    model, missing = load_pytorch(checkpoint, suffix)
    lost = [key for key in missing if "pooler." not in key]
    if lost:
        raise CheckpointError(
            f"{folder} lacks {len(lost)} weights of a {name}, the first is {lost[0]}",
            hint="download the checkpoint again; a converted one must keep transformers' tensor names",
        )
    if missing:
        # A pooler that was never saved would be random numbers in what is written.
        getattr(model, model.base_model_prefix, model).pooler = None
    return model  # type: ignore[no-any-return]


def read_config(folder: Path) -> Dict[str, Any]:
    """``config.json`` of a model folder.

    Raises:
        CheckpointError: there is none, or it is not JSON.
    """
    return read_model_config(folder)


def quantized(folder: Path) -> bool:
    """Whether a model folder carries quantization ranges, beside the weights or among them."""
    return (Path(folder) / QUANTIZATION).is_file() or Checkpoint.open(folder).quantization is not None


def save_model(model: nn.Module, source: Path, folder: Path) -> None:
    """Write ``model`` and what else ``source`` holds for it into an existing folder."""
    with quiet_transformers():
        model.save_pretrained(str(folder))  # type: ignore[operator]
    copy_companions(source, folder)


def has_head(config: Mapping[str, Any], task: Task) -> bool:
    """Whether the checkpoint was saved with the kind of head the task needs."""
    suffixes = (HEADS[task.head],) + (("ForPreTraining",) if task.head == MASKED_LM else ())
    return any(str(name).endswith(suffixes) for name in config.get("architectures") or ())


def _refuse_quantized(folder: Path) -> None:
    if (Path(folder) / QUANTIZATION).is_file():
        raise CheckpointError(
            f"{folder} is already quantized (it holds {QUANTIZATION})",
            hint="start from the float checkpoint this one was made from",
        )


def _check_complete(folder: Path, model: Any, missing: Iterable[str]) -> None:
    """Refuse a checkpoint that lacks weights of the encoder, which loading has filled with random numbers.

    A head may be new, and so may a pooler: fine-tuning trains them from there.
    """
    prefix = f"{model.base_model_prefix}."
    lost = sorted(key for key in missing if key.startswith(prefix) and ".pooler." not in key)
    if lost:
        raise CheckpointError(
            f"{folder} lacks {len(lost)} weights of the encoder, the first is {lost[0]}",
            hint="download the checkpoint again; a converted one must keep transformers' tensor names",
        )


def _label_order(folder: Path, config: Mapping[str, Any], task: Task) -> Optional[List[int]]:
    """For each label of the task its row in the checkpoint's head; ``None`` where the names do not tell.

    Raises:
        CheckpointError: the number of labels differs.
    """
    by_id = config.get("id2label") or {}
    found = [str(by_id[key]) for key in sorted(by_id, key=int)]
    if found and len(found) != len(task.labels):
        raise CheckpointError(
            f"{folder} has a head of {len(found)} labels ({', '.join(found)}); "
            f"task {task.name!r} has {len(task.labels)} ({', '.join(task.labels)})",
            hint="pass the checkpoint fine-tuned on this task, or the bare encoder",
        )
    names = [name.lower() for name in found]
    wanted = [label.lower() for label in task.labels]
    return [names.index(label) for label in wanted] if sorted(names) == sorted(wanted) else None


def _output_layer(model: nn.Module) -> nn.Linear:
    """The linear of a classification head that has a row per label."""
    classifier: Any = model.classifier
    return cast(nn.Linear, getattr(classifier, "out_proj", classifier))
