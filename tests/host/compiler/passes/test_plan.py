"""Values and constants get places in memory that are theirs as long as they live."""

from __future__ import annotations

from pathlib import Path
from typing import Dict

import numpy as np
import pytest

from obert_edge.bundle import program
from obert_edge.bundle.packing import unpack_op
from obert_edge.host.compiler import ir
from obert_edge.host.compiler.passes.plan import assign_slots, plan
from obert_edge.host.compiler.quantized_rows import quantize_rows
from obert_edge.host.compiler.values import Value
from tests.host.compiler.graphs import imported_graph, packed_graph


@pytest.mark.parametrize("activations", ["static", "dynamic"])
@pytest.mark.parametrize("task", ["sequence-classification", "encoder", "masked-lm"])
def test_values_that_live_together_never_share_a_slot(tmp_path: Path, task: str, activations: str) -> None:
    lowered, _ = packed_graph(imported_graph(tmp_path, task), activations)
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


def test_layers_that_share_weights_share_constants(tmp_path: Path) -> None:
    sizes = []
    for layers in (2, 6):
        graph = imported_graph(tmp_path / str(layers), "encoder", architecture="albert", layers=layers)
        compiled, blob = plan(packed_graph(graph)[0])
        linears = [op for op in compiled.ops if isinstance(op, program.Linear)]
        assert len(linears) == 1 + 6 * layers
        assert len({op.weights for op in linears}) == 1 + 6
        sizes.append(len(blob))
    # Only what takes less than a shared constant is there for every layer, in 64 bytes or multiples of them.
    assert sizes[1] - sizes[0] < 4 * 6 * 256
    assert min(sizes) > 40_000


def test_a_program_holds_every_weight_and_aligned_constants(classifier: ir.Graph) -> None:
    lowered, facts = packed_graph(classifier)
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
