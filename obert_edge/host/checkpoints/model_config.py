"""What ``config.json`` says of a model, checked, in one vocabulary for all architectures."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Optional, Tuple

from obert_edge.bundle.manifest import TASK_TYPES, ModuleFacts
from obert_edge.bundle.program import Activation
from obert_edge.errors import CheckpointError, UsageError
from obert_edge.host.architectures import ARCHITECTURES, CLASS_SUFFIXES, Architecture, architecture_of
from obert_edge.host.checkpoints.attention_config import (
    LayerAttention,
    RelativeAttention,
    layer_attention,
    position_products,
    relative_attention,
)
from obert_edge.host.checkpoints.checkpoint import Checkpoint, heads_among
from obert_edge.host.checkpoints.config_fields import activation_named, at_most, epsilon, positions, size
from obert_edge.host.checkpoints.sentence_transformers import (
    EMBEDDER,
    RERANKER,
    SentenceModel,
    read_sentence_model,
)

_RERANKER_TASK = "sequence-classification"

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
        layers: number of encoder layers, those that share weights counted each.
        inner: channels inside a layer: ``hidden``, or those between its bottlenecks.
        feed_forward_parts: of a layer.
        layer_paths: of each of them inside the encoder, in the order in which they are computed.
        projects: whether a linear brings the embeddings to the hidden width.
        heads: attention heads; they divide ``inner``.
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
        pooling: how the program makes a vector of a text for ``task == "encoder"``: ``mean``, ``cls`` or
            ``pooler``; "": it gives token vectors alone, which the device pools as ``modules`` say.
        sentence: what sentence-transformers wrote beside the model.
        modules: what the device computes behind the program, without a division by the length at the end.
        head_activation: the activation of a head's linears that name none.
        head_pooling: ``cls``, ``mean`` or ``late`` where the configuration says what a sequence classifier
            reads.
        key_heads: heads of keys and values; they divide ``heads``.
        attention: of each layer, where the architecture has rotary positions.
        relative: what scores also multiply with; None: nothing.
        score_parts: products that a score is the sum of: it is divided by ``sqrt(score_parts * head_dim)``.
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
    sentence: SentenceModel = field(default_factory=SentenceModel)
    modules: Tuple[ModuleFacts, ...] = ()
    head_activation: Activation = Activation.NONE
    head_pooling: str = ""
    attention: Tuple[LayerAttention, ...] = ()
    relative: Optional[RelativeAttention] = None
    score_parts: int = 1
    key_heads: int = 0
    layer_paths: Tuple[str, ...] = ()
    projects: bool = False
    inner: int = 0
    feed_forward_parts: int = 1

    @property
    def class_for_task(self) -> str:
        """The transformers class of the encoder with the head that is compiled."""
        return self.architecture.class_name(self.task)

    @property
    def embedding_output(self) -> str:
        """Name of the output that an encoder's embeddings are made of.

        Where modules follow on the device, a pooled vector is not yet what people know as the embedding.
        """
        if not self.pooling:
            return "last_hidden_state"
        return "pooled" if self.modules else "sentence_embedding"

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence that the position table covers."""
        return self.positions - self.position_offset

    @property
    def default_length(self) -> int:
        """Tokens that the model's tokenizer cuts texts to, special ones included, where positions suffice."""
        return min(self.longest, self.sentence.max_length or self.longest)


