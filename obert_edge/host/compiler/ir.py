"""The float graph between a checkpoint and a program: unfused, and each value is written once.

``importer.py`` writes it, ``passes/fuse.py`` and ``passes/first_token.py`` rewrite it, and
``passes/quantize.py`` lowers it to the engine's ops.

A kind of node is one class here, and the compiler lists them nowhere else: the class says what the node
computes, in which form it reads its inputs (:meth:`Node.reads`), and which ops it becomes
(:meth:`Node.lower`). To add an op to the compiler, add its class, and let the importer make one.

Scales and weights are folded exactly as ``docs/reference/numerics.md`` says: in float64, from float32 scales,
and rounded once.
"""

from __future__ import annotations

import abc
import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Dict, List, Optional, Tuple, Type

import numpy as np
import numpy.typing as npt

from obert_edge.bundle import ops
from obert_edge.bundle.ops import Activation, Domain, NormKind, RowFormat
from obert_edge.bundle.rows import pack_rows
from obert_edge.host.checkpoints.quantization_format import OPERANDS
from obert_edge.host.checkpoints.scales import QuantParams, Scales
from obert_edge.host.compiler.lowered import as_f32
from obert_edge.host.compiler.lowering import Form, Lowering, Read, Unscaled
from obert_edge.host.compiler.quantized_rows import quantize_rows, quantize_rows_int4
from obert_edge.host.compiler.relative_bias import RelativeBias
from obert_edge.host.compiler.relative_positions import PositionTables, with_scale_in_bits
from obert_edge.host.compiler.values import Tensor as Tensor

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Node(abc.ABC):
    """An operation of the float graph; its fields of type :class:`Tensor` are what it reads and writes.

    Attributes:
        PER_TOKEN: whether the node computes each token (or sequence) from that token of its inputs alone, so
            that it may be moved behind the selection of the first tokens.
        name: module of the checkpoint it comes from.
    """

    PER_TOKEN: ClassVar[bool] = False

    name: str

    @property
    def inputs(self) -> Tuple[Tensor, ...]:
        """The values it reads: all fields that are tensors, but ``output``."""
        fields = (getattr(self, spec.name) for spec in dataclasses.fields(self) if spec.name != "output")
        return tuple(value for value in fields if isinstance(value, Tensor))

    @property
    def outputs(self) -> Tuple[Tensor, ...]:
        """The value it writes: the field ``output``, where it has one."""
        output = getattr(self, "output", None)
        return () if output is None else (output,)

    def reads(self, scales: Scales) -> List[Read]:
        """The values it reads, each with the form in which it does: all in float unless a class says else.

        Raises:
            CheckpointError: ``scales`` lacks a quantizer of this node.
        """
        return [(tensor, Unscaled.FLOAT) for tensor in self.inputs]

    @abc.abstractmethod
    def lower(self, lowering: Lowering) -> None:
        """Append the ops that compute this node, and those that make the 8-bit forms its readers want."""


@dataclass(frozen=True)
class Embedding(Node):
    """The sum, for every token, of its rows of the tables.

    Attributes:
        word: float32 [vocabulary, channels]; also ``position`` [positions, channels] and ``token_type``
            [token types, channels] (None: none of them is added).
        neighbors: whether the channels are, instead, the word rows of the token after, of the token and of
            the one before it, each of a third of them; beyond a sequence's ends they are 0.
    """

    output: Tensor
    word: Optional[Floats]
    position: Optional[Floats]
    token_type: Optional[Floats]
    neighbors: bool = False

    def word_rows(self, word_format: RowFormat) -> Dict[str, Any]:
        """The arrays of the word table in a format, by the fields of the op; none without words."""
        if self.word is None:
            return {}
        if word_format is RowFormat.INT8:
            values, scale = quantize_rows(self.word)
            return {"word": values, "word_scale": scale}
        int4 = quantize_rows_int4(self.word)
        rows = {"word": pack_rows(int4.values), "word_scale": int4.scale}
        return {**rows, "word_group_scale": int4.group_scale}

    def lower(self, lowering: Lowering) -> None:
        """One op with INT8 tables, the word table in INT4 if the scales say so; it writes float."""
        word_format = RowFormat.INT8
        if self.word is not None:
            word_format = RowFormat[lowering.scales.embeddings.upper()]
        rows = self.word_rows(word_format)
        for name, table in {"position": self.position, "token_type": self.token_type}.items():
            if table is not None:
                rows[name], rows[f"{name}_scale"] = quantize_rows(table)
        lowering.emit(
            ops.Embed,
            self.name,
            output=lowering.as_float(self.output),
            **rows,
            vocabulary=0 if self.word is None else len(self.word),
            positions=0 if self.position is None else len(self.position),
            token_types=0 if self.token_type is None else len(self.token_type),
            channels=self.output.channels,
            word_format=int(word_format),
            neighbors=int(self.neighbors),
        )
        lowering.quantize(self.output)


