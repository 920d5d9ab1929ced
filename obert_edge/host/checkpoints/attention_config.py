"""How the layers of a model attend, as ``config.json`` says: rotary and relative positions, windows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Optional, Tuple

from obert_edge.errors import CheckpointError
from obert_edge.host.architectures.base import ConfigFields, Rotary
from obert_edge.host.checkpoints.checkpoint import Checkpoint
from obert_edge.host.checkpoints.config_fields import mapping, positions, whole


@dataclass(frozen=True)
class LayerAttention:
    """How one layer of an architecture with rotary positions attends.

    Attributes:
        base: of the frequencies of the rotation (``rope_theta``).
        window: keys that are more than so many tokens from the query do not count; 0: all do.
    """

    base: float
    window: int


@dataclass(frozen=True)
class RelativeAttention:
    """What scores multiply with beside keys, where an architecture has relative positions.

    Attributes:
        key: whether queries are multiplied with the positions' keys (``c2p``).
        query: whether keys are multiplied with the positions' queries (``p2c``).
        span: half the rows of the table.
        buckets: distances from half of this on share rows, by their logarithm; 0: each has its own.
        furthest: the distance that the last bucket begins with.
        shared: whether rows become keys and queries by the linears of the tokens; else by their own.
        normed: whether a LayerNorm comes before that.
    """

    key: bool
    query: bool
    span: int
    buckets: int
    furthest: int
    shared: bool
    normed: bool


#: What ``pos_att_type`` may name: queries times positions, and keys times positions.
_KEY, _QUERY = "c2p", "p2c"


def position_products(checkpoint: Checkpoint) -> List[str]:
    """The products with relative positions that a score has: those transformers looks for in the field."""
    found = checkpoint.config.get("pos_att_type")
    if found is None:
        return []
    named = [part.strip() for part in found.lower().split("|")] if isinstance(found, str) else found
    if not isinstance(named, list) or not all(isinstance(part, str) for part in named):
        raise CheckpointError(
            f"config.json of {checkpoint.folder} has pos_att_type = {repr(found)[:60]}; expected a list of "
            f"{_KEY} and {_QUERY}",
            hint="use the config.json that was saved with the weights",
        )
    return [part for part in (_KEY, _QUERY) if part in named]


def relative_attention(checkpoint: Checkpoint, head_dim: int) -> Optional[RelativeAttention]:
    """Relative positions as DeBERTa's configuration describes them; None: the scores have none."""
    config = checkpoint.config
    _refuse_parts_beside_attention(checkpoint, head_dim)
    if not config.get("relative_attention", False):
        return None
    if head_dim % 4:
        raise CheckpointError(
            f"{checkpoint.folder} has attention heads of {head_dim} channels; with relative positions the "
            "engine takes multiples of 4",
            hint="start from a model whose hidden size is a multiple of 4 times its attention heads",
        )
    furthest = whole(checkpoint, "max_relative_positions")
    if furthest < 1:
        furthest = positions(checkpoint)
    buckets = max(0, whole(checkpoint, "position_buckets"))
    if furthest > _MOST_DISTANCES or buckets > _MOST_DISTANCES or (buckets and furthest - 1 <= buckets // 2):
        raise CheckpointError(
            f"config.json of {checkpoint.folder} has {buckets} position_buckets of {furthest} "
            f"max_relative_positions; expected at most {_MOST_DISTANCES} of each, and buckets of more "
            "distances than half their number",
            hint="use the config.json that was saved with the weights",
        )
    norm = str(config.get("norm_rel_ebd", "none")).lower()
    products = position_products(checkpoint)
    return RelativeAttention(
        key=_KEY in products,
        query=_QUERY in products,
        span=buckets or furthest,
        buckets=buckets,
        furthest=furthest,
        shared=bool(config.get("share_att_key", False)),
        normed="layer_norm" in [part.strip() for part in norm.split("|")],
    )


#: The table has two rows for each, which the engine numbers in 16 bits.
_MOST_DISTANCES = 1 << 15


def _refuse_parts_beside_attention(checkpoint: Checkpoint, head_dim: int) -> None:
    """What DeBERTa's configuration may add that the graph has no nodes for."""
    config = checkpoint.config
    if whole(checkpoint, "conv_kernel_size", 0) > 0:
        raise CheckpointError(
            f"{checkpoint.folder} has a convolution beside its first layer (conv_kernel_size = "
            f"{config['conv_kernel_size']}), which the engine has no op for",
            hint="start from a model without one: all of version 3, and mDeBERTa",
        )
    width = config.get("embedding_size") or config.get(ConfigFields.hidden)
    size = config.get("attention_head_size") or head_dim
    if width != config.get(ConfigFields.hidden) or size != head_dim:
        raise CheckpointError(
            f"{checkpoint.folder} has embeddings of width {width} and attention heads of {size} channels for "
            f"a hidden size of {config.get(ConfigFields.hidden)}; supported are embeddings of the hidden "
            f"size and heads of {head_dim}",
            hint="start from a model without embedding_size and attention_head_size in its config.json",
        )


#: What transformers calls the kinds of layers, and the field of the base of each in older configurations.
_FULL, _LOCAL = "full_attention", "sliding_attention"
_BASES = {_FULL: "global_rope_theta", _LOCAL: "local_rope_theta"}


def layer_attention(
    checkpoint: Checkpoint, rotary: Rotary, layers: int, head_dim: int
) -> Tuple[LayerAttention, ...]:
    """How each layer attends: fields of transformers 5, or those of before (``global_rope_theta`` ...)."""
    config = checkpoint.config
    if head_dim % 2:
        raise CheckpointError(
            f"{checkpoint.folder} has heads of {head_dim} channels; rotary positions turn pairs of them",
            hint="use the config.json that was saved with the weights",
        )
    if rotary.local_base is None:
        return (LayerAttention(_base(checkpoint, "", "rope_theta", rotary.base), 0),) * layers
    every = config.get("global_attn_every_n_layers", 3)
    types = config.get("layer_types") or [_LOCAL if i % every else _FULL for i in range(layers)]
    known = isinstance(types, list) and all(one in tuple(_BASES) for one in types)
    if not known or len(types) != layers:
        raise CheckpointError(
            f"config.json of {checkpoint.folder} has layer_types = {str(types)[:200]!r} for {layers} "
            f"layers; expected {_FULL} or {_LOCAL} for each",
            hint="use the config.json that was saved with the weights",
        )
    window = config.get("local_attention", 128)
    if not isinstance(window, int) or isinstance(window, bool) or window < 2:
        raise CheckpointError(
            f"config.json of {checkpoint.folder} has local_attention = {window!r}; expected a whole number "
            "above 1",
            hint="use the config.json that was saved with the weights",
        )
    bases = {_FULL: rotary.base, _LOCAL: rotary.local_base}
    return tuple(
        LayerAttention(
            _base(checkpoint, kind, _BASES[kind], bases[kind]), window // 2 if kind == _LOCAL else 0
        )
        for kind in types
    )


def _base(checkpoint: Checkpoint, kind: str, field: str, default: float) -> float:
    """The base of a kind of layers; "": all are of one kind."""
    config = checkpoint.config
    found = mapping(checkpoint, "rope_parameters", config.get("rope_parameters"))
    if kind:
        found = mapping(checkpoint, f"rope_parameters.{kind}", found.get(kind))
    scaling = mapping(checkpoint, "rope_scaling", config.get("rope_scaling"))
    rope_type = found.get("rope_type", scaling.get("rope_type", scaling.get("type", "default")))
    base = found.get("rope_theta") or config.get(field) or default
    part = found.get("partial_rotary_factor", config.get("partial_rotary_factor", 1.0))
    if rope_type != "default" or not isinstance(base, (int, float)) or base <= 1 or part != 1:
        raise CheckpointError(
            f"{checkpoint.folder} has rotary positions of type {rope_type!r} with base {base!r}, on {part} "
            f"of the channels{f' of its {kind} layers' if kind else ''}; supported is the type 'default' "
            "with a base above 1, on all channels",
            hint="start from a checkpoint whose rotary positions are not scaled",
        )
    return float(base)
