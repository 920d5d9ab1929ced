"""What the host knows of an architecture: one table of names per family of models, no code.

The importer, the checkpoint readers, quantization-aware training and pruning all read this table, so a new
BERT-like family is one file beside this one and its row in ``__init__.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Dict, Optional, Tuple, Union

from obert_edge.bundle.program import Activation

#: What transformers calls the class of each task, after the architecture's own prefix: ``Bert`` +
#: ``ForSequenceClassification``.
CLASS_SUFFIXES: Dict[str, str] = {
    "sequence-classification": "ForSequenceClassification",
    "question-answering": "ForQuestionAnswering",
    "token-classification": "ForTokenClassification",
    "masked-lm": "ForMaskedLM",
    "encoder": "Model",
}


@dataclass(frozen=True)
class ConfigFields:
    """Names of the fields of ``config.json`` that hold the shape of the encoder.

    Attributes:
        hidden: channels of a token between layers.
        layers: number of encoder layers.
        heads: attention heads per layer.
        intermediate: channels between the two feed-forward linears.
        activation: name of the feed-forward activation function.
        embedding: channels of a word embedding, where they may differ from ``hidden``.
        epsilon: added to the variance in every LayerNorm.
        head_activation: name of the activation function of the heads; "": the feed-forward one's.
        head_pooling: what a sequence classifier reads, ``cls`` or ``mean``; "": what its :class:`Head` says.
    """

    hidden: str = "hidden_size"
    layers: str = "num_hidden_layers"
    heads: str = "num_attention_heads"
    intermediate: str = "intermediate_size"
    activation: str = "hidden_act"
    embedding: str = "hidden_size"
    epsilon: str = "layer_norm_eps"
    head_activation: str = ""
    head_pooling: str = ""


@dataclass(frozen=True)
class LayerModules:
    """Paths of the modules of one encoder layer, relative to the layer.

    Attributes:
        attention: the self-attention module, which owns query, key and value.
        query: linear of the queries; its path starts with ``attention``, as those of key and value do. All
            three may be one linear, whose rows are those of the queries, then the keys, then the values.
        key: linear of the keys.
        value: linear of the values.
        attention_output: linear after the attention heads.
        attention_norm: LayerNorm after the first residual addition.
        intermediate: first (widening) linear of the feed-forward part.
        output: second (narrowing) linear of the feed-forward part.
        output_norm: LayerNorm after the second residual addition.
    """

    attention: str
    query: str
    key: str
    value: str
    attention_output: str
    attention_norm: str
    intermediate: str
    output: str
    output_norm: str

    @property
    def is_fused(self) -> bool:
        """Whether queries, keys and values come from one linear."""
        return self.query == self.value

    @property
    def linears(self) -> Tuple[str, str, str, str, str, str]:
        """Paths of the layer's six linears: query, key, value, attention output, and the feed-forward two."""
        return (self.query, self.key, self.value, self.attention_output, self.intermediate, self.output)

    @property
    def projections(self) -> Tuple[str, str, str]:
        """Names of the query, key and value linears inside the self-attention module."""
        start = len(self.attention) + 1
        return self.query[start:], self.key[start:], self.value[start:]


@dataclass(frozen=True)
class Dense:
    """A linear of a head.

    Attributes:
        module: its path; ``{base}`` stands for the encoder's prefix.
        activation: the function applied to its output; ``None``: the encoder's activation.
    """

    module: str
    activation: Optional[Activation] = Activation.NONE


@dataclass(frozen=True)
class Norm:
    """A LayerNorm of a head.

    Attributes:
        module: its path.
        epsilon: added to the variance; ``None``: the encoder's.
    """

    module: str
    epsilon: Optional[float] = None


@dataclass(frozen=True)
class Decoder:
    """The linear onto the vocabulary: tied to the word embedding where the file has no weight of its own.

    Attributes:
        module: its path.
        bias: the tensor that holds the bias where the file has none under ``module``.
    """

    module: str
    bias: Optional[str] = None


@dataclass(frozen=True)
class Head:
    """A task head.

    Attributes:
        steps: what is applied after the encoder, in order.
        first_token: whether the steps see the first token of each sequence alone (else every token).
        activation: field of ``config.json`` that names the function of its linears that name none; "": that
            of :class:`ConfigFields`.
    """

    steps: Tuple[Union[Dense, Norm, Decoder], ...]
    first_token: bool = False
    activation: str = ""