@dataclass(frozen=True)
class LayerNorm(Node):
    """LayerNorm or RMS norm over channels, or neither: gamma and beta alone.

    Attributes:
        gamma: float32 [channels]; ``beta`` too.
        epsilon: added to the variance.
        kind: what is done before gamma.
    """

    PER_TOKEN: ClassVar[bool] = True

    input: Tensor
    output: Tensor
    gamma: Floats
    beta: Floats
    epsilon: float
    kind: NormKind = NormKind.LAYER

    def lower(self, lowering: Lowering) -> None:
        """One op, which writes the float value, one 8-bit form of it, or both: whatever the readers want."""
        params = lowering.first_params(self.output)
        fields: Dict[str, Any] = {"zero_point": 0, "inv_scale": 1.0}
        if params is not None:
            fields = {
                "quantized": lowering.as_eight_bit(self.output, params),
                "zero_point": params.zero_point,
                "inv_scale": params.inv_scale,
            }
        if lowering.only_params(self.output) is None:
            fields["output"] = lowering.as_float(self.output)
        lowering.emit(
            ops.LayerNorm,
            self.name,
            overwrites="input",
            input=lowering.as_float(self.input),
            gamma=self.gamma,
            beta=self.beta,
            channels=self.output.channels,
            epsilon=as_f32(self.epsilon),
            kind=int(self.kind),
            **fields,
        )
        lowering.quantize(self.output, params)


@dataclass(frozen=True)
class Linear(Node):
    """``activation(input W^T + bias) + residual``; the importer leaves out the activation and the residual.

    Attributes:
        module: path of the linear in the checkpoint, by which its input's quantizer is named.
        weight: float32 [n, k], for k input and n output channels.
        bias: float32 [n].
        activation: fused by ``passes/fuse.py``.
        residual: [n] channels, added after the activation; fused by ``passes/fuse.py``.
    """

    PER_TOKEN: ClassVar[bool] = True

    module: str
    input: Tensor
    output: Tensor
    weight: Floats
    bias: Floats
    activation: Activation = Activation.NONE
    residual: Optional[Tensor] = None

    def reads(self, scales: Scales) -> List[Read]:
        """The input in 8 bits, the residual in float."""
        residual = [] if self.residual is None else [(self.residual, Unscaled.FLOAT)]
        return [(self.input, self._input_form(scales)), *residual]

    def _input_form(self, scales: Scales) -> Form:
        return Unscaled.PER_TOKEN if scales.per_token(self.module) else scales.linear_input(self.module)

    def lower(self, lowering: Lowering) -> None:
        """One op, with the scales folded as docs/reference/numerics.md (Linear) says.

        It writes 8 bits if all readers want the same quantization parameters, else float.
        """
        form = self._input_form(lowering.scales)
        matrix, weight_scale = quantize_rows(self.weight, lowering.scales.weight(self.module))
        # The engine multiplies codes without taking the zero point away, and corrects the sums afterward.
        correction = matrix.sum(axis=1, dtype=np.int64)
        scale = weight_scale.astype(np.float64)
        fields: Dict[str, Any] = {}
        if isinstance(form, QuantParams):
            scale *= np.float64(form.scale)
            correction *= -form.zero_point
        else:
            fields["params"] = lowering.token_params(self.input)
        if self.residual is not None:
            fields["residual"] = lowering.as_float(self.residual)
        bias = self.bias.astype(np.float64)
        params = lowering.only_params(self.output)
        inv_scale, zero_point, (lo, hi) = 1.0, 0, (0, 0)
        if params is None:
            fields["output"] = lowering.as_float(self.output)
        else:
            fields["output"] = lowering.as_eight_bit(self.output, params)
            zero_point, (lo, hi) = params.zero_point, params.limits
            if self.activation is Activation.NONE and self.residual is None:
                scale, bias = scale / np.float64(params.scale), bias / np.float64(params.scale)
            else:
                inv_scale = params.inv_scale
        lowering.emit(
            ops.Linear,
            self.name,
            overwrites="residual",
            input=lowering.as_eight_bit(self.input, form),
            matrix=matrix,
            scale=scale.astype(np.float32),
            bias=bias.astype(np.float32),
            correction=correction.astype(np.int32),
            k=matrix.shape[1],
            n=matrix.shape[0],
            activation=int(self.activation),
            zero_point=zero_point,
            lo=lo,
            hi=hi,
            inv_scale=inv_scale,
            **fields,
        )
        if params is None:
            lowering.quantize(self.output)


