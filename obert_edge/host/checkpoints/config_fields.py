"""Single fields of ``config.json``, checked: what is not as expected is refused by its name.

Every function raises :class:`~obert_edge.errors.CheckpointError`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from obert_edge.bundle.program import Activation
from obert_edge.errors import CheckpointError
from obert_edge.host.architectures.base import ConfigFields
from obert_edge.host.checkpoints.checkpoint import Checkpoint

#: The engine's activation by the name transformers gives it (``hidden_act`` in ``config.json``).
ACTIVATIONS = {
    "gelu": Activation.GELU,
    "gelu_python": Activation.GELU,
    "gelu_new": Activation.GELU_TANH,
    "gelu_pytorch_tanh": Activation.GELU_TANH,
    "gelu_fast": Activation.GELU_TANH,
    "relu": Activation.RELU,
    "silu": Activation.SILU,
    "swish": Activation.SILU,
}


def size(checkpoint: Checkpoint, name: str) -> int:
    """A whole number above 0."""
    value: Any = checkpoint.config.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise CheckpointError(
            f"config.json of {checkpoint.folder} has {name} = {value!r}; expected a whole number above 0",
            hint="use the config.json that was saved with the weights",
        )
    return value


def whole(checkpoint: Checkpoint, name: str, default: int = -1) -> int:
    """A whole number; ``default``: of a field that is absent."""
    value: Any = checkpoint.config.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool):
        raise CheckpointError(
            f"config.json of {checkpoint.folder} has {name} = {repr(value)[:60]}; expected a whole number",
            hint="use the config.json that was saved with the weights",
        )
    return value


def at_most(checkpoint: Checkpoint, name: str, value: int, most: int) -> None:
    """Refuse a number that no model has, before anything of its size is made."""
    if value > most:
        raise CheckpointError(
            f"config.json of {checkpoint.folder} has {name} = {value}; expected at most {most}",
            hint="use the config.json that was saved with the weights",
        )


#: The longest position table that the engine takes; a rotary one has no rows in the file to bound it.
_MOST_POSITIONS = 1 << 20


def positions(checkpoint: Checkpoint) -> int:
    """Rows of the position table, or positions that a rotary model was made for."""
    found = size(checkpoint, "max_position_embeddings")
    at_most(checkpoint, "max_position_embeddings", found, _MOST_POSITIONS)
    return found


def epsilon(checkpoint: Checkpoint, fields: ConfigFields) -> float:
    """What is added to the variance in norms."""
    field = fields.epsilon
    value = checkpoint.config.get(field, fields.usual_epsilon)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise CheckpointError(
            f"config.json of {checkpoint.folder} has {field} = {repr(value)[:60]}; expected a number "
            "from 0 to 1",
            hint="use the config.json that was saved with the weights",
        )
    return float(value)


def activation_named(checkpoint: Checkpoint, name: Any) -> Activation:
    """The engine's activation by the name that ``config.json`` has of it."""
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise CheckpointError(
            f"{checkpoint.folder} uses the activation {str(name)[:60]!r}; supported are "
            f"{', '.join(ACTIVATIONS)}",
            hint="start from a model with one of these activations",
        )
    return ACTIVATIONS[name]


def mapping(checkpoint: Checkpoint, field: str, value: Any) -> Mapping[str, Any]:
    """What a field of the configuration holds; an empty object where it is absent."""
    if value is not None and not isinstance(value, Mapping):
        raise CheckpointError(
            f"config.json of {checkpoint.folder} has {field} = {repr(value)[:60]}; expected an object",
            hint="use the config.json that was saved with the weights",
        )
    return value or {}
