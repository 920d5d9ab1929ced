"""The dense model as an ONNX graph, FP32 or INT8, in the form ONNX Runtime runs fastest.

What "fastest" means here was measured: 4 layers of BERT-base, ONNX Runtime 1.31.1, x86 with AVX-512-VNNI,
one thread, lengths 32, 128 and 384, least CPU time of 15 to 40 runs, all variants in turn under
ORT_ENABLE_ALL. Times below are for length 128, times 3 for 12 layers.

* LayerNormalization after a plain Add beats com.microsoft.SkipLayerNormalization: FP32 231 against 245 ms,
  and INT8 with both that and the next point 85 to 89 against 106 to 112.
* The standard Gelu (opset 20) equals the erf form that ORT fuses; com.microsoft.BiasGelu is slower in INT8,
  and FastGelu, which is less exact, gains nothing.
* com.microsoft.Attention, MultiHeadAttention, and MatMul-Softmax-MatMul written out differ by less than 2
  %, and so do MatMul + Add and Gemm over flattened tokens. Attention merges three products into one: FP32
  uses it.
* INT8: one DynamicQuantizeLinear shared by everything that reads a value, then MatMulIntegerToFloat, equals
  DynamicQuantizeMatMul and QAttention within noise. Giving the weights a zero point, even 0, gains nothing.
* Against what onnxruntime.quantization.quantize_dynamic makes of a graph with those fused operators (92
  against 110 ms; 29 against 34 at length 32; equal at 384) it is faster and as exact: the integers are the
  bundle's own, per output channel.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List

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
from obert_edge.files import atomic_folder

MICROSOFT = "com.microsoft"
_OPSET = 20
_IR_VERSION = 10  # the oldest that opset 20 allows, so that old runtimes read it
_ACTIVATIONS = {Activation.RELU: "Relu", Activation.TANH: "Tanh", Activation.GELU: "Gelu"}


def write_onnx(model: DenseModel, folder: Path, *, int8: bool) -> Path:
    """Write the model as ``folder/model.onnx`` with its weights beside it.

    Inputs are int64 ``[batch, sequence]``: ``input_ids``, ``attention_mask``, ``token_type_ids``. Padding is
    on the right. Outputs are float32, ``[batch, channels]`` or ``[batch, sequence, channels]``.

    Args:
        model: the dense model.
        folder: replaced as a whole.
        int8: INT8 weights with dynamically quantized activations instead of FP32.

    Returns:
        The path of ``model.onnx``.
    """
    import onnx

    graph = (_Int8Graph if int8 else _FloatGraph)(model).build()
    with atomic_folder(folder, overwrite=True) as temporary:
        # Weights outside the protobuf: no 2 GB limit, and the runtime maps them instead of parsing them.
        onnx.save_model(
            graph, str(temporary / "model.onnx"), save_as_external_data=True, location="model.onnx.data"
        )
    return folder / "model.onnx"


class _FloatGraph:
    """Translates op by op; ``values`` maps the dense model's value names to ONNX names."""

    def __init__(self, model: DenseModel) -> None:
        self.model = model
        self.nodes: List[Any] = []
        self.initializers: List[Any] = []
        self.outputs: List[Any] = []
        self.values: Dict[str, str] = {}
        attentions = [op for op in model.ops if isinstance(op, SelfAttention)]
        self.rotated = {op.output for op in model.ops if isinstance(op, Rotation)}
        #: Linears that the attention op computes itself, by the value they write.
        self.writers = {op.output: op for op in model.ops if isinstance(op, Dense)}
        self.merged = {
            value for op in attentions if self.is_merged(op) for value in (op.query, op.key, op.value)
        }
        self.mask = ""
        self.made_biases: Dict[int, str] = {}  # id of the biases -> their value

    def build(self) -> Any:
        """The ModelProto."""
        from onnx import TensorProto, helper

        self.mask = self.node("Cast", ["attention_mask"], to=TensorProto.INT32)
        for op in self.model.ops:
            self.translate(op)
        inputs = [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"]) for name in INPUTS
        ]
        graph = helper.make_graph(self.nodes, "encoder", inputs, self.outputs, self.initializers)
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(
            graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="obert-edge"
        )

    def node(self, op_type: str, inputs: List[str], domain: str = "", **attributes: Any) -> str:
        """Append a node with one output; returns the output's name."""
        return self.node_with_outputs(1, op_type, inputs, domain, **attributes)[0]

    def node_with_outputs(
        self, count: int, op_type: str, inputs: List[str], domain: str = "", **attributes: Any
    ) -> List[str]:
        """Append a node; returns the names of its outputs."""
        from onnx import helper

        name = f"{op_type}_{len(self.nodes)}"
        outputs = [f"{name}:{i}" for i in range(count)]
        self.nodes.append(helper.make_node(op_type, inputs, outputs, name=name, domain=domain, **attributes))
        return outputs

    def constant(self, array: Any) -> str:
        """Append an initializer; returns its name."""
        from onnx import numpy_helper

        name = f"constant_{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def translate(self, op: DenseOp) -> None:
        """Append the nodes of one op."""
        if isinstance(op, Embedding):
            self.values[op.output] = self.embed(op)
        elif isinstance(op, Norm):
            self.values[op.output] = self.norm(op)
        elif isinstance(op, Rotation):
            self.values[op.output] = self.rotate(op)
        elif isinstance(op, Product):
            self.values[op.output] = self.node("Mul", [self.values[op.left], self.values[op.right]])
        elif isinstance(op, Dense):
            if op.output not in self.merged:
                self.values[op.output] = self.dense(op)
        elif isinstance(op, SelfAttention):
            self.values[op.output] = self.attention(op)
        elif isinstance(op, Pool):
            self.values[op.output] = self.pool(op)
        else:
            self.result(op)

    def embed(self, op: Embedding) -> str:
        """Word, position and token-type rows; position t is row ``position_offset + t``."""
        parts = [] if op.word is None else [self.rows(op.word, "input_ids")]
        if op.neighbors:
            parts = [self.neighbors(parts[0])]
        if op.position is not None:
            first = self.model.position_offset
            length = self.node("Shape", ["input_ids"], start=1)
            end = self.node("Add", [length, self.constant(np.array([first]))])
            positions = self.node(
                "Slice", [self.constant(op.position.floats), self.constant(np.array([first])), end]
            )
            parts.append(positions)
        if op.token_type is not None:
            parts.append(self.rows(op.token_type, "token_type_ids"))
        summed = parts[0]
        for part in parts[1:]:
            summed = self.node("Add", [summed, part])
        return summed

    def neighbors(self, words: str) -> str:
        """The rows of the token after, of the token and of the one before it; beyond the ends 0."""
        zero, one, two, end = (
            self.constant(np.array([value])) for value in (0, 1, 2, np.iinfo(np.int64).max)
        )
        none = self.node("Mul", [self.node("Slice", [words, zero, one, one]), self.constant(np.float32(0))])
        padded = self.node("Concat", [none, words, none], axis=1)
        after = self.node("Slice", [padded, two, end, one])
        before = self.node("Slice", [padded, zero, self.constant(np.array([-2])), one])
        return self.node("Concat", [after, words, before], axis=2)

    def rows(self, table: Table, indices: str) -> str:
        """The rows of a table, float32 [batch, sequence, channels]."""
        return self.node("Gather", [self.constant(table.floats), indices])

    def norm(self, op: Norm) -> str:
        """LayerNorm, RMS norm, or gamma and beta alone."""
        source, gamma = self.values[op.input], self.constant(op.gamma)
        if op.kind is NormKind.NONE:
            return self.node("Add", [self.node("Mul", [source, gamma]), self.constant(op.beta)])
        if op.kind is NormKind.LAYER:
            inputs = [source, gamma, self.constant(op.beta)]
            return self.node("LayerNormalization", inputs, epsilon=op.epsilon)
        # ONNX Runtime's own, without beta.
        scaled = self.node("SimplifiedLayerNormalization", [source, gamma], axis=-1, epsilon=op.epsilon)
        return scaled if not op.beta.any() else self.node("Add", [scaled, self.constant(op.beta)])

    def rotate(self, op: Rotation) -> str:
        """Rotary positions, counted from 0."""
        first = self.constant(np.array([0]))
        inputs = [self.values[op.input], first, self.constant(op.cosine), self.constant(op.sine)]
        return self.node("RotaryEmbedding", inputs, MICROSOFT)

    def dense(self, op: Dense) -> str:
        """A linear with what follows it."""
        result = self.linear(op)
        if op.activation is Activation.GELU_TANH:
            result = self.node("Gelu", [result], approximate="tanh")
        elif op.activation is Activation.SILU:
            result = self.node("QuickGelu", [result], MICROSOFT, alpha=1.0)
        elif op.activation is not Activation.NONE:
            result = self.node(_ACTIVATIONS[op.activation], [result])
        if op.residual is not None:
            result = self.node("Add", [result, self.values[op.residual]])
        return result

    def linear(self, op: Dense) -> str:
        """``x W^T + b``."""
        product = self.node("MatMul", [self.values[op.input], self.constant(op.weight.T)])
        return self.node("Add", [product, self.constant(op.bias)])

    def is_merged(self, op: SelfAttention) -> bool:
        """Whether queries, keys and values are products of one value, with nothing between."""
        if op.query in self.rotated:
            return False
        return len({self.writers[value].input for value in (op.query, op.key, op.value)}) == 1

    def attention(self, op: SelfAttention) -> str:
        """Self-attention with its three input products, where they may be merged."""
        if not self.is_merged(op):
            return self.attention_alone(op)
        linears = [self.writers[value] for value in (op.query, op.key, op.value)]
        weights = np.concatenate([linear.weight for linear in linears])
        bias = np.concatenate([linear.bias for linear in linears])
        inputs = [
            self.values[linears[0].input],
            self.constant(weights.T),
            self.constant(bias),
            self.mask,
        ]
        if op.bias is not None or op.window:
            inputs += ["", self.added(op)]
        return self.node("Attention", inputs, MICROSOFT, num_heads=op.heads)

    def attention_alone(self, op: SelfAttention) -> str:
        """Self-attention of three values."""
        inputs = [self.values[op.query], self.values[op.key], self.values[op.value], "", self.mask]
        if op.bias is not None or op.window:
            inputs.append(self.added(op))
        return self.node("MultiHeadAttention", inputs, MICROSOFT, num_heads=op.heads)

    def added(self, op: SelfAttention) -> str:
        """What is added to the scores, float32 [1, heads or 1, sequence, sequence], once for all layers."""
        key = op.window if op.bias is None else id(op.bias)
        if key not in self.made_biases:
            by_distance = op.bias
            if by_distance is None:  # one distance more than the window stands for all beyond it
                within = np.zeros(2 * op.window + 3, np.float32)
                within[[0, -1]] = MASKED
                by_distance = within[None]
            most = by_distance.shape[1] // 2
            table, bounds = self.constant(by_distance.T), [self.constant(np.array(b)) for b in (-most, most)]
            zero, one = self.constant(np.array(0)), self.constant(np.array(1))
            length = self.node("Squeeze", [self.node("Shape", ["input_ids"], start=1)])
            tokens = self.node("Range", [zero, length, one])
            queries = self.node("Unsqueeze", [tokens, self.constant(np.array([1]))])
            behind = self.node("Clip", [self.node("Sub", [tokens, queries]), *bounds])
            rows = self.node("Gather", [table, self.node("Add", [behind, bounds[1]])])
            heads_first = self.node("Transpose", [rows], perm=[2, 0, 1])
            self.made_biases[key] = self.node("Unsqueeze", [heads_first, self.constant(np.array([0]))])
        return self.made_biases[key]

    def pool(self, op: Pool) -> str:
        """The first token, or the mean over the tokens the mask keeps."""
        from onnx import TensorProto

        tokens = self.values[op.input]
        if not op.mean:
            return self.node("Gather", [tokens, self.constant(np.array(0))], axis=1)
        kept = self.node("Cast", ["attention_mask"], to=TensorProto.FLOAT)
        kept = self.node("Unsqueeze", [kept, self.constant(np.array([2]))])
        axis = self.constant(np.array([1]))
        total = self.node("ReduceSum", [self.node("Mul", [tokens, kept]), axis], keepdims=0)
        return self.node("Div", [total, self.node("ReduceSum", [kept, axis], keepdims=0)])

    def result(self, op: Result) -> None:
        """Give a value the name of a result."""
        from onnx import TensorProto, helper

        self.nodes.append(helper.make_node("Identity", [self.values[op.input]], [op.name]))
        shape: List[Any] = ["batch", "sequence", op.channels] if op.per_token else ["batch", op.channels]
        self.outputs.append(helper.make_tensor_value_info(op.name, TensorProto.FLOAT, shape))