def read_config(
    checkpoint: Checkpoint, task: Optional[str] = None, pooling: Optional[str] = None
) -> ModelConfig:
    """Interpret a checkpoint's configuration.

    Args:
        checkpoint: the model folder.
        task: what to compile; default: what the class in ``architectures`` is for.
        pooling: how an encoder makes one vector of a text, in place of the Pooling of sentence-transformers'
            ``modules.json``; default: that, else ``mean``.

    Raises:
        CheckpointError: the architecture, or something it is configured to do, is not supported.
        UsageError: ``task`` or ``pooling`` is not one there is, or nothing is pooled.
    """
    config = checkpoint.config
    architecture = architecture_of(config, checkpoint.folder)
    _refuse_unsupported(checkpoint)
    fields = architecture.fields
    hidden, heads = size(checkpoint, fields.hidden), size(checkpoint, fields.heads)
    inner, feed_forward_parts = _inside_layers(checkpoint, architecture, hidden)
    if inner % heads:
        raise CheckpointError(
            f"{checkpoint.folder}: {heads} attention heads do not divide the "
            f"{'hidden size' if inner == hidden else 'width of the bottlenecks'} {inner}",
            hint="use the config.json that was saved with the weights",
        )
    if config.get("head_dim") not in (None, hidden // heads):
        raise CheckpointError(
            f"{checkpoint.folder}: {heads} attention heads of {repr(config['head_dim'])[:60]} channels "
            f"do not make up the hidden size {hidden}",
            hint="use the config.json that was saved with the weights",
        )
    key_heads = size(checkpoint, fields.key_heads) if config.get(fields.key_heads) is not None else heads
    if heads % key_heads:
        raise CheckpointError(
            f"{checkpoint.folder}: {key_heads} heads of keys do not divide the {heads} heads of queries",
            hint="use the config.json that was saved with the weights",
        )
    name = config.get(fields.activation, fields.usual_activation)
    activation = activation_named(checkpoint, name)
    class_name = _class_name(checkpoint, architecture)
    chosen, sentence = _task_and_sentence_model(checkpoint, architecture, class_name, hidden, task)
    head = architecture.heads.get(chosen)
    named = (head.activation if head else "") or fields.head_activation
    head_activation = activation_named(checkpoint, config.get(named, "gelu")) if named else activation
    pad_id = _pad_id(checkpoint, architecture)
    pooled: str = ""
    modules: Tuple[ModuleFacts, ...] = ()
    if chosen == "encoder":
        pooled, modules = _pooling(checkpoint, architecture, hidden, sentence, pooling)
    elif pooling is not None:
        raise UsageError(
            f"pooling is {pooling!r}, and has no effect: it makes one vector of an encoder's tokens, and "
            f"{checkpoint.folder} is compiled with a head for {chosen}",
            hint="leave --pooling out, or build the encoder alone with --task encoder (in Python task)",
        )
    base = f"{architecture.prefix}." if _has_prefix(checkpoint, architecture) else ""
    embedding = size(checkpoint, fields.embedding if fields.embedding in config else fields.hidden)
    paths = _layer_paths(checkpoint, architecture)
    return ModelConfig(
        architecture=architecture,
        class_name=class_name,
        base=base,
        task=chosen,
        hidden=hidden,
        layers=len(paths),
        heads=heads,
        intermediate=size(checkpoint, fields.intermediate),
        embedding=embedding,
        activation=activation,
        activation_name=name,
        epsilon=architecture.epsilon or epsilon(checkpoint, fields),
        vocabulary=size(checkpoint, "vocab_size"),
        positions=positions(checkpoint),
        position_offset=pad_id + 1 if architecture.positions_after_padding else 0,
        pad_id=pad_id,
        type_vocabulary=_type_vocabulary(checkpoint, architecture),
        pooling=pooled,
        sentence=sentence,
        modules=modules,
        head_activation=head_activation,
        head_pooling=_head_pooling(checkpoint, architecture)
        if fields.head_pooling and chosen == "sequence-classification"
        else "",
        attention=layer_attention(checkpoint, architecture.rotary, len(paths), hidden // heads)
        if architecture.rotary
        else (),
        relative=relative_attention(checkpoint, hidden // heads) if architecture.relative_positions else None,
        score_parts=1 + len(position_products(checkpoint)) if architecture.relative_positions else 1,
        key_heads=key_heads,
        layer_paths=paths,
        projects=embedding != hidden or f"{base}{architecture.projection}.weight" in checkpoint,
        inner=inner,
        feed_forward_parts=feed_forward_parts,
    )


#: Fields of MobileBERT's configuration, what transformers takes where they are absent, and what stands in the
#: published models, for which alone there is a graph.
_BOTTLENECK_FIELDS = {
    "use_bottleneck": True,
    "use_bottleneck_attention": False,
    "key_query_shared_bottleneck": True,
    "trigram_input": True,
}
_NORMALIZATIONS = ("no_norm", "layer_norm")
_MOST_PARTS = 64


def _inside_layers(checkpoint: Checkpoint, architecture: Architecture, hidden: int) -> Tuple[int, int]:
    """The channels inside a layer and its feed-forward parts."""
    names, config = architecture.bottleneck, checkpoint.config
    if names is None:
        return hidden, 1
    for name, value in _BOTTLENECK_FIELDS.items():
        if config.get(name, value) is not value:
            raise CheckpointError(
                f"config.json of {checkpoint.folder} has {name} = {repr(config[name])[:60]}; supported is "
                f"{value}, as in the published models",
                hint="start from google's mobilebert-uncased, or from distilbert or a MiniLM (bert)",
            )
    if config.get("normalization_type", _NORMALIZATIONS[0]) not in _NORMALIZATIONS:
        raise CheckpointError(
            f"config.json of {checkpoint.folder} has normalization_type = "
            f"{repr(config['normalization_type'])[:60]}; expected {' or '.join(_NORMALIZATIONS)}",
            hint="use the config.json that was saved with the weights",
        )
    parts = size(checkpoint, names.count)
    at_most(checkpoint, names.count, parts, _MOST_PARTS)
    return size(checkpoint, names.width), parts


#: Far more layers than any encoder has.
_MOST_LAYERS = 1 << 12


def _layer_paths(checkpoint: Checkpoint, architecture: Architecture) -> Tuple[str, ...]:
    layers = size(checkpoint, architecture.fields.layers)
    at_most(checkpoint, architecture.fields.layers, layers, _MOST_LAYERS)
    if architecture.sharing is not None:
        for name, most in ((architecture.sharing.groups, layers), (architecture.sharing.inner, 64)):
            if checkpoint.config.get(name) is not None:
                at_most(checkpoint, name, size(checkpoint, name), most)
    return architecture.layer_paths(checkpoint.config)


def _type_vocabulary(checkpoint: Checkpoint, architecture: Architecture) -> int:
    """Rows of the token-type table; GTE may have none, and says 0."""
    if not architecture.token_type or (architecture.rotary and checkpoint.config.get("type_vocab_size") == 0):
        return 0
    return size(checkpoint, "type_vocab_size")


def _pad_id(checkpoint: Checkpoint, architecture: Architecture) -> int:
    """The id of padding, which is a row of the word embeddings."""
    if architecture.padding_id is not None:
        return architecture.padding_id
    value = checkpoint.config.get("pad_token_id")
    if value is None:
        return 1 if architecture.positions_after_padding else 0
    rows = size(checkpoint, "vocab_size")
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < rows:
        raise CheckpointError(
            f"config.json of {checkpoint.folder} has pad_token_id = {repr(value)[:60]}; expected a whole "
            f"number from 0 to {rows - 1}, as vocab_size is {rows}",
            hint="write the id that the tokenizer has for its padding token",
        )
    return value


def _head_pooling(checkpoint: Checkpoint, architecture: Architecture) -> str:
    field, known = architecture.fields.head_pooling, architecture.head_poolings
    found = checkpoint.config.get(field, next(iter(known)))
    if not isinstance(found, str) or found not in known:
        raise CheckpointError(
            f"config.json of {checkpoint.folder} has {field} = {repr(found)[:60]}; expected "
            f"{' or '.join(known)}",
            hint="use the config.json that was saved with the weights",
        )
    return known[found]


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


def _class_name(checkpoint: Checkpoint, architecture: Architecture) -> str:
    names = checkpoint.config.get("architectures") or [f"{architecture.class_prefix}Model"]
    return str(names[0])


def _task(checkpoint: Checkpoint, architecture: Architecture, class_name: str, task: Optional[str]) -> str:
    if task is not None:
        if task not in TASK_TYPES:
            raise UsageError(f"there is no task {task!r}", hint=f"use one of {', '.join(TASK_TYPES)}")
        if task not in architecture.tasks:
            raise UsageError(
                f"transformers has no head of {architecture.model_type} for the task {task!r}",
                hint=f"use one of {', '.join(architecture.tasks)}",
            )
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
            f"{', '.join(CLASS_SUFFIXES[known] for known in architecture.tasks)}",
            hint="build its encoder alone with --task encoder (in Python task='encoder')",
        )
    return found


def _has_prefix(checkpoint: Checkpoint, architecture: Architecture) -> bool:
    return any(name.startswith(f"{architecture.prefix}.{architecture.word}") for name in checkpoint.names)


def _task_and_sentence_model(
    checkpoint: Checkpoint, architecture: Architecture, class_name: str, hidden: int, task: Optional[str]
) -> Tuple[str, SentenceModel]:
    """The task to compile, and what sentence-transformers wrote where that is about it; else the lengths.

    Raises:
        CheckpointError: nobody names a task, and the folder is of another kind of model.
    """
    sentence = read_sentence_model(checkpoint, hidden, only_lengths=True)
    kinds = {EMBEDDER: "encoder", RERANKER: _RERANKER_TASK}
    if task is None and sentence.kind not in ("", *kinds):
        raise CheckpointError(
            f"{checkpoint.folder} is a {sentence.kind} of sentence-transformers; supported are "
            f"{' and '.join(kinds)}",
            hint="name the task of the head to compile of it, such as task='masked-lm' or task='encoder'",
        )
    # sentence-transformers leaves the head of a language model out; another head was trained after it.
    headless = architecture.task_of(class_name) in (None, "masked-lm")
    if task is None and sentence.kind == EMBEDDER and sentence.listed and headless:
        task = "encoder"
    chosen = _task(checkpoint, architecture, class_name, task)
    if task is None and sentence.kind == RERANKER and chosen == "encoder":
        raise CheckpointError(
            f"{checkpoint.folder} is a CrossEncoder of a {class_name}; supported are those with a head for "
            "sequence classification",
            hint="build its encoder alone with task='encoder'",
        )
    if kinds.get(sentence.kind) == chosen:
        sentence = read_sentence_model(checkpoint, hidden)
    return chosen, sentence


def _pooling(
    checkpoint: Checkpoint,
    architecture: Architecture,
    hidden: int,
    sentence: SentenceModel,
    pooling: Optional[str],
) -> Tuple[str, Tuple[ModuleFacts, ...]]:
    """How the program pools, "" where it does not, and the modules behind it."""
    in_program = ["mean", "cls"] + (["pooler"] if architecture.pooler else [])
    if pooling is not None and pooling not in in_program:
        raise UsageError(
            f"pooling {pooling!r} does not exist for {architecture.model_type}",
            hint=f"use one of {', '.join(in_program)}",
        )
    if pooling is not None:
        if sentence.modules and sentence.modules[0].inputs != hidden:
            raise UsageError(
                f"pooling {pooling!r} gives {hidden} numbers; the {sentence.modules[0].type} module of "
                f"{checkpoint.folder} reads {sentence.modules[0].inputs}",
                hint="leave pooling out",
            )
        return pooling, sentence.modules
    if not sentence.poolings:
        _log.info("%s names no pooling: the mean over the tokens is used", checkpoint.folder)
        return "mean", sentence.modules
    if len(sentence.poolings) == 1 and sentence.poolings[0] in in_program and sentence.include_prompt:
        return sentence.poolings[0], sentence.modules
    first = ModuleFacts(
        "pooling",
        hidden,
        hidden * len(sentence.poolings),
        modes=list(sentence.poolings),
        include_prompt=sentence.include_prompt,
    )
    return "", (first, *sentence.modules)
