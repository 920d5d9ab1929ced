"""The dense model as a .tflite file, FP32 or INT8, in the form LiteRT runs fastest.

Shapes are fixed, as XNNPACK wants them. INT8 quantizes the FULLY_CONNECTED operators alone, statically:
with everything in INT8 the graph falls into some 70 XNNPACK partitions and is five times slower, and
dynamic-range quantization is slightly slower than static (MiniLM-L6, LiteRT 2.3, x86). Weights and the
quantization parameters of inputs are the bundle's own. LiteRT also rounds the outputs of linears to 8 bit
where our engine keeps float; ``static_qparams`` finds the parameters of those.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from obert_edge.bundle.ops import Activation, NormKind
from obert_edge.device.export.dense import (
    INPUTS,
    Dense,
    DenseModel,
    DenseOp,
    Embedding,
    Norm,
    Pool,
    Product,
    QuantParams,
    Result,
    Rotation,
    SelfAttention,
    Table,
)
from obert_edge.device.export.static_qparams import LinearQuantParams
from obert_edge.device.export.tflite_writer import TfliteWriter


def write_tflite(
    model: DenseModel,
    path: Path,
    *,
    batch_size: int,
    sequence_length: int,
    qparams: Optional[LinearQuantParams] = None,
    metadata: Optional[Mapping[str, bytes]] = None,
) -> None:
    """Write the model for one shape.

    Inputs are int32 ``[batch, sequence]``: ids, mask, token types. Outputs are float32, ``[batch, channels]``
    or ``[batch, sequence, channels]``, in the model's order.

    Args:
        model: the dense model.
        path: the file.
        batch_size: sequences.
        sequence_length: tokens per sequence.
        qparams: quantization parameters of ``observe_qparams``, for INT8 linears; ``None``: FP32.
        metadata: data that travels in the file, by name.
    """
    _Graph(model, batch_size, sequence_length, qparams).write(path, metadata)


class _Graph:
    """Translates op by op. Values are [tokens, channels]; only attention sees batch and sequence apart."""

    def __init__(
        self,
        model: DenseModel,
        batch_size: int,
        sequence_length: int,
        qparams: Optional[LinearQuantParams],
    ) -> None:
        self.model = model
        self.batch, self.sequence = batch_size, sequence_length
        self.tokens = batch_size * sequence_length
        self.qparams = qparams
        self.writer = TfliteWriter()
        self.values: Dict[str, int] = {}
        self.quantized: Dict[Tuple[int, QuantParams], int] = {}
        turned = {op.output: op.input for op in model.ops if isinstance(op, Rotation)}
        attentions = [op for op in model.ops if isinstance(op, SelfAttention)]
        self.queries = {turned.get(op.query, op.query): op.head_dim for op in attentions}
        self.added: Dict[int, int] = {}  # id of the biases, or the window -> the constant
        self.results: List[int] = []
        shape = [batch_size, sequence_length]
        self.inputs = [self.writer.tensor(shape, np.int32, name=name) for name in INPUTS]
        self.mask = self.writer.op("CAST", [self.inputs[1]], shape)
        self.score_mask = self._score_mask()

    def write(self, path: Path, metadata: Optional[Mapping[str, bytes]] = None) -> None:
        """Translate everything and write the file."""
        for op in self.model.ops:
            self.translate(op)
        self.writer.write(path, self.inputs, self.results, metadata)

    def translate(self, op: DenseOp) -> None:
        """Append the operators of one op."""
        if isinstance(op, Embedding):
            self.values[op.output] = self.embed(op)
        elif isinstance(op, Norm):
            self.values[op.output] = self.norm(self.values[op.input], op)
        elif isinstance(op, Rotation):
            self.values[op.output] = self.rotate(self.values[op.input], op)
        elif isinstance(op, Product):
            self.values[op.output] = self.elementwise("MUL", self.values[op.left], self.values[op.right])
        elif isinstance(op, Dense):
            self.values[op.output] = self.dense(op)
        elif isinstance(op, SelfAttention):
            self.values[op.output] = self.attention(op)
        elif isinstance(op, Pool):
            self.values[op.output] = self.pool(self.values[op.input], mean=op.mean)
        else:
            self.result(op)

    def elementwise(self, code: str, left: int, right: int, options: str = "") -> int:
        """A binary operator, broadcasting ``right``."""
        return self.writer.op(code, [left, right], self.writer.shape(left), options or code.title())

    def reshape(self, value: int, shape: Sequence[int], output: Optional[int] = None) -> int:
        """The same elements in another shape."""
        target = self.writer.constant(np.array(shape, np.int32))
        return self.writer.op(
            "RESHAPE", [value, target], shape, "Reshape", output=output, newShape=list(shape)
        )

    def embed(self, op: Embedding) -> int:
        """Word, position and token-type rows. Positions are known here, so they are one constant."""
        parts = [] if op.word is None else [self.rows(op.word, self.inputs[0])]
        if op.neighbors:
            parts = [self.neighbors(parts[0])]
        if op.position is not None:
            first = self.model.position_offset
            positions = np.tile(op.position.floats[first : first + self.sequence], (self.batch, 1))
            parts.append(self.writer.constant(positions))
        if op.token_type is not None:
            parts.append(self.rows(op.token_type, self.inputs[2]))
        summed = parts[0]
        for part in parts[1:]:
            summed = self.elementwise("ADD", summed, part)
        return summed

    def neighbors(self, words: int) -> int:
        """The rows of the token after, of the token and of the one before it; beyond the ends 0."""
        shape = self.writer.shape(words)
        within = np.arange(self.tokens) % self.sequence
        parts = []
        for step, kept in ((1, within < self.sequence - 1), (-1, within > 0)):
            at = self.writer.constant(np.where(kept, np.arange(self.tokens) + step, 0).astype(np.int32))
            beside = self.writer.op("GATHER", [words, at], shape, "Gather")
            parts.append(
                self.elementwise("MUL", beside, self.writer.constant(kept.astype(np.float32)[:, None]))
            )
        both = [parts[0], words, parts[1]]
        return self.writer.op("CONCATENATION", both, [shape[0], 3 * shape[1]], "Concatenation", axis=1)

    def rows(self, table: Table, indices: int) -> int:
        """Rows of a table, [tokens, channels]; INT8 models keep the table in INT8."""
        flat = self.writer.tensor([self.tokens], np.int32)
        self.reshape(indices, [self.tokens], flat)
        shape = [self.tokens, table.rows.shape[1]]
        if self.qparams is None:
            return self.writer.op("GATHER", [self.writer.constant(table.floats), flat], shape, "Gather")
        rows = self.writer.op(
            "GATHER", [self.writer.constant(table.rows), flat], shape, "Gather", dtype=np.int8
        )
        scales = self.writer.constant(table.scale[:, None])
        scale = self.writer.op("GATHER", [scales, flat], [self.tokens, 1], "Gather")
        return self.elementwise("MUL", self.writer.op("CAST", [rows], shape), scale)

    def norm(self, x: int, op: Norm) -> int:
        """LayerNorm from means, as LiteRT has no operator for it; RMS norm; or gamma and beta alone."""
        scaled = x
        if op.kind is NormKind.NONE:
            scaled = self.elementwise("MUL", x, self.writer.constant(op.gamma))
            return self.elementwise("ADD", scaled, self.writer.constant(op.beta))
        if op.kind is NormKind.LAYER:
            scaled = self.elementwise("SUB", x, self._mean_over_channels(x))
        variance = self._mean_over_channels(self.elementwise("MUL", scaled, scaled))
        epsilon = self.writer.constant(np.array([op.epsilon], np.float32))
        inverse = self.writer.op(
            "RSQRT", [self.elementwise("ADD", variance, epsilon)], self.writer.shape(variance)
        )
        scaled = self.elementwise("MUL", scaled, inverse)
        scaled = self.elementwise("MUL", scaled, self.writer.constant(op.gamma))
        return self.elementwise("ADD", scaled, self.writer.constant(op.beta))

    def rotate(self, x: int, op: Rotation) -> int:
        """Rotary positions: ``x * cosine + x with its halves swapped * sine``, the first half's negated."""
        half = op.cosine.shape[1]
        heads = self.reshape(x, [self.tokens, op.heads, 2 * half])
        cosine, sine = op.cosine[: self.sequence], op.sine[: self.sequence]
        tables = [
            np.tile(np.concatenate(halves, axis=1)[:, None], (self.batch, 1, 1))
            for halves in ((cosine, cosine), (-sine, sine))
        ]
        swapped = self.writer.op(
            "CONCATENATION",
            [self._channels(heads, half, half), self._channels(heads, 0, half)],
            [self.tokens, op.heads, 2 * half],
            "Concatenation",
            axis=2,
        )
        turned = [
            self.elementwise("MUL", value, self.writer.constant(np.ascontiguousarray(table)))
            for value, table in zip((heads, swapped), tables)
        ]
        return self.reshape(self.elementwise("ADD", turned[0], turned[1]), [self.tokens, op.heads * 2 * half])

    def _channels(self, value: int, first: int, count: int) -> int:
        """Some channels of [tokens, heads, channels]."""
        shape = [*self.writer.shape(value)[:2], count]
        begin, size = (self.writer.constant(np.array(x, np.int32)) for x in ([0, 0, first], shape))
        return self.writer.op("SLICE", [value, begin, size], shape, "Slice")

    def dense(self, op: Dense) -> int:
        """A linear with what follows it. Queries take the factor 1 / sqrt(head_dim) here, for free."""
        factor = 1 / math.sqrt(self.queries[op.output]) if op.output in self.queries else 1.0
        linear = op.scaled(factor)
        result = self._linear_fp32(linear) if self.qparams is None else self._linear_int8(linear, factor)
        shape = self.writer.shape(result)
        if op.activation in (Activation.GELU, Activation.GELU_TANH):
            tanh = op.activation is Activation.GELU_TANH
            result = self.writer.op("GELU", [result], shape, "Gelu", approximate=tanh)
        elif op.activation is Activation.SILU:
            result = self.elementwise("MUL", result, self.writer.op("LOGISTIC", [result], shape))
        elif op.activation is not Activation.NONE:
            result = self.writer.op(op.activation.name, [result], shape)
        if op.residual is not None:
            result = self.elementwise("ADD", result, self.values[op.residual])
        return result

    def _linear_fp32(self, op: Dense) -> int:
        source = self.values[op.input]
        shape = [self.writer.shape(source)[0], len(op.bias)]
        inputs = [source, self.writer.constant(op.weight), self.writer.constant(op.bias)]
        return self.writer.op("FULLY_CONNECTED", inputs, shape, "FullyConnected")

    def _linear_int8(self, op: Dense, factor: float) -> int:
        assert self.qparams is not None
        x_qparams, y_qparams = self.qparams[op.output]
        source = self._quantize(self.values[op.input], x_qparams)
        shape = [self.writer.shape(source)[0], len(op.bias)]
        bias_scale = op.weight_scale.astype(np.float64) * x_qparams.scale
        bias = np.clip(np.rint(op.bias / bias_scale), -(2**31), 2**31 - 1).astype(np.int32)
        inputs = [
            source,
            self.writer.constant(op.weight_q, scale=op.weight_scale),
            self.writer.constant(bias, scale=bias_scale),
        ]
        output = self.writer.tensor(
            shape, np.int8, scale=y_qparams.scale * factor, zero_point=y_qparams.zero_point - 128
        )
        self.writer.op("FULLY_CONNECTED", inputs, shape, "FullyConnected", output=output)
        return self.writer.op("DEQUANTIZE", [output], shape)

    def _quantize(self, value: int, qparams: QuantParams) -> int:
        """The value in 8 bits, computed once for all that read it. LiteRT counts from -128."""
        key = (value, qparams)
        if key not in self.quantized:
            shape = self.writer.shape(value)
            output = self.writer.tensor(
                shape, np.int8, scale=qparams.scale, zero_point=qparams.zero_point - 128
            )
            self.quantized[key] = self.writer.op("QUANTIZE", [value], shape, output=output)
        return self.quantized[key]

    def attention(self, op: SelfAttention) -> int:
        """softmax(Q K^T + mask) V on [batch, heads, sequence, head_dim]."""
        query, key, value = (self._heads(self.values[name], op) for name in (op.query, op.key, op.value))
        shape = [self.batch, op.heads, self.sequence, op.head_dim]
        square = [self.batch, op.heads, self.sequence, self.sequence]
        scores = self.writer.op("BATCH_MATMUL", [query, key], square, "BatchMatMul", adjY=True)
        added = self._added(op)
        if added is not None:
            scores = self.elementwise("ADD", scores, added)
        scores = self.elementwise("ADD", scores, self.score_mask)
        weights = self.writer.op("SOFTMAX", [scores], square, "Softmax", beta=1.0)
        contexts = self.writer.op("BATCH_MATMUL", [weights, value], shape, "BatchMatMul")
        swapped = [self.batch, self.sequence, op.heads, op.head_dim]
        return self.reshape(self._transpose(contexts, swapped), [self.tokens, op.heads * op.head_dim])

    def _added(self, op: SelfAttention) -> Optional[int]:
        """[1, heads or 1, sequence, sequence], one constant for all layers that share it; None: nothing."""
        key = op.window if op.bias is None else id(op.bias)
        if key not in self.added:
            added = op.added(self.sequence)
            if added is None:
                return None
            self.added[key] = self.writer.constant(added[None])
        return self.added[key]

    def _heads(self, value: int, op: SelfAttention) -> int:
        apart = self.reshape(value, [self.batch, self.sequence, op.heads, op.head_dim])
        return self._transpose(apart, [self.batch, op.heads, self.sequence, op.head_dim])

    def _transpose(self, value: int, shape: Sequence[int]) -> int:
        order = self.writer.constant(np.array([0, 2, 1, 3], np.int32))
        return self.writer.op("TRANSPOSE", [value, order], shape, "Transpose")

    def _score_mask(self) -> int:
        """What is added to the scores: 0 for a real token, -10000 for padding."""
        shape = [self.batch, self.sequence]
        one = self.writer.constant(np.array([1], np.float32))
        lowest = self.writer.constant(np.array([1e4], np.float32))
        masked = self.writer.op("SUB", [self.mask, one], shape, "Sub")
        return self.reshape(self.elementwise("MUL", masked, lowest), [self.batch, 1, 1, self.sequence])

    def _mean_over_channels(self, value: int) -> int:
        axis = self.writer.constant(np.array([1], np.int32))
        shape = [self.writer.shape(value)[0], 1]
        return self.writer.op("MEAN", [value, axis], shape, "Reducer", keepDims=True)

    def pool(self, value: int, *, mean: bool) -> int:
        """[batch, channels]: the first token, or the mean over the tokens the mask keeps."""
        channels = self.writer.shape(value)[1]
        if not mean:
            firsts = self.writer.constant(np.arange(0, self.tokens, self.sequence, dtype=np.int32))
            return self.writer.op("GATHER", [value, firsts], [self.batch, channels], "Gather")
        apart = self.reshape(value, [self.batch, self.sequence, channels])
        kept = self.reshape(self.mask, [self.batch, self.sequence, 1])
        axis = self.writer.constant(np.array([1], np.int32))
        masked = self.elementwise("MUL", apart, kept)
        total = self.writer.op("SUM", [masked, axis], [self.batch, channels], "Reducer", keepDims=False)
        count = self.writer.op("SUM", [kept, axis], [self.batch, 1], "Reducer", keepDims=False)
        return self.elementwise("DIV", total, count)

    def result(self, op: Result) -> None:
        """Give a value the shape and name of a result."""
        shape = [self.batch, self.sequence, op.channels] if op.per_token else [self.batch, op.channels]
        output = self.writer.tensor(shape, name=op.name)
        self.results.append(self.reshape(self.values[op.input], shape, output))
