"""What a node is lowered to: scales and biases folded as docs/reference/numerics.md says."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Dict, List

import numpy as np

from obert_edge.bundle import program
from obert_edge.bundle.program import Activation, Domain, DType
from obert_edge.host.checkpoints.scales import Scales
from obert_edge.host.compiler import ir
from obert_edge.host.compiler.lowered import LoweredOp
from obert_edge.host.compiler.lowering import Lowering
from obert_edge.host.compiler.passes.first_token import select_first_early
from obert_edge.host.compiler.passes.fuse import fuse
from obert_edge.host.compiler.passes.pack import pack
from obert_edge.host.compiler.passes.plan import plan
from obert_edge.host.compiler.passes.quantize import quantize
from obert_edge.host.compiler.quantized_rows import quantize_rows
from obert_edge.host.compiler.values import Value
from obert_edge.targets import get_target
from tests.host.compiler.graphs import IDS
from tests.host.compiler.naive_ranges import naive_ranges

#: Of the linear ``a`` that the tests lower.
WEIGHT = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
BIAS = np.random.default_rng(1).normal(size=3).astype(np.float32)
QUANTIZERS = {"a:input": {"scale": 0.1, "zero_point": 100}, "b:input": {"scale": 0.3, "zero_point": 7}}


def lowered_linear(scales: Dict[str, object], activations: str = "static", **linear: object) -> LoweredOp:
    """Lower ``embedding -> a -> b -> result`` and return op ``a``, whose output ``b`` reads."""
    x, y, z = ir.Tensor("x", 4), ir.Tensor("y", 3), ir.Tensor("z", 2)
    table = np.ones((5, 4), np.float32)
    nodes: List[ir.Node] = [
        ir.Embedding("e", x, table, table, None),
        ir.Linear("a", "a", x, y, WEIGHT, BIAS, **linear),  # type: ignore[arg-type]
        ir.Linear("b", "b", y, z, np.ones((2, 3), np.float32), np.zeros(2, np.float32)),
        ir.Result("r", z),
    ]
    content = {"format": 1, "method": "x", "activations": activations, "sites": scales}
    lowered = quantize(ir.Graph(8, nodes=nodes), Scales.from_mapping(content, ""))
    return next(op for op in lowered.ops if op.name == "a")


def test_a_plain_linear_folds_its_output_scale_in_float64() -> None:
    op = lowered_linear(QUANTIZERS)
    q, s_w = quantize_rows(WEIGHT)
    s_x, s_y = (np.float64(np.float32(value)) for value in (0.1, 0.3))
    np.testing.assert_array_equal(op.arrays["scale"], (s_x * s_w.astype(np.float64) / s_y).astype(np.float32))
    np.testing.assert_array_equal(op.arrays["bias"], (BIAS.astype(np.float64) / s_y).astype(np.float32))
    np.testing.assert_array_equal(op.arrays["correction"], -100 * q.sum(axis=1, dtype=np.int32))
    assert op.values["output"].dtype is DType.U8
    assert [op.numbers[name] for name in ("inv_scale", "zero_point", "lo", "hi")] == [1.0, 7, 0, 255]


def test_an_activation_keeps_the_output_scale_out_of_the_weights() -> None:
    op = lowered_linear(QUANTIZERS, activation=Activation.GELU)
    _, s_w = quantize_rows(np.asarray(op.arrays["matrix"], np.float32))
    assert op.numbers["inv_scale"] == float(np.float32(1) / np.float32(0.3))
    folded = lowered_linear(QUANTIZERS)
    ratio = op.arrays["scale"].astype(np.float64) / folded.arrays["scale"]
    np.testing.assert_allclose(ratio, np.float32(0.3), rtol=1e-6)


def test_a_dynamic_linear_reads_its_scale_per_token_and_writes_float() -> None:
    op = lowered_linear({}, "dynamic")
    q = op.arrays["matrix"]
    np.testing.assert_array_equal(op.arrays["correction"], q.sum(axis=1, dtype=np.int32))
    assert op.values["params"] == Value("x#params", DType.F32, Domain.TOKENS, 2)
    assert op.values["output"].dtype is DType.F32
    assert op.numbers["inv_scale"] == 1.0


def test_attention_scales_are_folded_as_documented(classifier: ir.Graph) -> None:
    fused = fuse(classifier)
    ranges = naive_ranges(fused, [IDS])
    lowered = quantize(fused, Scales.from_mapping(ranges, "bert."))
    op = next(op for op in lowered.ops if op.op_type is program.Attention)
    scales = {name: np.float32(params["scale"]) for name, params in ranges["sites"].items()}
    query, key, value = (scales[f"{op.name}:{operand}"] for operand in ("query", "key", "value"))
    inverse_output = np.float32(1) / scales[f"{op.name.removesuffix('.self')}.output.dense:input"]
    score = float(query) * float(key) / math.sqrt(16) * math.log2(math.e)
    assert op.numbers["score_scale"] == float(np.float32(score))
    assert op.numbers["context_scale"] == float(value * inverse_output)
    assert op.values["output"].dtype is DType.U8


@dataclass(frozen=True)
class LastHiddenMean(ir.Node):
    """A kind of node that the compiler has never heard of; it becomes an op that there is."""

    input: ir.Tensor
    output: ir.Tensor

    def lower(self, lowering: Lowering) -> None:
        values = {"input": lowering.as_float(self.input), "output": lowering.as_float(self.output)}
        lowering.emit(program.MeanPool, self.name, **values, channels=self.output.channels)
        lowering.quantize(self.output)


def test_a_new_kind_of_node_needs_its_class_and_nothing_else_in_the_compiler() -> None:
    table = np.ones((5, 4), np.float32)
    tokens, mean, logits = ir.Tensor("x", 4), ir.Tensor("m", 4, Domain.SEQUENCES), ir.Tensor("y", 2)
    nodes: List[ir.Node] = [
        ir.Embedding("e", tokens, table, table, None),
        LastHiddenMean("mean", tokens, mean),
        ir.Linear("a", "a", mean, logits, np.ones((2, 4), np.float32), np.zeros(2, np.float32)),
        ir.Result("r", logits),
    ]
    content = {"format": 1, "method": "x", "activations": "static", "sites": QUANTIZERS}
    graph = select_first_early(fuse(ir.Graph(8, nodes=nodes)))
    packed, _ = pack(quantize(graph, Scales.from_mapping(content, "")), get_target("x86").format_costs)
    compiled, _ = plan(packed)
    kinds = [program.Embed, program.MeanPool, program.Quantize, program.Linear, program.Output]
    assert [type(op) for op in compiled.ops] == kinds
