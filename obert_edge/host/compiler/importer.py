"""Checkpoint to float graph: one walk over the encoder and its head, the same for all architectures."""

from __future__ import annotations

import logging
from typing import List, Optional, Set

from obert_edge.bundle.program import Activation, Domain
from obert_edge.errors import CheckpointError, UsageError
from obert_edge.host.architectures.base import Decoder, Dense, Norm
from obert_edge.host.checkpoints.checkpoint import Checkpoint, heads_among, unknown_tensors
from obert_edge.host.checkpoints.model_config import ModelConfig
from obert_edge.host.compiler import ir
from obert_edge.host.compiler.ir import Floats

_log = logging.getLogger(__name__)


def import_graph(checkpoint: Checkpoint, config: ModelConfig, max_length: Optional[int] = None) -> ir.Graph:
    """The float graph of an encoder and its head.

    Args:
        checkpoint: the tensors.
        config: from :func:`~obert_edge.host.checkpoints.model_config.read_config`.
        max_length: the longest sequence to compile for, in tokens; default: all positions there are.

    Raises:
        UsageError: ``max_length`` is not between 1 and the positions there are.
        CheckpointError: a tensor is missing, misshapen or unknown.
    """
    if max_length is not None and not 1 <= max_length <= config.longest:
        raise UsageError(
            f"max_length {max_length} is not between 1 and {config.longest}, the positions of the model",
            hint=f"pass at most {config.longest}",
        )
    importer = _Importer(checkpoint, config, max_length or config.longest)
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

    def run(self) -> ir.Graph:
        config, architecture = self.config, self.config.architecture
        hidden = self._embed()
        for i in range(config.layers):
            hidden = self._layer(config.base + architecture.layer.format(i=i), hidden)
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
        token_type = None
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
                position=self._tensor(f"{base}{architecture.position}.weight", (config.positions, width))[
                    :rows
                ],
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
            ir.SelfAttention(path(modules.attention), query, key, value, context, config.heads)
        )
        attended = self._linear(path(modules.attention_output), context, config.hidden)
        hidden = self._norm(path(modules.attention_norm), self._add(attended, hidden))
        wide = self._activate(
            self._linear(path(modules.intermediate), hidden, config.intermediate), config.activation
        )
        narrow = self._linear(path(modules.output), wide, config.hidden)
        return self._norm(path(modules.output_norm), self._add(narrow, hidden))

    def _encoder_results(self, hidden: ir.Tensor) -> None:
        self.graph.nodes.append(ir.Result("last_hidden_state", hidden))
        pooled = ir.Tensor("pooled", hidden.channels, Domain.SEQUENCES)
        if self.config.pooling == "mean":
            self.graph.nodes.append(ir.MeanPool("mean", hidden, pooled))
        else:
            self.graph.nodes.append(ir.SelectFirst("first", hidden, pooled))
        if self.config.pooling == "pooler":
            module = f"{self.config.base}{self.config.architecture.pooler}"
            pooled = self._activate(self._linear(module, pooled, self.config.hidden), Activation.TANH)
        self.graph.nodes.append(ir.Result("sentence_embedding", pooled))

    def _head(self, hidden: ir.Tensor) -> None:
        head = self.config.architecture.heads[self.config.task]
        if head.first_token:
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
                function = self.config.activation if step.activation is None else step.activation
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
                self._tensor(bias, (config.vocabulary,)),
            )
        )
        return output

    def _linear(self, module: str, value: ir.Tensor, width: int) -> ir.Tensor:
        output = ir.Tensor(module, width, value.domain)
        weight = self._tensor(f"{module}.weight", (width, value.channels))
        bias = self._tensor(f"{module}.bias", (width,))
        self.graph.nodes.append(ir.Linear(module, module, value, output, weight, bias))
        return output

    def _norm(self, module: str, value: ir.Tensor, epsilon: Optional[float] = None) -> ir.Tensor:
        output = ir.Tensor(module, value.channels, value.domain)
        shape = (value.channels,)
        gamma, beta = self._tensor(f"{module}.weight", shape), self._tensor(f"{module}.bias", shape)
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
