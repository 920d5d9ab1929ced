"""What ``config.json`` says of a model, checked, in one vocabulary for all architectures."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, List, Optional

from obert_edge.bundle.manifest import TASK_TYPES
from obert_edge.bundle.program import Activation
from obert_edge.errors import CheckpointError, UsageError
from obert_edge.host.architectures import ARCHITECTURES, CLASS_SUFFIXES, Architecture, architecture_of
from obert_edge.host.checkpoints.checkpoint import Checkpoint, heads_among, read_json

#: The engine's activation by the name transformers gives it (``hidden_act`` in ``config.json``).
ACTIVATIONS = {
    "gelu": Activation.GELU,
    "gelu_python": Activation.GELU,
    "gelu_new": Activation.GELU_TANH,
    "gelu_pytorch_tanh": Activation.GELU_TANH,
    "gelu_fast": Activation.GELU_TANH,
    "relu": Activation.RELU,
}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelConfig:
    """An encoder and the head to compile with it.

    Attributes:
        architecture: its names.
        class_name: the transformers class that ``config.json`` names.
        base: what every tensor name of the encoder starts with: ``"bert."`` or ``""``.
        task: what is compiled, one of ``TASK_TYPES``.
        hidden: channels of a token between layers.
        layers: number of encoder layers.
        heads: attention heads; they divide ``hidden``.
        intermediate: channels between the two feed-forward linears.
        embedding: channels of an embedding row.
        activation: the feed-forward activation, as the engine has it.
        activation_name: the same as ``config.json`` calls it.
        epsilon: added to the variance in every LayerNorm.
        vocabulary: rows of the word-embedding table.
        positions: rows of the position table.
        position_offset: row of the position table that a sequence's first token takes.
        pad_id: token id of padding.
        type_vocabulary: rows of the token-type table; 0: the model has none.
        pooling: ``mean``, ``cls`` or ``pooler`` for ``task == "encoder"``, else "".
        normalize: whether sentence embeddings are to be divided by their Euclidean length.
    """

    architecture: Architecture
    class_name: str
    base: str
    task: str
    hidden: int
    layers: int
    heads: int
    intermediate: int
    embedding: int
    activation: Activation
    activation_name: str
    epsilon: float
    vocabulary: int
    positions: int
    position_offset: int
    pad_id: int
    type_vocabulary: int
    pooling: str = ""
    normalize: bool = False

    @property
    def class_for_task(self) -> str:
        """The transformers class of the encoder with the head that is compiled."""
        return self.architecture.class_name(self.task)

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence that the position table covers."""
        return self.positions - self.position_offset


def read_config(
    checkpoint: Checkpoint, task: Optional[str] = None, pooling: Optional[str] = None
) -> ModelConfig:
    """Interpret a checkpoint's configuration.

    Args:
        checkpoint: the model folder.
        task: what to compile; default: what the class in ``architectures`` is for.
        pooling: how an encoder makes one vector of a text; default: what sentence-transformers'
            ``1_Pooling/config.json`` says, else ``mean``.

    Raises:
        CheckpointError: the architecture, or something it is configured to do, is not supported.
        UsageError: ``task`` or ``pooling`` is not one there is.
    """
    config = checkpoint.config
    architecture = architecture_of(config, checkpoint.folder)
    _refuse_unsupported(checkpoint)
    fields = architecture.fields
    hidden, heads = _size(checkpoint, fields.hidden), _size(checkpoint, fields.heads)
    if hidden % heads:
        raise CheckpointError(
            f"{checkpoint.folder}: {heads} attention heads do not divide the hidden size {hidden}",
            hint="use the config.json that was saved with the weights",
        )
    name = config.get(fields.activation, "gelu")
    if name not in ACTIVATIONS:
        raise CheckpointError(
            f"{checkpoint.folder} uses the activation {name!r}; supported are {', '.join(ACTIVATIONS)}",
            hint="start from a model with one of these activations",
        )
    class_name = _class_name(checkpoint, architecture)
    chosen = _task(checkpoint, architecture, class_name, task)
    pad_id = config.get("pad_token_id")
    if not isinstance(pad_id, int):
        pad_id = 1 if architecture.positions_after_padding else 0
    pooled = _pooling(checkpoint, architecture, pooling) if chosen == "encoder" else ""
    return ModelConfig(
        architecture=architecture,
        class_name=class_name,
        base=f"{architecture.prefix}." if _has_prefix(checkpoint, architecture) else "",
        task=chosen,
        hidden=hidden,
        layers=_size(checkpoint, fields.layers),
        heads=heads,
        intermediate=_size(checkpoint, fields.intermediate),
        embedding=_size(checkpoint, fields.embedding if fields.embedding in config else fields.hidden),
        activation=ACTIVATIONS[name],
        activation_name=name,
        epsilon=architecture.epsilon or float(config.get("layer_norm_eps", 1e-12)),
        vocabulary=_size(checkpoint, "vocab_size"),
        positions=_size(checkpoint, "max_position_embeddings"),
        position_offset=pad_id + 1 if architecture.positions_after_padding else 0,
        pad_id=pad_id,
        type_vocabulary=_size(checkpoint, "type_vocab_size") if architecture.token_type else 0,
        pooling=pooled,
        normalize=chosen == "encoder" and _normalizes(checkpoint),
    )


