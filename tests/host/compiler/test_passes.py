"""Each pass keeps what the graph computes and does its one thing."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Dict, List

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from obert_edge.bundle import program
from obert_edge.bundle.packing import unpack_op
from obert_edge.bundle.program import Activation, Domain, DType, WeightFormat
from obert_edge.errors import CheckpointError
from obert_edge.host.checkpoints.checkpoint import Checkpoint
from obert_edge.host.checkpoints.model_config import read_config
from obert_edge.host.checkpoints.scales import Scales
from obert_edge.host.compiler import ir
from obert_edge.host.compiler.importer import import_graph
from obert_edge.host.compiler.lowered import LoweredGraph, LoweredOp
from obert_edge.host.compiler.passes.first_token import select_first_early
from obert_edge.host.compiler.passes.fuse import fuse
from obert_edge.host.compiler.passes.pack import choose_format, pack
from obert_edge.host.compiler.passes.plan import assign_slots, plan
from obert_edge.host.compiler.passes.quantize import quantize
from obert_edge.host.compiler.quantized_rows import quantize_rows
from obert_edge.host.compiler.values import Value
from obert_edge.targets import FormatCost, get_target
from tests.host.compiler.float_reference import evaluate
from tests.host.compiler.models import save_model
from tests.host.compiler.naive_ranges import naive_ranges

IDS = [5, 17, 99, 3, 42]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> ir.Graph:
    return imported(tmp_path_factory.mktemp("model"), "sequence-classification")


def imported(folder: Path, task: str) -> ir.Graph:
    save_model(folder, "bert", task, layers=2)
    checkpoint = Checkpoint.open(folder)
    return import_graph(checkpoint, read_config(checkpoint))


def results(graph: ir.Graph) -> Dict[str, np.ndarray]:
    return evaluate(graph, IDS, [0] * len(IDS))


# ---- fuse


def test_fusing_leaves_no_elementwise_node_and_the_same_results(classifier: ir.Graph) -> None:
    fused = fuse(classifier)
    assert not [node for node in fused.nodes if isinstance(node, (ir.Activate, ir.Add))]
    linears = [node for node in fused.nodes if isinstance(node, ir.Linear)]
    assert [node.activation for node in linears[4:6]] == [Activation.GELU, Activation.NONE]
    assert [node.residual is not None for node in linears[:6]] == [False, False, False, True, False, True]
    np.testing.assert_allclose(results(fused)["logits"], results(classifier)["logits"], atol=1e-12)


def test_an_activation_without_a_linear_cannot_be_fused() -> None:
    a, b = ir.Tensor("a", 4), ir.Tensor("b", 4)
    table = np.ones((2, 4), np.float32)
    embedding = ir.Embedding("e", a, table, table, None)
    nodes: List[ir.Node] = [embedding, ir.Activate("act", a, b, Activation.GELU)]
    with pytest.raises(CheckpointError, match="'act' alone"):
        fuse(ir.Graph(8, nodes=nodes))


# ---- select_first_early


def test_a_classifier_computes_its_last_layer_for_first_tokens_only(classifier: ir.Graph) -> None:
    fused = fuse(classifier)
    early = select_first_early(fused)
    np.testing.assert_allclose(results(early)["logits"], results(fused)["logits"], atol=1e-12)
    once = [node.name for node in early.nodes if isinstance(node, ir.Linear) and node.output.domain]
    prefix = "bert.encoder.layer.1"
    parts = ["attention.output.dense", "intermediate.dense", "output.dense"]
    assert once == [*(f"{prefix}.{part}" for part in parts), "bert.pooler.dense", "classifier"]


@pytest.mark.parametrize("task", ["token-classification", "question-answering", "encoder"])
def test_models_that_read_every_token_are_left_alone(tmp_path: Path, task: str) -> None:
    fused = fuse(imported(tmp_path, task))
    assert select_first_early(fused).nodes == fused.nodes


# ---- quantize


@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-30, 1e-3, 1.0, 1e6]))
def test_rows_are_quantized_symmetrically_and_zeros_stay_zero(seed: int, size: float) -> None:
    generator = np.random.default_rng(seed)
    weight = (generator.normal(0, size, (5, 16)) * (generator.random((5, 16)) < 0.5)).astype(np.float32)
    weight[0] = 0
    q, scale = quantize_rows(weight)
    assert scale[0] == 1 and q.dtype == np.int8 and scale.dtype == np.float32
    assert ((weight == 0) <= (q == 0)).all() and q.min() >= -127
    for row in range(1, 5):
        if weight[row].any():
            assert abs(q[row]).max() == 127
            assert scale[row] == abs(weight[row]).max() / np.float32(127)
    assert (abs(q * scale[:, None] - weight) <= 0.5001 * scale[:, None]).all()


def linear_graph(scales: Dict[str, object], activations: str = "static", **linear: object) -> LoweredOp:
    """Lower ``embedding -> a -> b -> result`` and return op ``a``, whose output ``b`` reads."""
    generator = np.random.default_rng(0)
    x, y, z = ir.Tensor("x", 4), ir.Tensor("y", 3), ir.Tensor("z", 2)
    table = generator.normal(size=(5, 4)).astype(np.float32)
    weight = generator.normal(size=(3, 4)).astype(np.float32)
    bias = generator.normal(size=3).astype(np.float32)
    nodes: List[ir.Node] = [
        ir.Embedding("e", x, table, table, None),
        ir.Linear("a", "a", x, y, weight, bias, **linear),  # type: ignore[arg-type]
        ir.Linear("b", "b", y, z, np.ones((2, 3), np.float32), np.zeros(2, np.float32)),
        ir.Result("r", z),
    ]
    content = {"format": 1, "method": "x", "activations": activations, "sites": scales}
    lowered = quantize(ir.Graph(8, nodes=nodes), Scales.from_mapping(content, ""))
    return next(op for op in lowered.ops if op.name == "a")


QUANTIZERS = {"a:input": {"scale": 0.1, "zero_point": 100}, "b:input": {"scale": 0.3, "zero_point": 7}}


def test_a_plain_linear_folds_its_output_scale_in_float64() -> None:
    op = linear_graph(QUANTIZERS)
    weight = np.random.default_rng(0)
    weight.normal(size=(5, 4))
    q, s_w = quantize_rows(weight.normal(size=(3, 4)).astype(np.float32))
    bias = weight.normal(size=3).astype(np.float32)
    s_x, s_y = (np.float64(np.float32(value)) for value in (0.1, 0.3))
    np.testing.assert_array_equal(op.arrays["scale"], (s_x * s_w.astype(np.float64) / s_y).astype(np.float32))
    np.testing.assert_array_equal(op.arrays["bias"], (bias.astype(np.float64) / s_y).astype(np.float32))
    np.testing.assert_array_equal(op.arrays["correction"], -100 * q.sum(axis=1, dtype=np.int32))
    assert op.values["output"].dtype is DType.U8
    assert [op.numbers[name] for name in ("inv_scale", "zero_point", "lo", "hi")] == [1.0, 7, 0, 255]


def test_an_activation_keeps_the_output_scale_out_of_the_weights() -> None:
    op = linear_graph(QUANTIZERS, activation=Activation.GELU)
    _, s_w = quantize_rows(np.asarray(op.arrays["matrix"], np.float32))
    assert op.numbers["inv_scale"] == float(np.float32(1) / np.float32(0.3))
    folded = linear_graph(QUANTIZERS)
    ratio = op.arrays["scale"].astype(np.float64) / folded.arrays["scale"]
    np.testing.assert_allclose(ratio, np.float32(0.3), rtol=1e-6)


def test_a_dynamic_linear_reads_its_scale_per_token_and_writes_float() -> None:
    op = linear_graph({}, "dynamic")
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
    quantizers = {name: np.float32(quantizer["scale"]) for name, quantizer in ranges["sites"].items()}
    quantizer = {part: quantizers[f"{op.name}:{part}"] for part in ("query", "key", "value")}
    inv = np.float32(1) / quantizers[f"{op.name[:-5]}.output.dense:input"]
    score = float(quantizer["query"]) * float(quantizer["key"]) / math.sqrt(16) * math.log2(math.e)
    assert op.numbers["score_scale"] == float(np.float32(score))
    assert op.numbers["context_scale"] == float(quantizer["value"] * inv)
    assert op.values["output"].dtype is DType.U8


def test_readers_with_equal_scales_share_one_quantized_value(classifier: ir.Graph) -> None:
    fused = fuse(classifier)
    ranges = naive_ranges(fused, [IDS])
    norm = "bert.embeddings.LayerNorm"
    count = lambda: [  # noqa: E731
        op.name
        for op in quantize(fused, Scales.from_mapping(ranges, "bert.")).ops
        if op.op_type is program.Quantize and op.name.startswith(norm)
    ]
    assert count() == []  # the LayerNorm writes the one form that query, key and value read
    ranges["sites"]["bert.encoder.layer.0.attention.self.key:input"] = {"scale": 0.5, "zero_point": 3}
    assert count() == [f"{norm}.quantize"]


# ---- pack


def test_the_cheapest_format_is_chosen() -> None:
    costs = {weight_format: FormatCost(0.1, 1.0, 0.0) for weight_format in WeightFormat}
    for without_gather in (WeightFormat.DENSE_4, WeightFormat.BLOCK_1X4):
        costs[without_gather] = FormatCost(0.1, 0.9, 0.0)
    generator = np.random.default_rng(0)

    def pattern(rows: int, columns: int, density: float) -> np.ndarray:
        mask = generator.random((256 // rows, 256 // columns)) < density
        return np.kron(mask, np.ones((rows, columns))).astype(np.int8)

    assert choose_format(pattern(4, 1, 0.1), costs).format is WeightFormat.ROW_GATHER_4
    assert choose_format(pattern(2, 1, 0.1), costs).format is WeightFormat.ROW_GATHER_2
    assert choose_format(pattern(1, 1, 0.1), costs).format is WeightFormat.ROW_GATHER_1
    assert choose_format(pattern(1, 4, 0.1), costs).format is WeightFormat.BLOCK_1X4
    assert choose_format(pattern(4, 1, 1.0), costs).format is WeightFormat.DENSE_4


def test_only_formats_the_target_has_are_chosen() -> None:
    only = {WeightFormat.ROW_GATHER_1: FormatCost(1, 1, 1)}
    assert choose_format(np.ones((4, 4), np.int8), only).format is WeightFormat.ROW_GATHER_1
    with pytest.raises(CheckpointError, match="too wide"):
        choose_format(np.ones((4, 6), np.int8), {WeightFormat.DENSE_4: FormatCost(1, 1, 1)})


# ---- plan


def packed(graph: ir.Graph, activations: str = "static") -> tuple[LoweredGraph, list]:
    fused = select_first_early(fuse(graph))
    scales = Scales.from_mapping(naive_ranges(fused, [IDS], activations), "bert.")
    return pack(quantize(fused, scales), get_target("x86").format_costs)


@pytest.mark.parametrize("activations", ["static", "dynamic"])
@pytest.mark.parametrize("task", ["sequence-classification", "encoder", "masked-lm"])
def test_values_that_live_together_never_share_a_slot(tmp_path: Path, task: str, activations: str) -> None:
    lowered, _ = packed(imported(tmp_path, task), activations)
    slots = assign_slots(lowered)
    holds: Dict[int, Value] = {}
    for op in lowered.ops:
        for value in op.reads:
            assert holds[slots[value]] == value
        written = {slots[value] for value in op.writes}
        in_place = {slots[value] for value in op.reads} & written
        assert len(written) == len(op.writes)
        assert not in_place or op.op_type in (program.LayerNorm, program.Linear)
        holds.update({slots[value]: value for value in op.writes})
    # Deeper models take no more memory: only a handful of values live at a time.
    assert 1 + max(slots.values()) <= 6


def test_a_program_holds_every_weight_and_aligned_constants(classifier: ir.Graph) -> None:
    lowered, facts = packed(classifier)
    compiled, blob = plan(lowered)
    assert all(const.offset % 64 == 0 for const in compiled.consts)
    assert program.Program.from_bytes(compiled.to_bytes()) == compiled
    matrices = {
        node.name: quantize_rows(node.weight)[0] for node in classifier.nodes if isinstance(node, ir.Linear)
    }
    linears = [op for op in compiled.ops if isinstance(op, program.Linear)]
    assert [op.name for op in linears] == [about.name for about in facts]
    for op, about in zip(linears, facts):
        np.testing.assert_array_equal(unpack_op(compiled, op, memoryview(blob)), matrices[op.name])
        assert about.sparsity == np.mean(matrices[op.name] == 0)
        assert 0 < about.cost <= about.dense_cost * 1.01
