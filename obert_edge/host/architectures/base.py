"""What the importer needs to know of an architecture: a table of tensor names, no code."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, Optional, Tuple, Union

from obert_edge.bundle.program import Activation


@dataclass(frozen=True)
class ConfigFields:
    """Names of the fields of ``config.json``."""

    hidden: str = "hidden_size"
    layers: str = "num_hidden_layers"
    heads: str = "num_attention_heads"
    intermediate: str = "intermediate_size"
    activation: str = "hidden_act"
    embedding: str = "hidden_size"


@dataclass(frozen=True)
class LayerModules:
    """Modules of one encoder layer, relative to it."""

    attention: str
    query: str
    key: str
    value: str
    attention_output: str
    attention_norm: str
    intermediate: str
    output: str
    output_norm: str


@dataclass(frozen=True)
class Dense:
    """A linear of a head.

    Attributes:
        module: its path; ``{base}`` is the encoder's prefix.
        activation: what follows it; ``None``: the encoder's activation.
    """

    module: str
    activation: Optional[Activation] = Activation.NONE


@dataclass(frozen=True)
class Norm:
    """A LayerNorm of a head; ``epsilon`` ``None``: the encoder's."""

    module: str
    epsilon: Optional[float] = None


@dataclass(frozen=True)
class Decoder:
    """The linear onto the vocabulary: tied to the word embedding where the file has no weight of its own.

    Attributes:
        module: its path.
        bias: tensor that holds the bias where the module has none in the file.
    """

    module: str
    bias: Optional[str] = None


@dataclass(frozen=True)
class Head:
    """A task head: steps after the encoder, on the first token of each sequence or on every token."""

    steps: Tuple[Union[Dense, Norm, Decoder], ...]
    first_token: bool = False


@dataclass(frozen=True)
class Architecture:
    """A BERT-family encoder and its heads in transformers' names.

    Attributes:
        model_type: as in ``config.json``.
        class_prefix: of the transformers classes (``Bert``).
        prefix: of the encoder inside a model with a head (``bert``).
        layer: module of layer ``{i}``.
        token_type: ``None``: the architecture has no token types.
        projection: linear from the embeddings to the hidden width, where the widths differ.
        pooler: linear and tanh on the first token, ``None`` where the architecture has none.
        positions_after_padding: positions count from ``pad_token_id + 1``.
        epsilon: of every LayerNorm; ``None``: ``layer_norm_eps`` of the configuration.
        heads: by task.
        class_tasks: task of a class whose name does not say it.
        other_heads: modules of heads that are not compiled; their tensors are left out.
        ignored: tensors (of the encoder) without weights.
    """

    model_type: str
    class_prefix: str
    prefix: str
    layer: str
    modules: LayerModules
    heads: Dict[str, Head]
    fields: ConfigFields = field(default_factory=ConfigFields)
    word: str = "embeddings.word_embeddings"
    position: str = "embeddings.position_embeddings"
    token_type: Optional[str] = "embeddings.token_type_embeddings"
    embedding_norm: str = "embeddings.LayerNorm"
    projection: Optional[str] = None
    pooler: Optional[str] = None
    positions_after_padding: bool = False
    epsilon: Optional[float] = None
    class_tasks: Dict[str, str] = field(default_factory=dict)
    other_heads: Tuple[str, ...] = ()
    ignored: Tuple[str, ...] = ("embeddings.position_ids", "embeddings.token_type_ids")


#: BERT's layer, which RoBERTa and ELECTRA share.
BERT_LAYER = "encoder.layer.{i}"
BERT_MODULES = LayerModules(
    attention="attention.self",
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    attention_output="attention.output.dense",
    attention_norm="attention.output.LayerNorm",
    intermediate="intermediate.dense",
    output="output.dense",
    output_norm="output.LayerNorm",
)