def _refuse_unsupported(checkpoint: Checkpoint) -> None:
    config = checkpoint.config
    if config.get("position_embedding_type", "absolute") != "absolute":
        raise CheckpointError(
            f"{checkpoint.folder} has position embeddings of type {config['position_embedding_type']!r}; "
            "only 'absolute' is supported",
            hint="start from a model with absolute positions",
        )
    if config.get("is_decoder") or config.get("add_cross_attention") or config.get("is_encoder_decoder"):
        raise CheckpointError(
            f"{checkpoint.folder} is a decoder; only encoders are supported",
            hint=f"start from an encoder ({', '.join(ARCHITECTURES)})",
        )
    if config.get("quantization_config"):
        raise CheckpointError(
            f"the weights of {checkpoint.folder} are already quantized by another tool (quantization_config)",
            hint="build from the float checkpoint: obert-edge quantizes it itself",
        )


def _size(checkpoint: Checkpoint, name: str) -> int:
    value: Any = checkpoint.config.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise CheckpointError(
            f"config.json of {checkpoint.folder} has {name} = {value!r}; expected a whole number above 0",
            hint="use the config.json that was saved with the weights",
        )
    return value


def _class_name(checkpoint: Checkpoint, architecture: Architecture) -> str:
    names = checkpoint.config.get("architectures") or [f"{architecture.class_prefix}Model"]
    return str(names[0])


def _task(checkpoint: Checkpoint, architecture: Architecture, class_name: str, task: Optional[str]) -> str:
    if task is not None:
        if task not in TASK_TYPES:
            raise UsageError(f"there is no task {task!r}", hint=f"use one of {', '.join(TASK_TYPES)}")
        return task
    named = checkpoint.config.get("architectures") or []
    heads = heads_among(checkpoint.names, architecture)
    if len(named) > 1 or (not named and heads):
        raise CheckpointError(
            f"config.json of {checkpoint.folder} names {', '.join(map(str, named)) or 'no class'} "
            f"(architectures), and the weights may be those of {', '.join(heads) or 'an encoder'}",
            hint="name the head to compile with --task (in Python task)",
        )
    found = architecture.task_of(class_name)
    if found is None:
        raise CheckpointError(
            f"{checkpoint.folder} is a {class_name}, a head that is not supported; supported are "
            f"{', '.join(CLASS_SUFFIXES.values())}",
            hint="build its encoder alone with --task encoder (in Python task='encoder')",
        )
    return found


def _has_prefix(checkpoint: Checkpoint, architecture: Architecture) -> bool:
    return any(name.startswith(f"{architecture.prefix}.{architecture.word}") for name in checkpoint.names)


def _pooling(checkpoint: Checkpoint, architecture: Architecture, pooling: Optional[str]) -> str:
    if pooling is None:
        pooling = _sentence_transformers_pooling(checkpoint)
    known: List[str] = ["mean", "cls"] + (["pooler"] if architecture.pooler else [])
    if pooling not in known:
        raise UsageError(
            f"pooling {pooling!r} does not exist for {architecture.model_type}",
            hint=f"use one of {', '.join(known)}",
        )
    return pooling


def _sentence_transformers_pooling(checkpoint: Checkpoint) -> str:
    path = checkpoint.folder / "1_Pooling" / "config.json"
    config = read_json(path)
    if config is None:
        _log.info("%s names no pooling: the mean over the tokens is used", checkpoint.folder)
        return "mean"
    chosen = [
        name for name, value in sorted(config.items()) if name.startswith("pooling_mode") and value is True
    ]
    supported = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
    if isinstance(config.get("pooling_mode"), str):
        chosen, supported = [config["pooling_mode"]], {"mean": "mean", "cls": "cls"}
    if len(chosen) != 1 or chosen[0] not in supported:
        raise CheckpointError(
            f"{path} asks for {', '.join(chosen) or 'no pooling'}; supported are mean and cls, one of them",
            hint="pass pooling='mean' or pooling='cls' to build the encoder with another pooling",
        )
    return supported[chosen[0]]


def _normalizes(checkpoint: Checkpoint) -> bool:
    """Whether sentence-transformers' ``modules.json`` ends in a Normalize module."""
    path = checkpoint.folder / "modules.json"
    try:
        return "sentence_transformers.models.Normalize" in path.read_text(encoding="utf-8")
    except OSError:
        return False
