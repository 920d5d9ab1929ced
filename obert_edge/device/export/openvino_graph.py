"""The dense model as an OpenVINO graph of one fixed shape, FP32 or INT8.

INT8 is in the form OpenVINO's own quantizer (NNCF) writes and its CPU plugin runs in integers: weights are
INT8 constants with a scale per output channel, the input of every linear passes a FakeQuantize of 256 levels
with the bundle's static parameters (where the bundle quantizes per token: those of its embedded cases).
Attention stays in float, as it does in the INT8 graphs of the other baselines.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Optional

import numpy as np

from obert_edge.bundle.ops import Activation, NormKind
from obert_edge.device.export.dense import (
    INPUTS,
    MASKED,
    Dense,
    DenseModel,
    DenseOp,
    Embedding,
    Norm,
    Pool,
    Product,
    Result,
    Rotation,
    SelfAttention,
    Table,
)
from obert_edge.device.export.static_qparams import LinearQuantParams
from obert_edge.files import atomic_folder


def write_openvino(
    model: DenseModel,
    folder: Path,
    *,
    batch_size: int,
    sequence_length: int,
    qparams: Optional[LinearQuantParams],
) -> Path:
    """Write the model as ``folder/model.xml`` with its weights beside it.

    Inputs are int64 [batch, sequence]: ``input_ids``, ``attention_mask``, ``token_type_ids``. Outputs are
    float32, [batch, channels] or [batch, sequence, channels].

    Args:
        model: the dense model.
        folder: replaced as a whole.
        batch_size: sequences per run.
        sequence_length: tokens per sequence.
        qparams: quantization parameters of ``static_qparams.observe_qparams``, for INT8 linears; ``None``:
            FP32.

    Returns:
        The path of ``model.xml``.
    """
    import openvino

    graph = _Graph(model, (batch_size, sequence_length), qparams).build()
    with atomic_folder(folder, overwrite=True) as temporary:
        openvino.save_model(graph, str(temporary / "model.xml"), compress_to_fp16=False)
    return folder / "model.xml"


class _Graph:
    """Translates op by op; ``values`` maps the dense model's names to nodes [batch, sequence, channels]."""

    def __init__(self, model: DenseModel, shape: Any, qparams: Optional[LinearQuantParams]) -> None:
        from openvino import opset13

        self.ops = opset13
        self.model = model
        self.shape = shape
        self.qparams = qparams
        self.inputs = [opset13.parameter(list(shape), np.int64, name=name) for name in INPUTS]
        self.ids, self.mask, self.types = self.inputs
        self.values: Dict[str, Any] = {}
        self.results: List[Any] = []
        self.kept: Any = opset13.unsqueeze(self.mask, np.array([1, 2]))  # [batch, 1, 1, keys]

    def build(self) -> Any:
        """The openvino.Model."""
        import openvino

        for op in self.model.ops:
            self.translate(op)
        return openvino.Model(self.results, self.inputs, "encoder")

    def translate(self, op: DenseOp) -> None:
        """Append the nodes of one op."""
        if isinstance(op, Embedding):
            self.values[op.output] = self.embed(op)
        elif isinstance(op, Norm):
            self.values[op.output] = self.norm(op)
        elif isinstance(op, Rotation):
            self.values[op.output] = self.rotate(op)
        elif isinstance(op, Product):
            self.values[op.output] = self.ops.multiply(self.values[op.left], self.values[op.right])
        elif isinstance(op, Dense):
            self.values[op.output] = self.dense(op)
        elif isinstance(op, SelfAttention):
            self.values[op.output] = self.attention(op)
        elif isinstance(op, Pool):
            self.values[op.output] = self.pool(op)
        else:
            self.result(op)

    def embed(self, op: Embedding) -> Any:
        """Word, position and token-type rows; position t is row ``position_offset + t``."""
        parts = [] if op.word is None else [self.rows(op.word, self.ids)]
        if op.neighbors:
            parts = [self.neighbors(parts[0])]
        if op.position is not None:
            first = self.model.position_offset
            parts.append(self.ops.constant(op.position.floats[None, first : first + self.shape[1]]))
        if op.token_type is not None:
            parts.append(self.rows(op.token_type, self.types))
        summed = parts[0]
        for part in parts[1:]:
            summed = self.ops.add(summed, part)
        return summed

    def neighbors(self, words: Any) -> Any:
        """The rows of the token after, of the token and of the one before it; beyond the ends 0."""
        at, last = np.arange(self.shape[1]), self.shape[1] - 1
        after = self.ops.gather(words, self.ops.constant(np.minimum(at + 1, last)), 1)
        before = self.ops.gather(words, self.ops.constant(np.maximum(at - 1, 0)), 1)
        has_next, has_previous = (
            self.ops.constant(kept.astype(np.float32)[None, :, None]) for kept in (at < last, at > 0)
        )
        parts = [self.ops.multiply(after, has_next), words, self.ops.multiply(before, has_previous)]
        return self.ops.concat(parts, 2)

    def rows(self, table: Table, indices: Any) -> Any:
        """The rows of a table; kept in INT8 with the linears."""
        if self.qparams is None:
            return self.ops.gather(self.ops.constant(table.floats), indices, 0)
        rows = self.ops.convert(self.ops.gather(self.ops.constant(table.rows), indices, 0), "f32")
        return self.ops.multiply(rows, self.ops.gather(self.ops.constant(table.scale[:, None]), indices, 0))

    def norm(self, op: Norm) -> Any:
        """LayerNorm, in the three nodes OpenVINO knows as one; RMS norm; or gamma and beta alone."""
        last = self.ops.constant(np.array([-1]))
        normal = self.values[op.input]
        if op.kind is NormKind.LAYER:
            normal = self.ops.mvn(normal, last, True, op.epsilon, "inside_sqrt")
        elif op.kind is NormKind.RMS:
            square = self.ops.reduce_mean(self.ops.multiply(normal, normal), last, True)
            square = self.ops.add(square, self.ops.constant(np.float32(op.epsilon)))
            normal = self.ops.divide(normal, self.ops.sqrt(square))
        scaled = self.ops.multiply(normal, self.ops.constant(op.gamma))
        return self.ops.add(scaled, self.ops.constant(op.beta))

    def rotate(self, op: Rotation) -> Any:
        """Rotary positions, by constants for the fixed length."""
        half = op.cosine.shape[1]
        source = self.values[op.input]
        split = self.ops.constant(np.array([0, 0, op.heads, 2 * half]))
        heads = self.ops.reshape(source, split, True)
        first, second = self.ops.split(heads, np.array(3), 2).outputs()
        cosine, sine = (
            self.ops.constant(table[None, : self.shape[1], None]) for table in (op.cosine, op.sine)
        )
        turned = [
            self.ops.subtract(self.ops.multiply(first, cosine), self.ops.multiply(second, sine)),
            self.ops.add(self.ops.multiply(second, cosine), self.ops.multiply(first, sine)),
        ]
        merged = self.ops.constant(np.array([0, 0, op.heads * 2 * half]))
        return self.ops.reshape(self.ops.concat(turned, 3), merged, True)

    def dense(self, op: Dense) -> Any:
        """A linear with what follows it."""
        result = self.ops.add(self.product(op), self.ops.constant(op.bias))
        if op.activation is Activation.GELU:
            result = self.ops.gelu(result, "erf")
        elif op.activation is Activation.GELU_TANH:
            result = self.ops.gelu(result, "tanh")
        elif op.activation is Activation.RELU:
            result = self.ops.relu(result)
        elif op.activation is Activation.TANH:
            result = self.ops.tanh(result)
        elif op.activation is Activation.SILU:
            result = self.ops.swish(result)
        return result if op.residual is None else self.ops.add(result, self.values[op.residual])

    def product(self, op: Dense) -> Any:
        """``x W^T``."""
        source = self.values[op.input]
        if self.qparams is None:
            return self.ops.matmul(source, self.ops.constant(op.weight), False, True)
        qparams = self.qparams[op.output][0]
        low = np.float32(-qparams.zero_point * qparams.scale)
        high = np.float32((255 - qparams.zero_point) * qparams.scale)
        rounded = self.ops.fake_quantize(source, low, high, low, high, 256)
        integers = self.ops.convert(self.ops.constant(op.weight_q), "f32")
        weights = self.ops.multiply(integers, self.ops.constant(op.weight_scale[:, None]))
        return self.ops.matmul(rounded, weights, False, True)

    def attention(self, op: SelfAttention) -> Any:
        """Self-attention; keys beyond the mask are left out."""
        split = self.ops.constant(np.array([0, 0, op.heads, op.head_dim]))
        order = self.ops.constant(np.array([0, 2, 1, 3]))
        heads = [
            self.ops.transpose(self.ops.reshape(self.values[value], split, True), order)
            for value in (op.query, op.key, op.value)
        ]
        allowed = self.ops.convert(self.kept, "boolean")
        added = op.added(self.shape[1])
        if added is not None:
            allowed = self.ops.select(allowed, self.ops.constant(added[None]), self.ops.constant(MASKED))
        context = self.ops.scaled_dot_product_attention(*heads, allowed)
        merged = self.ops.constant(np.array([0, 0, op.heads * op.head_dim]))
        return self.ops.reshape(self.ops.transpose(context, order), merged, True)

    def pool(self, op: Pool) -> Any:
        """The first token, or the mean over the tokens the mask keeps."""
        tokens = self.values[op.input]
        if not op.mean:
            return self.ops.gather(tokens, 0, 1)
        kept = self.ops.unsqueeze(self.ops.convert(self.mask, "f32"), np.array([2]))
        total = self.ops.reduce_sum(self.ops.multiply(tokens, kept), np.array([1]), False)
        return self.ops.divide(total, self.ops.reduce_sum(kept, np.array([1]), False))

    def result(self, op: Result) -> None:
        """Make a value an output of that name."""
        result = self.ops.result(self.values[op.input])
        result.output(0).get_tensor().set_names({op.name})
        self.results.append(result)
