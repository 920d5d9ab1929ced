"""Float graph to INT8 ops: weights and scales folded exactly as docs/numerics.md says.

Folding is done in float64 from float32 scales and rounded once.
"""

from __future__ import annotations

import math
from typing import Any, Dict, List, Optional, Tuple

import numpy as np
import numpy.typing as npt

from obert_edge.bundle import program
from obert_edge.bundle.program import Activation, Domain, DType, RowFormat
from obert_edge.bundle.rows import pack_rows
from obert_edge.host.checkpoints.scales import QuantParams, Scales
from obert_edge.host.compiler import ir
from obert_edge.host.compiler.lowered import LoweredGraph, LoweredOp, Value, as_f32
from obert_edge.host.compiler.passes.embeddings import quantize_rows_int4

Floats = npt.NDArray[np.float32]
Int8s = npt.NDArray[np.int8]

#: What a linear's input is quantized to when scales are found per token.
PER_TOKEN = "per token"
_Want = Any  # a QuantParams, or PER_TOKEN


def quantize_rows(weight: Floats, trained: Optional[np.float32] = None) -> Tuple[Int8s, Floats]:
    """Symmetric INT8 per row: ``s = max |w| / 127`` (1 for a zero row), ``q = clamp(rne(w / s), -127, 127)``.

    Args:
        weight: float32 [n, k].
        trained: the scale of all rows, in place of each row's own.

    Returns:
        ``q`` int8 [n, k], where zero weights are zero, and ``s`` float32 [n]. All in float32 steps.
    """
    largest = np.abs(weight).max(axis=1)
    scale = np.where(largest > 0, largest / np.float32(127), np.float32(1)).astype(np.float32)
    # A largest weight so small that its scale is 0 in float32 (subnormal) counts as a zero row.
    scale[scale == 0] = 1
    if trained is not None:
        scale[:] = trained
    steps = np.rint(weight / scale[:, None])
    return np.clip(steps, -127, 127, out=steps).astype(np.int8), scale


def quantize(graph: ir.Graph, scales: Scales) -> LoweredGraph:
    """Lower a fused graph.

    Args:
        graph: what ``fuse`` returned.
        scales: a qparams for every quantizer of the graph.

    Raises:
        CheckpointError: a quantizer has no scale.
    """
    return _Lowering(graph, scales).run()