@dataclass(frozen=True)
class _Fused(Node):
    """A node that the engine computes only as the epilogue of a linear."""

    PER_TOKEN: ClassVar[bool] = True

    def lower(self, lowering: Lowering) -> None:
        """Nothing: ``passes/fuse.py`` has replaced it."""
        raise AssertionError(f"{self.name!r} must be fused into a linear before the graph is lowered")


@dataclass(frozen=True)
class Activate(_Fused):
    """An element-wise function."""

    input: Tensor
    output: Tensor
    function: Activation


@dataclass(frozen=True)
class Add(_Fused):
    """``left + right``: a residual connection."""

    left: Tensor
    right: Tensor
    output: Tensor


@dataclass(frozen=True)
class SelfAttention(Node):
    """``softmax((Q K^T + Q P^T + K R^T) / sqrt(parts * head_dim) + bias) V`` for every sequence and head.

    P and R are rows by how far the key is behind the query, where there are ``positions``.

    Attributes:
        module: whose ``:query``, ``:key`` and ``:value`` quantizers its operands take; "": that of its name.
        heads: they divide the channels of ``output``.
        bias: by how far a key is behind the query; None: there is none.
        window: keys more than so many tokens from the query do not count; 0: all do.
        positions: what queries and keys are multiplied with; None: with each other alone.
        parts: products that a score is the sum of.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    output: Tensor
    heads: int
    bias: Optional[RelativeBias] = None
    window: int = 0
    positions: Optional[PositionTables] = None
    parts: int = 1
    module: str = ""

    def reads(self, scales: Scales) -> List[Read]:
        """Query (U8), key and value (S8), in 8 bits."""
        operands = scales.attention(self.module or self.name)
        return [(getattr(self, operand), operands[operand]) for operand in OPERANDS]

    def lower(self, lowering: Lowering) -> None:
        """One op, with the scales folded as docs/reference/numerics.md (Attention) says.

        It writes 8 bits if all readers want the same quantization parameters, else float.
        """
        operands = lowering.scales.attention(self.module or self.name)
        head_dim = self.output.channels // self.heads
        root = math.sqrt(self.parts * head_dim)
        product = float(operands["query"].scale) * float(operands["key"].scale)
        params = lowering.only_params(self.output)
        context_scale = float(operands["value"].scale) * (1.0 if params is None else params.inv_scale)
        output = lowering.as_float(self.output)
        if params is not None:
            output = lowering.as_eight_bit(self.output, params)
        biased: Dict[str, Any] = {"distances": 0, "positions": 0}
        if self.bias is not None:
            biased.update(bias=self.bias.in_bits, distances=self.bias.distances)
        elif self.positions is not None:
            biased = self._positioned(
                self.positions, float(operands["query"].scale) / root, float(operands["key"].scale) / root
            )
        lowering.emit(
            ops.Attention,
            self.name,
            query=lowering.as_eight_bit(self.query, operands["query"]),
            key=lowering.as_eight_bit(self.key, operands["key"]),
            value=lowering.as_eight_bit(self.value, operands["value"]),
            output=output,
            heads=self.heads,
            head_dim=head_dim,
            query_zero_point=operands["query"].zero_point,
            zero_point=0 if params is None else params.zero_point,
            score_scale=as_f32(product / root * math.log2(math.e)),
            context_scale=as_f32(context_scale),
            window=self.window,
            **biased,
        )
        if params is None:
            lowering.quantize(self.output)

    def _positioned(self, tables: PositionTables, query: float, key: float) -> Dict[str, Any]:
        """The fields of the op that hold tables of positions, whose products ``query`` and ``key`` scale."""
        fields: Dict[str, Any] = {"distances": tables.distances, "row_of_distance": tables.row_of_distance}
        for name, table, factor in (("key", tables.key, query), ("query", tables.query, key)):
            heads, rows, head_dim = table.shape
            codes, scale = quantize_rows(table.reshape(-1, head_dim))
            quads = codes.reshape(heads, rows, head_dim // 4, 4).transpose(0, 2, 1, 3)
            fields[f"position_{name}"] = np.ascontiguousarray(quads)
            fields[f"position_{name}_scale"] = with_scale_in_bits(scale, factor).reshape(heads, rows)
            fields["positions"] = rows
        return fields


@dataclass(frozen=True)
class Rotate(Node):
    """Rotary positions: turns the two halves of each head's channels by the token's position.

    Attributes:
        heads: they divide the channels.
        cosine: float32 [positions, channels of a head / 2]; ``sine`` too. Layers share these arrays.
    """

    input: Tensor
    output: Tensor
    heads: int
    cosine: Floats
    sine: Floats

    def lower(self, lowering: Lowering) -> None:
        """One op, which writes the 8-bit form that attention reads."""
        params = lowering.only_params(self.output)
        assert params is not None, "attention alone reads what was turned"
        lo, hi = params.limits
        lowering.emit(
            ops.Rotate,
            self.name,
            input=lowering.as_float(self.input),
            output=lowering.as_eight_bit(self.output, params),
            cosine=self.cosine,
            sine=self.sine,
            heads=self.heads,
            head_dim=self.output.channels // self.heads,
            positions=len(self.cosine),
            zero_point=params.zero_point,
            lo=lo,
            hi=hi,
            inv_scale=params.inv_scale,
        )


@dataclass(frozen=True)
class Multiply(Node):
    """``left * right``, channel by channel: a gated unit."""

    PER_TOKEN: ClassVar[bool] = True

    left: Tensor
    right: Tensor
    output: Tensor

    def lower(self, lowering: Lowering) -> None:
        """One op, which writes 8 bits if all readers want the same quantization parameters, else float."""
        params = lowering.only_params(self.output)
        output = lowering.as_float(self.output)
        if params is not None:
            output = lowering.as_eight_bit(self.output, params)
        lowering.emit(
            ops.Multiply,
            self.name,
            left=lowering.as_float(self.left),
            right=lowering.as_float(self.right),
            output=output,
            channels=self.output.channels,
            zero_point=0 if params is None else params.zero_point,
            inv_scale=1.0 if params is None else params.inv_scale,
        )
        if params is None:
            lowering.quantize(self.output)


@dataclass(frozen=True)
class _Pool(Node):
    """A node that makes one value of each sequence's tokens."""

    OP: ClassVar[Type[ops.Op]]

    input: Tensor
    output: Tensor

    def lower(self, lowering: Lowering) -> None:
        """One op, which reads and writes float."""
        assert self.output.domain is Domain.SEQUENCES
        lowering.emit(
            self.OP,
            self.name,
            input=lowering.as_float(self.input),
            output=lowering.as_float(self.output),
            channels=self.output.channels,
        )
        lowering.quantize(self.output)


