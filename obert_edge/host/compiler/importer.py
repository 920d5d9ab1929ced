"""Checkpoint to float graph: one walk over the encoder and its head, the same for all architectures."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Dict, List, Optional, Set, Tuple

import numpy as np

from obert_edge.bundle.program import Activation, Domain
from obert_edge.errors import CheckpointError, UsageError
from obert_edge.host.architectures.base import Decoder, Dense, Norm
from obert_edge.host.checkpoints.checkpoint import Checkpoint, heads_among, unknown_tensors
from obert_edge.host.checkpoints.model_config import ModelConfig, RelativeAttention
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
    if max_length is not None and not 1 <= max_length <= config.longest:
        raise UsageError(
            f"max_length {max_length} is not between 1 and {config.longest}, the positions of the model",
            hint=f"pass at most {config.longest}",
        )
    importer = _Importer(checkpoint, config, max_length or config.default_length)
    graph = importer.run()
    importer.refuse_unknown()
    return graph


class _Importer:
    """Walks over the modules of a model and appends their nodes to ``graph``; notes which tensors it used."""

    def __init__(self, checkpoint: Checkpoint, config: ModelConfig, max_length: int) -> None:
        self.checkpoint = checkpoint
        self.config = config
        self.graph = ir.Graph(max_length, config.position_offset)
        self.used: Set[str] = set()
        self.bias: Optional[RelativeBias] = None
        self.positions: Optional[PositionRows] = None
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
        for i in range(config.layers):
            prefix = config.base + architecture.layer.format(i=i)
            if architecture.final_norm is None:
                hidden = self._layer(prefix, hidden)
            else:
                hidden = self._pre_norm_layer(prefix, hidden, i)
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
        return self.checkpoint.tensor(name, shape)

    def _embed(self) -> ir.Tensor:
        config, architecture, base = self.config, self.config.architecture, self.config.base
        width = config.embedding
        rows = self.graph.max_length + config.position_offset
        position, token_type = None, None
        if architecture.position:
            shape = (config.positions, width)
            position = self._tensor(f"{base}{architecture.position}.weight", shape)[:rows]
        if architecture.token_type:
            token_type = self._tensor(
                f"{base}{architecture.token_type}.weight", (config.type_vocabulary, width)
            )
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
        output = self._norm(base + architecture.embedding_norm, output)
        if width == config.hidden:
            return output
        if architecture.projection is None:
            raise CheckpointError(
                f"{self.checkpoint.folder} has embeddings of width {width} for a hidden size of "
                f"{config.hidden}, and {architecture.model_type} has no projection between them",
                hint="use the config.json that was saved with the weights",
            )
        return self._linear(base + architecture.projection, output, config.hidden)

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

    def _layer(self, prefix: str, hidden: ir.Tensor) -> ir.Tensor:
        config, modules = self.config, self.config.architecture.modules

        def path(module: str) -> str:
            return f"{prefix}.{module}"

        query, key, value = (
            self._linear(path(module), hidden, config.hidden)
            for module in (modules.query, modules.key, modules.value)
        )
        context = ir.Tensor(f"{path(modules.attention)}.context", config.hidden)
        self.graph.nodes.append(
            ir.SelfAttention(
                path(modules.attention),
                query,
                key,
                value,
                context,
                config.heads,
                self.bias,
                positions=self._position_tables(prefix),
                parts=config.score_parts,
            )
        )
        attended = self._linear(path(modules.attention_output), context, config.hidden)
        hidden = self._norm(path(modules.attention_norm), self._add(attended, hidden))
        wide = self._activate(
            self._linear(path(modules.intermediate), hidden, config.intermediate), config.activation
        )
        narrow = self._linear(path(modules.output), wide, config.hidden)
        return self._norm(path(modules.output_norm), self._add(narrow, hidden))

    def _pre_norm_layer(self, prefix: str, hidden: ir.Tensor, index: int) -> ir.Tensor:
        """ModernBERT's layer: norm, attention, addition, norm, gated unit, addition."""
        config, modules = self.config, self.config.architecture.modules

        def path(module: str) -> str:
            return f"{prefix}.{module}"

        normal = hidden if index == 0 else self._norm(path(modules.attention_norm), hidden)
        names = ("query", "key", "value")
        query, key, value = self._parts(path(modules.query), normal, names, config.hidden)
        attention = config.attention[index]
        query, key = (self._rotate(tensor, attention.base) for tensor in (query, key))
        context = ir.Tensor(f"{path(modules.attention)}.context", config.hidden)
        self.graph.nodes.append(
            ir.SelfAttention(
                path(modules.attention),
                query,
                key,
                value,
                context,
                config.heads,
                window=attention.window if attention.window < self.graph.max_length - 1 else 0,
            )
        )
        attended = self._linear(path(modules.attention_output), context, config.hidden)
        hidden = self._add(attended, hidden)
        normal = self._norm(path(modules.output_norm), hidden)
        unit, gate = self._parts(path(modules.intermediate), normal, ("unit", "gate"), config.intermediate)
        unit = self._activate(unit, config.activation)
        product = ir.Tensor(f"{path(modules.intermediate)}.product", config.intermediate)
        self.graph.nodes.append(ir.Multiply(product.name, unit, gate, product))
        return self._add(self._linear(path(modules.output), product, config.hidden), hidden)

    def _parts(self, module: str, value: ir.Tensor, names: Sequence[str], width: int) -> List[ir.Tensor]:
        """The parts of a linear that is several in one, each ``width`` wide, as linears of their own.

        They share the quantizer of the module's input.
        """
        weight = self._tensor(f"{module}.weight", (len(names) * width, value.channels))
        bias = self._bias(f"{module}.bias", len(names) * width)
        outputs: List[ir.Tensor] = []
        for i, name in enumerate(names):
            rows = slice(i * width, (i + 1) * width)
            output = ir.Tensor(f"{module}.{name}", width, value.domain)
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
        if self.config.architecture.final_norm is not None and name not in self.checkpoint:
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
            mean = ir.Tensor("mean", hidden.channels, Domain.SEQUENCES)
            self.graph.nodes.append(ir.MeanPool("mean", hidden, mean))
            hidden = mean
        elif head.first_token or self.config.head_pooling == "cls":
            first = ir.Tensor("first", hidden.channels, Domain.SEQUENCES)
            self.graph.nodes.append(ir.SelectFirst("first", hidden, first))
            hidden = first
        *inner, last = head.steps
        for step in inner:
            module = step.module.format(base=self.config.base)
            if isinstance(step, Norm):
                hidden = self._norm(module, hidden, step.epsilon)
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
            self.graph.nodes.append(ir.Result("logits", self._linear(last.module, hidden, classes)))

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
        shape = (config.vocabulary, hidden.channels)
        name = f"{step.module}.weight"
        if name not in self.checkpoint and self.checkpoint.config.get("tie_word_embeddings", True):
            name = f"{config.base}{config.architecture.word}.weight"
        bias = f"{step.module}.bias"
        if step.bias is not None:
            bias = bias if bias in self.checkpoint else step.bias
            self.used.add(step.bias)
        output = ir.Tensor(step.module, config.vocabulary, hidden.domain)
        self.graph.nodes.append(
            ir.Linear(
                step.module,
                step.module,
                hidden,
                output,
                self._tensor(name, shape),
                self._bias(bias, config.vocabulary),
            )
        )
        return output

    def _linear(self, module: str, value: ir.Tensor, width: int) -> ir.Tensor:
        output = ir.Tensor(module, width, value.domain)
        weight = self._tensor(f"{module}.weight", (width, value.channels))
        bias = self._bias(f"{module}.bias", width)
        self.graph.nodes.append(ir.Linear(module, module, value, output, weight, bias))
        return output

    def _norm(self, module: str, value: ir.Tensor, epsilon: Optional[float] = None) -> ir.Tensor:
        output = ir.Tensor(module, value.channels, value.domain)
        shape = (value.channels,)
        gamma, beta = self._tensor(f"{module}.weight", shape), self._bias(f"{module}.bias", value.channels)
        self.graph.nodes.append(
            ir.LayerNorm(module, value, output, gamma, beta, epsilon or self.config.epsilon)
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