class _Lowering:
    def __init__(self, graph: ir.Graph, scales: Scales) -> None:
        self.scales = scales
        self.graph = graph
        self.out = LoweredGraph(graph.max_length)
        self.wanted: Dict[str, List[_Want]] = {}  # value -> the 8-bit forms its readers want, each once
        self.float_readers: Dict[str, int] = {}
        for node in graph.nodes:
            self._note_reads(node)

    def run(self) -> LoweredGraph:
        for node in self.graph.nodes:
            lower = getattr(self, f"_lower_{type(node).__name__.lower()}")
            lower(node)
        return self.out

    # ---- who reads what

    def _input_want(self, quantizer: str) -> _Want:
        return PER_TOKEN if self.scales.dynamic else self.scales.linear_input(quantizer)

    def _note_reads(self, node: ir.Node) -> None:
        if isinstance(node, ir.Linear):
            self._want(node.input, self._input_want(node.quantizer))
            if node.residual is not None:
                self._want_float(node.residual)
        elif isinstance(node, ir.SelfAttention):
            qparams = self.scales.attention(node.name)
            for name in ("query", "key", "value"):
                self._want(getattr(node, name), qparams[name])
        else:
            for tensor in node.inputs:
                self._want_float(tensor)

    def _want(self, tensor: ir.Tensor, form: _Want) -> None:
        forms = self.wanted.setdefault(tensor.name, [])
        if form not in forms:
            forms.append(form)

    def _want_float(self, tensor: ir.Tensor) -> None:
        self.float_readers[tensor.name] = self.float_readers.get(tensor.name, 0) + 1

    # ---- values

    def _float(self, tensor: ir.Tensor) -> Value:
        return Value(tensor.name, DType.F32, tensor.domain, tensor.channels)

    def _eight_bit(self, tensor: ir.Tensor, form: _Want) -> Value:
        at = self.wanted[tensor.name].index(form)
        dtype = DType.U8 if form is PER_TOKEN else form.dtype
        return Value(f"{tensor.name}#{at}", dtype, tensor.domain, tensor.channels)

    def _params(self, tensor: ir.Tensor) -> Value:
        return Value(f"{tensor.name}#params", DType.F32, tensor.domain, 2)

    def _only_qparams(self, tensor: ir.Tensor) -> Optional[QuantParams]:
        """The qparams a producer can write at once, with no float output beside it."""
        forms = self.wanted.get(tensor.name, [])
        alone = len(forms) == 1 and tensor.name not in self.float_readers
        return forms[0] if alone and forms[0] is not PER_TOKEN else None

    def _emit(self, op_type: type[program.Op], name: str, **parts: Any) -> None:
        values = {key: part for key, part in parts.items() if isinstance(part, Value)}
        arrays = {key: part for key, part in parts.items() if isinstance(part, np.ndarray)}
        numbers = {key: part for key, part in parts.items() if isinstance(part, (int, float))}
        self.out.ops.append(LoweredOp(op_type, name, values, arrays, numbers))

    def _quantize_forms(self, tensor: ir.Tensor, already: Optional[QuantParams] = None) -> None:
        """Write every 8-bit form of a float value that its producer has not written."""
        for form in self.wanted.get(tensor.name, []):
            if form == already and form is not PER_TOKEN:
                continue
            output, source = self._eight_bit(tensor, form), self._float(tensor)
            name = f"{tensor.name}.quantize"
            if form is PER_TOKEN:
                self._emit(
                    program.QuantizeDynamic,
                    name,
                    input=source,
                    output=output,
                    params=self._params(tensor),
                    channels=tensor.channels,
                )
            else:
                self._emit(
                    program.Quantize,
                    name,
                    input=source,
                    output=output,
                    channels=tensor.channels,
                    zero_point=form.zero_point,
                    inv_scale=form.inv_scale,
                )

    # ---- one per node

    def _lower_embedding(self, node: ir.Embedding) -> None:
        parts: Dict[str, Any] = {}
        tables = {"word": node.word, "position": node.position, "token_type": node.token_type}
        for name, table in tables.items():
            if table is not None:
                parts[name], parts[f"{name}_scale"] = quantize_rows(table)
        word_format = RowFormat[self.scales.embeddings.upper()]
        if word_format is RowFormat.INT4:
            rows = quantize_rows_int4(node.word)
            parts["word"], parts["word_scale"] = pack_rows(rows.values), rows.scale
            parts["word_group_scale"] = rows.group_scale
        self._emit(
            program.Embed,
            node.name,
            output=self._float(node.output),
            **parts,
            vocabulary=len(node.word),
            positions=len(node.position),
            token_types=0 if node.token_type is None else len(node.token_type),
            channels=node.output.channels,
            word_format=int(word_format),
        )
        self._quantize_forms(node.output)

    def _lower_layernorm(self, node: ir.LayerNorm) -> None:
        forms = self.wanted.get(node.output.name, [])
        qparams: Optional[QuantParams] = next((form for form in forms if form is not PER_TOKEN), None)
        parts: Dict[str, Any] = {"zero_point": 0, "inv_scale": 1.0}
        if qparams is not None:
            parts = {
                "quantized": self._eight_bit(node.output, qparams),
                "zero_point": qparams.zero_point,
                "inv_scale": qparams.inv_scale,
            }
        if self._only_qparams(node.output) is None:
            parts["output"] = self._float(node.output)
        self._emit(
            program.LayerNorm,
            node.name,
            input=self._float(node.input),
            gamma=node.gamma,
            beta=node.beta,
            channels=node.output.channels,
            epsilon=as_f32(node.epsilon),
            **parts,
        )
        self._quantize_forms(node.output, qparams)

    def _lower_linear(self, node: ir.Linear) -> None:
        form = self._input_want(node.quantizer)
        matrix, weight_scale = quantize_rows(node.weight, self.scales.weight(node.quantizer))
        sums = matrix.sum(axis=1, dtype=np.int64)
        wide_scale = weight_scale.astype(np.float64)
        parts: Dict[str, Any] = {}
        if form is PER_TOKEN:
            parts["params"] = self._params(node.input)
        else:
            wide_scale *= np.float64(form.scale)
            sums *= -form.zero_point
        if node.residual is not None:
            parts["residual"] = self._float(node.residual)
        bias = node.bias.astype(np.float64)
        out = self._only_qparams(node.output)
        inv_scale, zero_point, (lo, hi) = 1.0, 0, (0, 0)
        if out is None:
            parts["output"] = self._float(node.output)
        else:
            parts["output"] = self._eight_bit(node.output, out)
            zero_point, (lo, hi) = out.zero_point, out.limits
            if node.activation is Activation.NONE and node.residual is None:
                wide_scale, bias = wide_scale / np.float64(out.scale), bias / np.float64(out.scale)
            else:
                inv_scale = out.inv_scale
        self._emit(
            program.Linear,
            node.name,
            input=self._eight_bit(node.input, form),
            matrix=matrix,
            scale=wide_scale.astype(np.float32),
            bias=bias.astype(np.float32),
            correction=sums.astype(np.int32),
            k=matrix.shape[1],
            n=matrix.shape[0],
            activation=int(node.activation),
            zero_point=zero_point,
            lo=lo,
            hi=hi,
            inv_scale=inv_scale,
            **parts,
        )
        if out is None:
            self._quantize_forms(node.output)

    def _lower_selfattention(self, node: ir.SelfAttention) -> None:
        qparams = self.scales.attention(node.name)
        head_dim = node.output.channels // node.heads
        product = float(qparams["query"].scale) * float(qparams["key"].scale)
        out = self._only_qparams(node.output)
        context_scale = float(qparams["value"].scale) * (1.0 if out is None else out.inv_scale)
        self._emit(
            program.Attention,
            node.name,
            query=self._eight_bit(node.query, qparams["query"]),
            key=self._eight_bit(node.key, qparams["key"]),
            value=self._eight_bit(node.value, qparams["value"]),
            output=self._float(node.output) if out is None else self._eight_bit(node.output, out),
            heads=node.heads,
            head_dim=head_dim,
            query_zero_point=qparams["query"].zero_point,
            zero_point=0 if out is None else out.zero_point,
            score_scale=as_f32(product / math.sqrt(head_dim) * math.log2(math.e)),
            context_scale=as_f32(context_scale),
        )
        if out is None:
            self._quantize_forms(node.output)

    def _lower_selectfirst(self, node: ir.SelectFirst) -> None:
        self._pool(program.SelectFirst, node)

    def _lower_meanpool(self, node: ir.MeanPool) -> None:
        self._pool(program.MeanPool, node)

    def _pool(self, op_type: type[program.Op], node: ir.SelectFirst | ir.MeanPool) -> None:
        assert node.output.domain is Domain.SEQUENCES
        self._emit(
            op_type,
            node.name,
            input=self._float(node.input),
            output=self._float(node.output),
            channels=node.output.channels,
        )
        self._quantize_forms(node.output)

    def _lower_result(self, node: ir.Result) -> None:
        self._emit(program.Output, node.name, input=self._float(node.input), channels=node.input.channels)