@dataclass(frozen=True)
class RelativePositions:
    """Where an architecture keeps what its scores also multiply with (DeBERTa's disentangled attention).

    Attributes:
        table: path of the table [2 * span, hidden] of relative positions, inside the encoder.
        norm: path of the LayerNorm of its rows, where a configuration has one.
        key: linear of a layer that makes keys of the rows, where a configuration does not share that of keys.
        query: the same for queries.
    """

    table: str
    norm: str
    key: str
    query: str


@dataclass(frozen=True)
class Variant:
    """What differs where a configuration has another value of a field than the usual one.

    Attributes:
        field: of ``config.json``.
        usual: its value where it is absent, for which nothing differs.
        changes: fields of :class:`Architecture`, and what they are.
    """

    field: str
    usual: Any
    changes: Mapping[str, Any]


@dataclass(frozen=True)
class Architecture:
    """A BERT-family encoder and its heads, in the names transformers gives them.

    Attributes:
        model_type: ``model_type`` in ``config.json``.
        class_prefix: what the names of its transformers classes start with (``Bert``).
        prefix: attribute of the encoder inside a model with a head (``bert``).
        layer: path of layer ``{i}`` inside the encoder.
        modules: paths inside a layer.
        heads: the head of each task that can be compiled.
        fields: names in ``config.json``.
        word: path of the word-embedding table; also ``embedding_norm``.
        position: path of the position table; ``None``: the architecture has none.
        token_type: path of the token-type table; ``None``: the architecture has no token types.
        projection: linear from the embeddings to the hidden width, where the widths may differ.
        pooler: linear (then tanh) on the first token; ``None``: the architecture has none.
        positions_after_padding: whether positions count from ``pad_token_id + 1`` instead of 0.
        padding_id: the id of padding, whatever the configuration says; ``None``: its ``pad_token_id``.
        final_norm: LayerNorm after the last layer, in a family that normalizes before each block: there the
            first layer has no ``attention_norm``, the intermediate linear gives the two halves of a gated
            unit, and linears and norms need no bias; ``None``: it normalizes after each block.
        rotary: whether queries and keys are turned by their positions, and some layers attend to a window.
        relative_bias: path of the table [buckets, heads] of what is added to the scores of every layer, by
            T5's buckets of how far the key is behind the query; ``None``: nothing is.
        relative_positions: what the scores of every layer also multiply with; ``None``: nothing.
        epsilon: added to the variance in every LayerNorm; ``None``: ``layer_norm_eps`` of the configuration.
        class_tasks: the task of a class whose name does not end in one of :data:`CLASS_SUFFIXES`.
        other_heads: paths of modules that belong to heads; their tensors may be left over when another
            task is compiled.
        ignored: tensors of the encoder that it does not read, such as whole-number buffers that older
            transformers saved beside the weights.
        variants: what depends on the configuration.
    """

    model_type: str
    class_prefix: str
    prefix: str
    layer: str
    modules: LayerModules
    heads: Dict[str, Head]
    fields: ConfigFields = field(default_factory=ConfigFields)
    word: str = "embeddings.word_embeddings"
    position: Optional[str] = "embeddings.position_embeddings"
    token_type: Optional[str] = "embeddings.token_type_embeddings"
    embedding_norm: str = "embeddings.LayerNorm"
    projection: Optional[str] = None
    pooler: Optional[str] = None
    positions_after_padding: bool = False
    padding_id: Optional[int] = None
    final_norm: Optional[str] = None
    rotary: bool = False
    relative_bias: Optional[str] = None
    relative_positions: Optional[RelativePositions] = None
    epsilon: Optional[float] = None
    class_tasks: Dict[str, str] = field(default_factory=dict)
    other_heads: Tuple[str, ...] = ()
    ignored: Tuple[str, ...] = ("embeddings.position_ids", "embeddings.token_type_ids")
    variants: Tuple[Variant, ...] = ()

    def configured(self, config: Mapping[str, Any]) -> Architecture:
        """The architecture as a ``config.json`` has it; itself where nothing differs."""
        found = self
        for variant in self.variants:
            if config.get(variant.field, variant.usual) != variant.usual:
                found = replace(found, **variant.changes)
        return found

    def class_name(self, task: str) -> str:
        """The transformers class for a task, a key of :data:`CLASS_SUFFIXES`."""
        return self.class_prefix + CLASS_SUFFIXES[task]

    def task_of(self, class_name: str) -> Optional[str]:
        """The task a transformers class is for; ``None``: its head is not supported."""
        if class_name in self.class_tasks:
            return self.class_tasks[class_name]
        return next((task for task, suffix in CLASS_SUFFIXES.items() if class_name.endswith(suffix)), None)


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
