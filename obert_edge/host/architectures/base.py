"""What the host knows of an architecture: one table of names per family of models, no code.

The importer, the checkpoint readers, quantization-aware training and pruning all read this table, so a new
BERT-like family is one file beside this one and its row in ``__init__.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Dict, Optional, Tuple, Union

from obert_edge.bundle.ops import Activation, NormKind

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
        key_heads: number of heads of keys and values, of which several heads of queries may share one; "":
            as many as there are heads.
        head_activation: name of the activation function of the heads; "": the feed-forward one's.
        head_pooling: what a sequence classifier reads, one of the names of ``Architecture.head_poolings``;
            "": what its :class:`Head` says.
        usual_activation: where the configuration names none.
        usual_epsilon: where the configuration has none.
    """

    hidden: str = "hidden_size"
    layers: str = "num_hidden_layers"
    heads: str = "num_attention_heads"
    intermediate: str = "intermediate_size"
    activation: str = "hidden_act"
    embedding: str = "hidden_size"
    epsilon: str = "layer_norm_eps"
    key_heads: str = ""
    head_activation: str = ""
    head_pooling: str = ""
    usual_activation: str = "gelu"
    usual_epsilon: float = 1e-12


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
        intermediate: first (widening) linear of the feed-forward part, whose outputs get the activation.
        output: second (narrowing) linear of the feed-forward part.
        output_norm: LayerNorm after the second residual addition.
        gate: linear whose outputs multiply the activated ones, in a gated unit; that may be ``intermediate``,
            whose rows are then the activated half and the other one; "": the unit has no gate.
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
    gate: str = ""

    @property
    def is_fused(self) -> bool:
        """Whether queries, keys and values come from one linear."""
        return self.query == self.value

    @property
    def linears(self) -> Tuple[str, ...]:
        """Paths of the layer's linears: query, key, value, attention output, and the feed-forward ones."""
        attention = (self.query, self.key, self.value, self.attention_output)
        return (*attention, *self.widening, self.output)

    @property
    def widening(self) -> Tuple[str, ...]:
        """Paths of the feed-forward linears that read the layer's input: one, or two with a gate apart."""
        gate = () if self.gate in ("", self.intermediate) else (self.gate,)
        return (self.intermediate, *gate)

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
        columns: linear whose weight, turned over, has the further columns, where the word embedding is
            narrower than what is decoded; "": it is as wide.
    """

    module: str
    bias: Optional[str] = None
    columns: str = ""


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
class Rotary:
    """Rotary positions: queries and keys are turned by where they are.

    Attributes:
        base: of the frequencies (``rope_theta``), where the configuration has none.
        local_base: the same of layers that attend to a window, in a family whose configuration says for each
            layer whether it does; ``None``: all layers attend to all tokens.
    """

    base: float
    local_base: Optional[float] = None


@dataclass(frozen=True)
class Sharing:
    """Layers that share their weights: names of the fields of ``config.json`` that say which.

    Attributes:
        groups: number of sets of weights; as many consecutive layers take each.
        inner: number of layers that a set holds, which are computed one after the other for each layer of
            the configuration.
    """

    groups: str
    inner: str


@dataclass(frozen=True)
class Bottleneck:
    """Layers that work on fewer channels than lie between them (MobileBERT's): paths inside a layer.

    Attributes:
        width: field of ``config.json``: the channels inside a layer.
        entry: linear from the hidden width to them; what follows it is added behind attention.
        entry_norm: norm behind it.
        shared: linear from the hidden width to what queries and keys are made of.
        shared_norm: norm behind it.
        exit: linear back to the hidden width.
        exit_norm: norm behind the addition of the layer's input.
        count: field of ``config.json``: the feed-forward parts of a layer, of which :class:`LayerModules`
            names the last.
        intermediate: first linear of feed-forward part ``{k}`` before that.
        output: second linear of it.
        output_norm: norm behind its addition.
        epsilon: of the norms of the embeddings and of the last feed-forward part, for which transformers
            does not take that of the configuration.
    """

    width: str
    entry: str
    entry_norm: str
    shared: str
    shared_norm: str
    exit: str
    exit_norm: str
    count: str
    intermediate: str
    output: str
    output_norm: str
    epsilon: float

    @property
    def linears(self) -> Tuple[str, ...]:
        """Paths of the linears that :class:`LayerModules` does not name."""
        return (self.entry, self.shared, self.intermediate, self.output, self.exit)


@dataclass(frozen=True)
class Renaming:
    """What a published file calls otherwise than transformers' model does.

    Attributes:
        published: the part of a tensor's name in the file.
        parts: what stands there in the model; where these are several, the tensor of the file is theirs one
            after the other, as many rows of each.
    """

    published: str
    parts: Tuple[str, ...]


@dataclass(frozen=True)
class Architecture:
    """A BERT-family encoder and its heads, in the names transformers gives them.

    Attributes:
        model_type: ``model_type`` in ``config.json``.
        class_prefix: what the names of its transformers classes start with (``Bert``).
        prefix: attribute of the encoder inside a model with a head (``bert``).
        layer: path of layer ``{i}`` inside the encoder; where layers share weights, of layer ``{j}`` of set
            ``{i}``.
        modules: paths inside a layer.
        heads: the head of each task that can be compiled.
        fields: names in ``config.json``.
        word: path of the word-embedding table.
        embedding_norm: LayerNorm of the embeddings; ``None``: the architecture has none.
        position: path of the position table; ``None``: the architecture has none.
        token_type: path of the token-type table; ``None``: the architecture has no token types.
        projection: linear from the embeddings to the hidden width, where the widths may differ.
        pooler: linear (then tanh) on the first token; ``None``: the architecture has none.
        positions_after_padding: whether positions count from ``pad_token_id + 1`` instead of 0.
        padding_id: the id of padding, whatever the configuration says; ``None``: its ``pad_token_id``.
        final_norm: LayerNorm after the last layer, in a family that normalizes before each block; ``None``:
            it normalizes after each block.
        sharing: which layers share weights; ``None``: each has its own.
        bottleneck: where its layers work on fewer channels; ``None``: they work on the hidden width.
        trigrams: whether the word rows of a token and of those beside it are projected together, before
            positions and token types are added.
        bare_first_layer: whether the first layer of such a family has no ``attention_norm``.
        norm: what its LayerNorms do.
        optional_biases: whether linears and norms need no bias.
        rotary: its rotary positions; ``None``: it has none.
        relative_bias: path of the table [buckets, heads] of what is added to the scores of every layer, by
            T5's buckets of how far the key is behind the query; ``None``: nothing is.
        relative_positions: what the scores of every layer also multiply with; ``None``: nothing.
        epsilon: added to the variance in every LayerNorm; ``None``: what the configuration says.
        head_poolings: what a sequence classifier may read (``cls``, ``mean``, or ``late``: every token, and
            the mean is that of the logits), by its name in the configuration; the first where that has none.
        renamings: names of published files, in the order in which they are replaced.
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
    embedding_norm: Optional[str] = "embeddings.LayerNorm"
    projection: Optional[str] = None
    pooler: Optional[str] = None
    positions_after_padding: bool = False
    padding_id: Optional[int] = None
    final_norm: Optional[str] = None
    sharing: Optional[Sharing] = None
    bottleneck: Optional[Bottleneck] = None
    trigrams: bool = False
    bare_first_layer: bool = False
    norm: NormKind = NormKind.LAYER
    optional_biases: bool = False
    rotary: Optional[Rotary] = None
    relative_bias: Optional[str] = None
    relative_positions: Optional[RelativePositions] = None
    epsilon: Optional[float] = None
    head_poolings: Dict[str, str] = field(default_factory=lambda: {"cls": "cls", "mean": "mean"})
    renamings: Tuple[Renaming, ...] = ()
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
        return next((task for task in self.tasks if class_name.endswith(CLASS_SUFFIXES[task])), None)

    def layer_paths(self, config: Mapping[str, Any]) -> Tuple[str, ...]:
        """Paths of the encoder's layers in the order in which they are computed, shared ones several times.

        Args:
            config: the content of a ``config.json``, whose sizes are whole numbers above 0.
        """
        layers = int(config[self.fields.layers])
        if self.sharing is None:
            return tuple(self.layer.format(i=i) for i in range(layers))
        groups = int(config.get(self.sharing.groups) or 1)
        inner = range(int(config.get(self.sharing.inner) or 1))
        # As transformers finds the group of a layer, rounding included.
        return tuple(
            self.layer.format(i=int(i / (layers / groups)), j=j) for i in range(layers) for j in inner
        )

    def layer_linears(self, parts: Sequence[Union[int, str]]) -> Tuple[str, ...]:
        """Paths of the linears of a layer inside it.

        Args:
            parts: what stands for the feed-forward parts of a bottleneck before the last one: 0, 1, 2.
        """
        found = list(self.modules.linears)
        for path in () if self.bottleneck is None else self.bottleneck.linears:
            found += [path.format(k=k) for k in parts] if "{k}" in path else [path]
        return tuple(found)

    @property
    def tasks(self) -> Tuple[str, ...]:
        """The tasks whose heads the architecture has, and that of the encoder alone."""
        return tuple(task for task in CLASS_SUFFIXES if task in self.heads or task == "encoder")


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
