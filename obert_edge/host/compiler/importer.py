"""Checkpoint to float graph: one walk over the encoder and its head, the same for all architectures."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Dict, List, Optional, Set, Tuple

import numpy as np

from obert_edge.bundle.ops import Activation, Domain, NormKind
from obert_edge.errors import CheckpointError, UsageError
from obert_edge.host.architectures.base import Bottleneck, Decoder, Dense, Norm
from obert_edge.host.checkpoints.attention_config import RelativeAttention
from obert_edge.host.checkpoints.checkpoint import Checkpoint, heads_among, unknown_tensors
from obert_edge.host.checkpoints.model_config import ModelConfig
from obert_edge.host.compiler import ir
from obert_edge.host.compiler.ir import Floats
from obert_edge.host.compiler.relative_bias import BUCKETS, RelativeBias, relative_bias
from obert_edge.host.compiler.relative_positions import PositionRows, PositionTables, position_rows
from obert_edge.host.compiler.rotation import rotation_tables

_log = logging.getLogger(__name__)


def import_graph(checkpoint: Checkpoint, config: ModelConfig, max_length: Optional[int] = None) -> ir.Graph:
    """The float graph of an encoder and its head.

    Args:
        checkpoint: the tensors.
        config: from :func:`~obert_edge.host.checkpoints.model_config.read_config`.
        max_length: the longest sequence to compile for, in tokens; default: what the model's tokenizer cuts
            texts to, at most all positions there are.

    Raises:
        UsageError: ``max_length`` is not between 1 and the positions there are.
        CheckpointError: a tensor is missing, misshapen or unknown.
    """
    check_length(config, max_length)
    importer = _Importer(checkpoint, config, max_length or config.default_length)
    graph = importer.run()
    importer.refuse_unknown()
    return graph


def check_length(config: ModelConfig, max_length: Optional[int]) -> None:
    """Refuse a length that the model has no positions for, before a tensor is read.

    Raises:
        UsageError: it is such a one.
    """
    if max_length is not None and not 1 <= max_length <= config.longest:
        raise UsageError(
            f"max_length {max_length} is not between 1 and {config.longest}, the positions of the model",
            hint=f"pass at most {config.longest}",
        )


class _Importer:
    """Walks over the modules of a model and appends their nodes to ``graph``; notes which tensors it used."""

    def __init__(self, checkpoint: Checkpoint, config: ModelConfig, max_length: int) -> None:
        self.checkpoint = checkpoint
        self.config = config
        self.graph = ir.Graph(max_length, config.position_offset)
        self.used: Set[str] = set()
        self.bias: Optional[RelativeBias] = None
        self.positions: Optional[PositionRows] = None
        self.suffix = ""  # of the names of values, where a module is used once more
        self.tensors: Dict[str, Floats] = {}
        self.rotations: Dict[float, Tuple[Floats, Floats]] = {}  # of each base

    def run(self) -> ir.Graph:
        config, architecture = self.config, self.config.architecture
        hidden = self._embed()
        if architecture.relative_bias is not None:
            self.bias = self._relative_bias(f"{config.base}{architecture.relative_bias}.weight")
        if config.relative is not None:
            self.positions = self._position_rows(config.relative)
        elif architecture.relative_positions is not None:  # a norm of rows that the model does not have
            norm = f"{config.base}{architecture.relative_positions.norm}"
            self.used.update((f"{norm}.weight", f"{norm}.bias"))
        for i, path in enumerate(config.layer_paths):
            prefix = config.base + path
            times = config.layer_paths[:i].count(path)
            self.suffix = f"@{times}" if times else ""
            if architecture.bottleneck is not None:
                hidden = self._thin_layer(prefix, hidden, i, architecture.bottleneck)
            elif architecture.final_norm is None:
                hidden = self._layer(prefix, hidden, i)
            else:
                hidden = self._pre_norm_layer(prefix, hidden, i)
        self.suffix = ""
        if architecture.final_norm is not None:
            hidden = self._norm(config.base + architecture.final_norm, hidden)
        if config.task == "encoder":
            self._encoder_results(hidden)
        else:
            self._head(hidden)
        return self.graph

    def refuse_unknown(self) -> None:
        """Raise if a tensor was left over: then the model computes something else than the graph.

        Tensors of heads that the task does not need are left out with a note in the log.
        """
        config, architecture = self.config, self.config.architecture
        left = [name for name in self.checkpoint.names if name not in self.used]
        unknown = unknown_tensors(left, architecture, config.base)
        if unknown:
            more = f" and {len(unknown) - 4} more" if len(unknown) > 4 else ""
            raise CheckpointError(
                f"{self.checkpoint.folder} has tensors that a {config.class_name} of {config.layers} layers "
                f"does not: {', '.join(unknown[:4])}{more}",
                hint="apply the masks first (bertarize.py of the movement pruning examples)"
                if any(name.endswith("mask_scores") for name in unknown)
                else "use the config.json that was saved with these weights; adapters must be merged first",
            )
        other = [task for task in heads_among(self.checkpoint.names, architecture) if task != config.task]
        if left:
            level = logging.WARNING if other and config.task != "encoder" else logging.INFO
            _log.log(level, "left out, as the task %s does not use them: %s", config.task, ", ".join(left))

    def _tensor(self, name: str, shape: tuple[int, ...]) -> Floats:
        self.used.add(name)
        if self.config.architecture.sharing is None:
            return self.checkpoint.tensor(name, shape)
        if name not in self.tensors:
            self.tensors[name] = self.checkpoint.tensor(name, shape)
        return self.tensors[name]

    def _embed(self) -> ir.Tensor:
        config, architecture, base = self.config, self.config.architecture, self.config.base
        width = config.embedding
        if architecture.trigrams:
            return self._embed_trigrams()
        position, token_type = self._other_rows(width)
        output = ir.Tensor("embeddings", width)
        self.graph.nodes.append(
            ir.Embedding(
                "embeddings",
                output,
                word=self._tensor(f"{base}{architecture.word}.weight", (config.vocabulary, width)),
                position=position,
                token_type=token_type,
            )
        )
        if architecture.embedding_norm is not None:
            output = self._norm(base + architecture.embedding_norm, output)
        if not config.projects:
            return output
        if architecture.projection is None:
            raise CheckpointError(
                f"{self.checkpoint.folder} has embeddings of width {width} for a hidden size of "
                f"{config.hidden}, and {architecture.model_type} has no projection between them",
                hint="use the config.json that was saved with the weights",
            )
        return self._linear(base + architecture.projection, output, config.hidden)

    def _other_rows(self, width: int) -> Tuple[Optional[Floats], Optional[Floats]]:
        """The tables of positions and of token types, where the model has them."""
        config, architecture, base = self.config, self.config.architecture, self.config.base
        position, token_type = None, None
        if architecture.position:
            shape = (config.positions, width)
            rows = self.graph.max_length + config.position_offset
            position = self._tensor(f"{base}{architecture.position}.weight", shape)[:rows]
        if config.type_vocabulary:
            token_type = self._tensor(
                f"{base}{architecture.token_type}.weight", (config.type_vocabulary, width)
            )
        return position, token_type

    def _embed_trigrams(self) -> ir.Tensor:
        """A linear of the word rows of each token and of those beside it; the other rows are added."""
        config, architecture, base = self.config, self.config.architecture, self.config.base
        assert architecture.projection is not None and architecture.bottleneck is not None
        table = self._tensor(f"{base}{architecture.word}.weight", (config.vocabulary, config.embedding))
        words = ir.Tensor("embeddings.words", 3 * config.embedding)
        self.graph.nodes.append(ir.Embedding("embeddings.words", words, table, None, None, neighbors=True))
        others = ir.Tensor("embeddings.positions", config.hidden)
        rows = self._other_rows(config.hidden)
        self.graph.nodes.append(ir.Embedding("embeddings.positions", others, None, *rows))
        projected = self._linear(base + architecture.projection, words, config.hidden)
        norm = f"{base}{architecture.embedding_norm}"
        return self._norm(norm, self._add(projected, others), architecture.bottleneck.epsilon)

    def _relative_bias(self, name: str) -> RelativeBias:
        table = self.checkpoint.tensor(name)
        if table.ndim != 2 or table.shape[0] < BUCKETS or not np.isfinite(table).all():
            raise CheckpointError(
                f"{self.checkpoint.folder}: {name} is {list(table.shape)}, or not all finite; "
                f"expected [{BUCKETS}, {self.config.heads}] finite numbers",
                hint="use the weights as they were saved: transformers too computes 32 buckets of distances",
            )
        return relative_bias(self._tensor(name, (table.shape[0], self.config.heads)), self.graph.max_length)

    def _position_rows(self, relative: RelativeAttention) -> PositionRows:
        """The rows of relative positions, which every layer projects."""
        config, names = self.config, self.config.architecture.relative_positions
        assert names is not None
        table = self._tensor(f"{config.base}{names.table}.weight", (2 * relative.span, config.hidden))
        norm = None
        if relative.normed:
            gamma, beta = (
                self._tensor(f"{config.base}{names.norm}.{part}", (config.hidden,))
                for part in ("weight", "bias")
            )
            norm = (gamma, beta, config.epsilon)
        return position_rows(table, relative, self.graph.max_length, norm)

    def _position_tables(self, prefix: str) -> Optional[PositionTables]:
        """What the scores of a layer multiply with beside its keys; None: nothing."""
        config, architecture = self.config, self.config.architecture
        relative, names = config.relative, architecture.relative_positions
        if relative is None or names is None or not (relative.key or relative.query):
            return None
        assert self.positions is not None
        tables: List[Optional[Floats]] = []
        for used, own, shared in (
            (relative.key, names.key, architecture.modules.key),
            (relative.query, names.query, architecture.modules.query),
        ):
            module = f"{prefix}.{shared if relative.shared else own}"
            tables.append(
                self.positions.projected(
                    self._tensor(f"{module}.weight", (config.hidden, config.hidden)),
                    self._tensor(f"{module}.bias", (config.hidden,)),
                    config.heads,
                )
                if used
                else None
            )
        return self.positions.tables(tables[0], tables[1])

    def _layer(self, prefix: str, hidden: ir.Tensor, index: int) -> ir.Tensor:
        """BERT's layer: attention, addition, norm, feed-forward part, addition, norm."""
        modules = self.config.architecture.modules
        attended = self._attend(prefix, hidden, index)
        hidden = self._norm(f"{prefix}.{modules.attention_norm}", self._add(attended, hidden))
        narrow = self._feed_forward(prefix, hidden)
        return self._norm(f"{prefix}.{modules.output_norm}", self._add(narrow, hidden))

    def _pre_norm_layer(self, prefix: str, hidden: ir.Tensor, index: int) -> ir.Tensor:
        """ModernBERT's layer: norm, attention, addition, norm, feed-forward part, addition."""
        architecture = self.config.architecture
        modules = architecture.modules
        bare = architecture.bare_first_layer and index == 0
        normal = hidden if bare else self._norm(f"{prefix}.{modules.attention_norm}", hidden)
        hidden = self._add(self._attend(prefix, normal, index), hidden)
        normal = self._norm(f"{prefix}.{modules.output_norm}", hidden)
        return self._add(self._feed_forward(prefix, normal), hidden)

    def _thin_layer(self, prefix: str, hidden: ir.Tensor, index: int, names: Bottleneck) -> ir.Tensor:
        """MobileBERT's layer: the inner width between bottlenecks, and several feed-forward parts."""
        config, modules = self.config, self.config.architecture.modules
        inner = self._linear(f"{prefix}.{names.entry}", hidden, config.inner)
        inner = self._norm(f"{prefix}.{names.entry_norm}", inner)
        shared = self._linear(f"{prefix}.{names.shared}", hidden, config.inner)
        shared = self._norm(f"{prefix}.{names.shared_norm}", shared)
        attended = self._attend(prefix, hidden, index, shared)
        inner = self._norm(f"{prefix}.{modules.attention_norm}", self._add(attended, inner))
        for k in range(config.feed_forward_parts - 1):
            wide, narrow, norm = (
                f"{prefix}.{path.format(k=k)}"
                for path in (names.intermediate, names.output, names.output_norm)
            )
            unit = self._activate(self._linear(wide, inner, config.intermediate), config.activation)
            inner = self._norm(norm, self._add(self._linear(narrow, unit, config.inner), inner))
        narrowed = self._add(self._feed_forward(prefix, inner), inner)
        inner = self._norm(f"{prefix}.{modules.output_norm}", narrowed, names.epsilon)
        widened = self._linear(f"{prefix}.{names.exit}", inner, config.hidden)
        return self._norm(f"{prefix}.{names.exit_norm}", self._add(widened, hidden))

    def _attend(
        self, prefix: str, value: ir.Tensor, index: int, shared: Optional[ir.Tensor] = None
    ) -> ir.Tensor:
        """Self-attention and the linear after it; queries and keys read ``shared`` where there is such."""
        config, modules = self.config, self.config.architecture.modules
        name = f"{prefix}.{modules.attention}"
        paths = [f"{prefix}.{module}" for module in (modules.query, modules.key, modules.value)]
        if modules.is_fused:
            query, key, value = self._parts(paths[0], value, ("query", "key", "value"), config.hidden)
        else:
            query = self._linear(paths[0], shared or value, config.inner)
            key, value = self._key_linear(paths[1], shared or value), self._key_linear(paths[2], value)
        window = 0
        if config.attention:
            attention = config.attention[index]
            query, key = (self._rotate(tensor, attention.base) for tensor in (query, key))
            window = attention.window if attention.window < self.graph.max_length - 1 else 0
        context = ir.Tensor(f"{name}.context{self.suffix}", config.inner)
        self.graph.nodes.append(
            ir.SelfAttention(
                name + self.suffix,
                query,
                key,
                value,
                context,
                config.heads,
                self.bias,
                window,
                positions=self._position_tables(prefix),
                parts=config.score_parts,
                module=name,
            )
        )
        return self._linear(f"{prefix}.{modules.attention_output}", context, config.inner)

    def _key_linear(self, module: str, value: ir.Tensor) -> ir.Tensor:
        """A linear of keys or values; heads that several heads of queries share are there once for each."""
        config = self.config
        shared = config.heads // config.key_heads
        if shared == 1:
            return self._linear(module, value, config.inner)
        width = config.hidden // shared
        head = config.hidden // config.heads
        weight = self._tensor(f"{module}.weight", (width, value.channels))
        bias = self._bias(f"{module}.bias", width)
        rows = np.repeat(np.arange(width).reshape(-1, head), shared, axis=0).reshape(-1)
        output = ir.Tensor(module + self.suffix, config.hidden, value.domain)
        self.graph.nodes.append(ir.Linear(output.name, module, value, output, weight[rows], bias[rows]))
        return output

    def _feed_forward(self, prefix: str, value: ir.Tensor) -> ir.Tensor:
        """The feed-forward part, as a gated unit where the architecture has one."""
        config, modules = self.config, self.config.architecture.modules
        wide, gate = f"{prefix}.{modules.intermediate}", f"{prefix}.{modules.gate}"
        if not modules.gate:
            unit = self._activate(self._linear(wide, value, config.intermediate), config.activation)
            return self._linear(f"{prefix}.{modules.output}", unit, config.inner)
        if modules.gate == modules.intermediate:
            unit, factor = self._parts(wide, value, ("unit", "gate"), config.intermediate)
        else:
            unit, factor = (self._linear(path, value, config.intermediate) for path in (wide, gate))
        unit = self._activate(unit, config.activation)
        product = ir.Tensor(f"{wide}.product{self.suffix}", config.intermediate)
        self.graph.nodes.append(ir.Multiply(product.name, unit, factor, product))
        return self._linear(f"{prefix}.{modules.output}", product, config.hidden)

    def _parts(self, module: str, value: ir.Tensor, names: Sequence[str], width: int) -> List[ir.Tensor]:
        """The parts of a linear that is several in one, each ``width`` wide, as linears of their own.

        They share the quantizer of the module's input.
        """
        weight = self._tensor(f"{module}.weight", (len(names) * width, value.channels))
        bias = self._bias(f"{module}.bias", len(names) * width)
        outputs: List[ir.Tensor] = []
        for i, name in enumerate(names):
            rows = slice(i * width, (i + 1) * width)
            output = ir.Tensor(f"{module}.{name}{self.suffix}", width, value.domain)
            self.graph.nodes.append(ir.Linear(output.name, module, value, output, weight[rows], bias[rows]))
            outputs.append(output)
        return outputs

    def _rotate(self, value: ir.Tensor, base: float) -> ir.Tensor:
        heads = self.config.heads
        if base not in self.rotations:
            positions = self.graph.max_length
            self.rotations[base] = rotation_tables(base, value.channels // heads, positions)
        output = ir.Tensor(f"{value.name}.rotated", value.channels)
        self.graph.nodes.append(ir.Rotate(output.name, value, output, heads, *self.rotations[base]))
        return output

    def _bias(self, name: str, width: int) -> Floats:
        """A bias, or zeros where the architecture may be without and the checkpoint is."""
        if self.config.architecture.optional_biases and name not in self.checkpoint:
            return np.zeros(width, np.float32)
        return self._tensor(name, (width,))

    def _encoder_results(self, hidden: ir.Tensor) -> None:
        self.graph.nodes.append(ir.Result("last_hidden_state", hidden))
        if not self.config.pooling:
            return
        pooled = ir.Tensor("pooled", hidden.channels, Domain.SEQUENCES)
        if self.config.pooling == "mean":
            self.graph.nodes.append(ir.MeanPool("mean", hidden, pooled))
        else:
            self.graph.nodes.append(ir.SelectFirst("first", hidden, pooled))
        if self.config.pooling == "pooler":
            module = f"{self.config.base}{self.config.architecture.pooler}"
            pooled = self._activate(self._linear(module, pooled, self.config.hidden), Activation.TANH)
        self.graph.nodes.append(ir.Result(self.config.embedding_output, pooled))

    def _head(self, hidden: ir.Tensor) -> None:
        head = self.config.architecture.heads[self.config.task]
        if self.config.head_pooling == "mean":
            hidden = self._mean("mean", hidden)
        elif head.first_token or self.config.head_pooling == "cls":
            first = ir.Tensor("first", hidden.channels, Domain.SEQUENCES)
            self.graph.nodes.append(ir.SelectFirst("first", hidden, first))
            hidden = first
        *inner, last = head.steps
        for step in inner:
            module = step.module.format(base=self.config.base)
            if isinstance(step, Norm):
                hidden = self._norm(module, hidden, step.epsilon, NormKind.LAYER)
            elif isinstance(step, Dense):
                width = self.checkpoint.tensor(f"{module}.weight").shape[0]
                function = self.config.head_activation if step.activation is None else step.activation
                hidden = self._activate(self._linear(module, hidden, width), function)
        if isinstance(last, Decoder):
            self.graph.nodes.append(ir.Result("logits", self._decode(last, hidden)))
        elif self.config.task == "question-answering":
            self._span_results(last.module, hidden)
        else:
            classes = self.checkpoint.tensor(f"{last.module}.weight").shape[0]
            logits = self._linear(last.module, hidden, classes)
            if self.config.head_pooling == "late":
                logits = self._mean("logits.mean", logits)
            self.graph.nodes.append(ir.Result("logits", logits))

    def _mean(self, name: str, hidden: ir.Tensor) -> ir.Tensor:
        output = ir.Tensor(name, hidden.channels, Domain.SEQUENCES)
        self.graph.nodes.append(ir.MeanPool(name, hidden, output))
        return output

    def _span_results(self, module: str, hidden: ir.Tensor) -> None:
        """Start and end logits as results of their own, named as transformers names them.

        Both linears are rows of one module of the checkpoint and share its input quantizer.
        """
        weight = self._tensor(f"{module}.weight", (2, hidden.channels))
        bias = self._tensor(f"{module}.bias", (2,))
        for row, name in enumerate(("start_logits", "end_logits")):
            output = ir.Tensor(name, 1, hidden.domain)
            self.graph.nodes.append(
                ir.Linear(
                    f"{module}.{name}", module, hidden, output, weight[row : row + 1], bias[row : row + 1]
                )
            )
            self.graph.nodes.append(ir.Result(name, output))

    def _decode(self, step: Decoder, hidden: ir.Tensor) -> ir.Tensor:
        config = self.config
        further = 0 if not step.columns else hidden.channels - config.embedding
        shape = (config.vocabulary, hidden.channels - further)
        name = f"{step.module}.weight"
        if name not in self.checkpoint and self.checkpoint.config.get("tie_word_embeddings", True):
            name = f"{config.base}{config.architecture.word}.weight"
        bias = f"{step.module}.bias"
        if step.bias is not None:
            bias = bias if bias in self.checkpoint else step.bias
            self.used.add(step.bias)
        weight = self._tensor(name, shape)
        if further:
            columns = self._tensor(f"{step.columns}.weight", (further, config.vocabulary))
            weight = np.concatenate([weight, columns.T], axis=1)
        output = ir.Tensor(step.module, config.vocabulary, hidden.domain)
        bias_values = self._bias(bias, config.vocabulary)
        self.graph.nodes.append(ir.Linear(step.module, step.module, hidden, output, weight, bias_values))
        return output

    def _linear(self, module: str, value: ir.Tensor, width: int) -> ir.Tensor:
        output = ir.Tensor(module + self.suffix, width, value.domain)
        weight = self._tensor(f"{module}.weight", (width, value.channels))
        bias = self._bias(f"{module}.bias", width)
        self.graph.nodes.append(ir.Linear(output.name, module, value, output, weight, bias))
        return output

    def _norm(
        self,
        module: str,
        value: ir.Tensor,
        epsilon: Optional[float] = None,
        kind: Optional[NormKind] = None,
    ) -> ir.Tensor:
        output = ir.Tensor(module + self.suffix, value.channels, value.domain)
        shape = (value.channels,)
        gamma, beta = self._tensor(f"{module}.weight", shape), self._bias(f"{module}.bias", value.channels)
        self.graph.nodes.append(
            ir.LayerNorm(
                output.name,
                value,
                output,
                gamma,
                beta,
                epsilon or self.config.epsilon,
                self.config.architecture.norm if kind is None else kind,
            )
        )
        return output

    def _activate(self, value: ir.Tensor, function: Activation) -> ir.Tensor:
        if function is Activation.NONE:
            return value
        output = ir.Tensor(f"{value.name}.{function.name.lower()}", value.channels, value.domain)
        self.graph.nodes.append(ir.Activate(output.name, value, output, function))
        return output

    def _add(self, left: ir.Tensor, right: ir.Tensor) -> ir.Tensor:
        output = ir.Tensor(f"{left.name}.residual", left.channels, left.domain)
        self.graph.nodes.append(ir.Add(output.name, left, right, output))
        return output


def result_names(graph: ir.Graph) -> List[str]:
    """Names of the graph's results, in the order in which the program writes them."""
    return [node.name for node in graph.nodes if isinstance(node, ir.Result)]
