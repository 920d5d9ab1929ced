"""The compiled program as a dense float model: what every baseline is made from.

The program names its activations in quantization steps and folds scales into the ops. Undoing that is
exact without knowing a single activation scale, because the float function does not depend on the unit an
intermediate value is measured in: an 8-bit value whose producer divides by ``s`` becomes the float it was
before rounding, and a value whose scale was folded away (queries, keys, values, contexts) stays in whatever
unit the program left it, with the weights of its neighbors in that unit too. So the dense model computes
what the engine computes, short of rounding activations to 8 bit, with ``W = weight_scale * weight_q``.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Set, Type, Union, cast

import numpy as np
import numpy.typing as npt

from obert_edge.bundle import program as ir
from obert_edge.bundle.container import Bundle
from obert_edge.bundle.ops import Multiply, NormKind, Rotate
from obert_edge.bundle.packing import unpack_op
from obert_edge.bundle.rows import dequantize_rows
from obert_edge.errors import BundleError

#: Names of a model's inputs in every exported format, each integers [batch, sequence], padded on the right.
INPUTS = ("input_ids", "attention_mask", "token_type_ids")

#: What stands in a score that does not count: far below any, far from overflow, and exact in half precision.
MASKED = np.float32(-1e4)

Floats = npt.NDArray[np.float32]
Int8s = npt.NDArray[np.int8]


@dataclass(frozen=True)
class QuantParams:
    """A value's static 8-bit parameters, ``x = scale * (q - zero_point)`` with q in 0..255 (S8: plus 128)."""

    scale: float
    zero_point: int


@dataclass(frozen=True)
class Table:
    """An INT8 embedding table: row i is ``scale[i] * rows[i]``; rows [size, channels].

    Attributes:
        exact: float32 rows that ``rows`` come close to, of a table of four bits: other engines have
            no such tables, and get the nearest thing they have.
    """

    rows: Int8s
    scale: Floats
    exact: Optional[Floats] = None

    @classmethod
    def nearest(cls, exact: Floats) -> Table:
        """The INT8 table closest to float32 rows."""
        largest = np.abs(exact).max(axis=1)
        scale = np.where(largest > 0, largest / np.float32(127), np.float32(1)).astype(np.float32)
        return cls(np.rint(exact / scale[:, None]).astype(np.int8), scale, exact)

    @property
    def floats(self) -> Floats:
        """The table in float32, [size, channels]."""
        return self.rows.astype(np.float32) * self.scale[:, None] if self.exact is None else self.exact


@dataclass(frozen=True)
class Embedding:
    """Sum of the rows of one to three tables; writes [tokens, channels].

    With ``neighbors`` the word rows of the token after, of the token and of the one before it, side by side;
    beyond the ends of a sequence they are 0.
    """

    output: str
    word: Optional[Table]
    position: Optional[Table]
    token_type: Optional[Table]
    neighbors: bool = False


@dataclass(frozen=True)
class Norm:
    """LayerNorm or RMS norm over channels, or gamma and beta alone."""

    input: str
    output: str
    gamma: Floats
    beta: Floats
    epsilon: float
    kind: NormKind


@dataclass(frozen=True)
class Rotation:
    """Rotary positions: channels d and d + D / 2 of each head are turned by the token's angle d.

    ``cosine`` and ``sine`` are float32 [positions, D / 2].
    """

    input: str
    output: str
    heads: int
    cosine: Floats
    sine: Floats


@dataclass(frozen=True)
class Product:
    """``left * right``, channel by channel."""

    left: str
    right: str
    output: str


@dataclass(frozen=True)
class Dense:
    """``output = activation(input W^T + bias) + residual``, W = weight_scale[:, None] * weight_q, [n, k].

    ``input_qparams`` are what the engine quantizes the input with, ``None`` when it does so per token;
    ``output_qparams`` those of an 8-bit output, ``None`` for a float one.
    """

    name: str
    input: str
    residual: Optional[str]
    output: str
    weight_q: Int8s
    weight_scale: Floats
    bias: Floats
    activation: ir.Activation
    input_qparams: Optional[QuantParams]
    output_qparams: Optional[QuantParams]

    @property
    def weight(self) -> Floats:
        """The dense weights in float32, [n, k]."""
        return self.weight_q.astype(np.float32) * self.weight_scale[:, None]

    def scaled(self, factor: float) -> Dense:
        """The same op with its output measured in a unit ``factor`` times as small."""
        qparams = self.output_qparams
        return dataclasses.replace(
            self,
            weight_scale=self.weight_scale * np.float32(factor),
            bias=self.bias * np.float32(factor),
            output_qparams=qparams and QuantParams(qparams.scale * factor, qparams.zero_point),
        )