@dataclass(frozen=True)
class SelectFirst(_Pool):
    """The first token of each sequence."""

    OP: ClassVar[Type[ops.Op]] = ops.SelectFirst


@dataclass(frozen=True)
class MeanPool(_Pool):
    """The mean over the tokens of each sequence."""

    OP: ClassVar[Type[ops.Op]] = ops.MeanPool


@dataclass(frozen=True)
class Result(Node):
    """An output of the model, under the name the device gives it."""

    input: Tensor

    def lower(self, lowering: Lowering) -> None:
        """One op, which hands the float value to the caller."""
        lowering.emit(
            ops.Output, self.name, input=lowering.as_float(self.input), channels=self.input.channels
        )


@dataclass
class Graph:
    """Nodes in execution order.

    Attributes:
        max_length: the longest sequence, in tokens.
        position_offset: row of the position table that a sequence's first token takes.
        nodes: of which each reads only what an earlier one wrote.
    """

    max_length: int
    position_offset: int = 0
    nodes: List[Node] = field(default_factory=list)

    def consumers(self) -> Dict[str, List[Node]]:
        """The nodes that read each value, by the value's name; a node that reads it twice is there twice."""
        readers: Dict[str, List[Node]] = {}
        for node in self.nodes:
            for tensor in node.inputs:
                readers.setdefault(tensor.name, []).append(node)
        return readers