class _Int8Graph(_FloatGraph):
    """INT8 weights; activations are quantized to U8 per tensor as they come."""

    def __init__(self, model: DenseModel) -> None:
        super().__init__(model)
        self.merged = set()
        self.quantized: Dict[str, List[str]] = {}

    def rows(self, table: Table, indices: str) -> str:
        """As in float, with the table kept in INT8."""
        from onnx import TensorProto

        rows = self.node("Gather", [self.constant(table.rows), indices])
        scale = self.node("Gather", [self.constant(table.scale[:, None]), indices])
        return self.node("Mul", [self.node("Cast", [rows], to=TensorProto.FLOAT), scale])

    def linear(self, op: Dense) -> str:
        """``x W^T + b`` on integers; the weights' zero point is left out: it is 0."""
        source = self.values[op.input]
        if source not in self.quantized:
            self.quantized[source] = self.node_with_outputs(3, "DynamicQuantizeLinear", [source])
        values, scale, zero_point = self.quantized[source]
        inputs = [
            values,
            self.constant(op.weight_q.T),
            scale,
            self.constant(op.weight_scale),
            zero_point,
            "",
            self.constant(op.bias),
        ]
        return self.node("MatMulIntegerToFloat", inputs, MICROSOFT)

    def attention(self, op: SelfAttention) -> str:
        """Self-attention in float on the three products, as ORT's own quantizer leaves it."""
        return self.attention_alone(op)