@dataclass(frozen=True)
class SelfAttention:
    """``softmax(Q K^T / sqrt(head_dim) + bias) V`` within each sequence, per head.

    ``bias`` [heads, 2 * D - 1] holds at ``clip(j - i, 1 - D, D - 1) + D - 1`` what is added to the score of
    query i and key j; ``None``: nothing is. Keys more than ``window`` tokens from the query do not count; 0:
    all do.
    """

    query: str
    key: str
    value: str
    output: str
    heads: int
    head_dim: int
    bias: Optional[Floats] = None
    window: int = 0

    def added(self, tokens: int) -> Optional[Floats]:
        """What is added to the scores of a sequence, float32 [heads or 1, queries, keys]; None: nothing."""
        behind = np.arange(tokens) - np.arange(tokens)[:, None]
        if self.window:
            band: Floats = np.where(np.abs(behind) <= self.window, np.float32(0), MASKED)[None]
            return band
        if self.bias is None:
            return None
        most = self.bias.shape[1] // 2
        return self.bias[:, np.clip(behind, -most, most) + most]


@dataclass(frozen=True)
class Pool:
    """The first token of each sequence, or the mean of its tokens."""

    input: str
    output: str
    mean: bool


@dataclass(frozen=True)
class Result:
    """A result of the model, [batch, sequence, channels] if ``per_token``, else [batch, channels]."""

    input: str
    name: str
    channels: int
    per_token: bool


DenseOp = Union[Embedding, Norm, Rotation, Product, Dense, SelfAttention, Pool, Result]


@dataclass(frozen=True)
class DenseModel:
    """A program in float: values are single-assignment names, weights are dense.

    Args:
        ops: in execution order.
        max_positions: the longest sequence the position table covers.
        position_offset: row of the position table that the first token takes.
    """

    ops: List[DenseOp]
    max_positions: int
    position_offset: int

    @property
    def results(self) -> List[Result]:
        """The model's results, in the order of the program's outputs."""
        return [op for op in self.ops if isinstance(op, Result)]

    @property
    def embedding(self) -> Embedding:
        """The op every other one depends on."""
        return next(op for op in self.ops if isinstance(op, Embedding))


def read_dense_model(path: Path) -> DenseModel:
    """The dense model of a bundle.

    Raises:
        BundleError: not a bundle, or one this version cannot translate.
    """
    with Bundle.open(path) as bundle:
        names = [output.name for output in bundle.manifest.outputs]
        offset = bundle.manifest.model.position_offset
        return dense_model(bundle.program, bundle.weights, names, position_offset=offset)


def dense_model(
    program: ir.Program,
    weights: Union[bytes, memoryview],
    names: Sequence[str],
    *,
    position_offset: int = 0,
) -> DenseModel:
    """Translate a compiled program op by op.

    Args:
        program: the compiled graph.
        weights: the blob its constants point into.
        names: of the results, in the order of the program's outputs.
        position_offset: position of the first token of a sequence (RoBERTa counts from 2).

    Raises:
        BundleError: the program holds an op, or a wiring of ops, that no encoder produces.
    """
    for op in program.ops:
        if isinstance(op, ir.Attention) and op.positions:
            raise BundleError(
                f"op {op.name!r} multiplies with relative positions, which have no dense counterpart",
                hint="measure without --baseline",
            )
    translation = _Translation(program, weights, names)
    for op in program.ops:
        try:
            translation.add(op)
        except (ArithmeticError, AttributeError, LookupError, ValueError) as error:
            # The engine says more exactly what is wrong with a program, but it need not run here.
            raise BundleError(
                f"op {op.name!r} does not fit the ops before it, or its constants: "
                f"{error or type(error).__name__}",
                hint="copy the bundle again; it was altered on the way, or rebuild it",
            ) from error
    return DenseModel(translation.ops, program.max_positions, position_offset)


class _Translation:
    """Walks the program once. Buffers are reused, so each write gets a new value name."""

    def __init__(self, program: ir.Program, weights: Union[bytes, memoryview], names: Sequence[str]) -> None:
        self.program = program
        self.weights = weights
        self.names = names
        self.ops: List[DenseOp] = []
        self.values: Dict[int, str] = {}  # buffer -> name of the value it holds now
        # Buffer -> its quantization parameters while it holds 8-bit values.
        self.qparams: Dict[int, Optional[QuantParams]] = {}
        self.biases: Dict[int, Floats] = {}  # constant -> the biases it holds
        self.producers: Dict[str, int] = {}  # value -> index of the Dense op that writes it
        self.rotated: Set[str] = set()  # values that a Rotation writes, each in its own unit

    def add(self, op: ir.Op) -> None:
        translate = _TRANSLATIONS.get(type(op))
        if translate is None:
            raise BundleError(
                f"op {op.name!r} is a {type(op).__name__}, which has no dense counterpart",
                hint="measure without --baseline, or update obert-edge",
            )
        translate(self, op)

    def quantize(self, op: ir.Quantize) -> None:
        self._alias(op.output, op.input, QuantParams(1 / op.inv_scale, op.zero_point))

    def quantize_dynamic(self, op: ir.QuantizeDynamic) -> None:
        self._alias(op.output, op.input, None)

    def multiply(self, op: Multiply) -> None:
        left, right = self.values[op.left], self.values[op.right]
        written = self._qparams(op.output, 1 / op.inv_scale, op.zero_point)
        self.ops.append(Product(left, right, self._write(op.output, op.name, written)))

    def pool(self, op: Union[ir.SelectFirst, ir.MeanPool]) -> None:
        source = self.values[op.input]
        output = self._write(op.output, op.name, None)
        self.ops.append(Pool(source, output, isinstance(op, ir.MeanPool)))

    def _write(self, buffer: int, name: str, qparams: Optional[QuantParams]) -> str:
        value = f"{name}#{len(self.ops)}"
        self.values[buffer] = value
        self.qparams[buffer] = qparams
        return value

    def _alias(self, buffer: int, source: int, qparams: Optional[QuantParams]) -> None:
        """Rounding to 8 bit does nothing in float: the 8-bit buffer holds the same value."""
        self.values[buffer] = self.values[source]
        self.qparams[buffer] = qparams

    def _qparams(self, buffer: int, scale: float, zero_point: int) -> Optional[QuantParams]:
        """The parameters of ``buffer``, ``None`` for floats; S8 counts from -128 where U8 does from 0."""
        dtype = self.program.buffers[buffer].dtype
        if dtype is ir.DType.F32:
            return None
        return QuantParams(scale, zero_point + (128 if dtype is ir.DType.S8 else 0))

    def _floats(self, index: int) -> Floats:
        return np.frombuffer(self._span(index), np.float32)

    def _span(self, index: int) -> memoryview:
        const = self.program.consts[index]
        return memoryview(self.weights)[const.offset : const.offset + const.bytes]

    def _table(self, rows: int, scale: int, channels: int) -> Table:
        data = np.frombuffer(self._span(rows), np.int8).reshape(-1, channels)
        return Table(data, self._floats(scale))

    def _word_table(self, op: ir.Embed) -> Table:
        width = op.channels // 3 if op.neighbors else op.channels
        if op.word_format == ir.RowFormat.INT8:
            return self._table(op.word, op.word_scale, width)
        spans = (np.frombuffer(self._span(index), np.int8) for index in (op.word, op.word_group_scale))
        rows, group_scale = (span.reshape(op.vocabulary, -1) for span in spans)
        return Table.nearest(dequantize_rows(rows, group_scale, self._floats(op.word_scale), width))

    def embed(self, op: ir.Embed) -> None:
        position, token_type = None, None
        if op.position != ir.ABSENT:
            position = self._table(op.position, op.position_scale, op.channels)
        if op.token_type != ir.ABSENT:
            token_type = self._table(op.token_type, op.token_type_scale, op.channels)
        word = None if op.word == ir.ABSENT else self._word_table(op)
        output = self._write(op.output, op.name, None)
        self.ops.append(Embedding(output, word, position, token_type, bool(op.neighbors)))

    def layer_norm(self, op: ir.LayerNorm) -> None:
        source = self.values[op.input]
        buffer = op.quantized if op.output == ir.ABSENT else op.output
        output = self._write(buffer, op.name, None)
        if op.quantized != ir.ABSENT:
            self._alias(op.quantized, buffer, QuantParams(1 / op.inv_scale, op.zero_point))
        gamma, beta = self._floats(op.gamma), self._floats(op.beta)
        self.ops.append(Norm(source, output, gamma, beta, op.epsilon, NormKind(op.kind)))

    def rotate(self, op: Rotate) -> None:
        half = op.head_dim // 2
        cosine, sine = (self._floats(table).reshape(op.positions, half) for table in (op.cosine, op.sine))
        source = self.values[op.input]
        output = self._write(op.output, op.name, self._qparams(op.output, 1 / op.inv_scale, op.zero_point))
        self.rotated.add(output)
        self.ops.append(Rotation(source, output, op.heads, cosine, sine))

    def linear(self, op: ir.Linear) -> None:
        qparams = self.qparams[op.input]
        scale, bias = self._floats(op.scale), self._floats(op.bias)
        if qparams is not None:
            scale = (scale / np.float64(qparams.scale)).astype(np.float32)
        source = self.values[op.input]
        residual = None if op.residual == ir.ABSENT else self.values[op.residual]
        written = self._qparams(op.output, 1 / op.inv_scale, op.zero_point)
        output = self._write(op.output, op.name, written)
        self.producers[output] = len(self.ops)
        self.ops.append(
            Dense(
                name=op.name,
                input=source,
                residual=residual,
                output=output,
                weight_q=unpack_op(self.program, op, self.weights),
                weight_scale=scale,
                bias=bias,
                activation=ir.Activation(op.activation),
                input_qparams=qparams,
                output_qparams=written,
            )
        )

    def attention(self, op: ir.Attention) -> None:
        # score_scale = s_q s_k log2(e) / sqrt(D) and context_scale = s_v / s_context are all the program
        # keeps of four scales. Queries and keys take one unit, the mean; contexts stay in their own steps.
        qparams = [cast(QuantParams, self.qparams[buffer]) for buffer in (op.query, op.key, op.value)]
        scores = op.score_scale * math.log(2.0) * math.sqrt(op.head_dim)
        query, key, value = (self.values[buffer] for buffer in (op.query, op.key, op.value))
        self._rescale(query, math.sqrt(scores) / qparams[0].scale)
        self._rescale(key, math.sqrt(scores) / qparams[1].scale)
        self._rescale(value, op.context_scale / qparams[2].scale)
        output = self._write(op.output, op.name, self._qparams(op.output, 1.0, op.zero_point))
        bias = self._bias(op) if op.distances else None
        self.ops.append(SelfAttention(query, key, value, output, op.heads, op.head_dim, bias, op.window))

    def _bias(self, op: ir.Attention) -> Floats:
        """The biases in natural units; one array for all ops that share them."""
        if op.bias not in self.biases:
            in_bits = self._floats(op.bias).reshape(op.heads, 2 * op.distances - 1)
            self.biases[op.bias] = in_bits * np.float32(math.log(2.0))
        return self.biases[op.bias]

    def _rescale(self, value: str, factor: float) -> None:
        if value in self.rotated:
            return  # the program knows its scale: it is the float it was before rounding
        index = self.producers.get(value)
        if index is None:
            raise BundleError(
                f"the attention reads {value!r}, which no linear op writes",
                hint="rebuild the bundle with `obert-edge build`",
            )
        self.ops[index] = cast(Dense, self.ops[index]).scaled(factor)

    def output(self, op: ir.Output) -> None:
        index = len([done for done in self.ops if isinstance(done, Result)])
        per_token = self.program.buffers[op.input].domain is ir.Domain.TOKENS
        self.ops.append(Result(self.values[op.input], self.names[index], op.channels, per_token))


#: What translates each kind of op.
_TRANSLATIONS: Dict[Type[ir.Op], Callable[[_Translation, Any], None]] = {
    ir.Embed: _Translation.embed,
    ir.LayerNorm: _Translation.layer_norm,
    ir.Quantize: _Translation.quantize,
    ir.QuantizeDynamic: _Translation.quantize_dynamic,
    ir.Linear: _Translation.linear,
    ir.Attention: _Translation.attention,
    Rotate: _Translation.rotate,
    Multiply: _Translation.multiply,
    ir.SelectFirst: _Translation.pool,
    ir.MeanPool: _Translation.pool,
    ir.Output: _Translation.output,
}
