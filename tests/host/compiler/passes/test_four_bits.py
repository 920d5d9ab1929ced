"""Four bits are put into a packed graph as if it had been compiled with them."""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, Tuple

from obert_edge.host.checkpoints.scales import Scales
from obert_edge.host.compiler import ir
from obert_edge.host.compiler.passes.four_bits import four_bit_words
from obert_edge.host.compiler.passes.fuse import fuse
from obert_edge.host.compiler.passes.pack import pack
from obert_edge.host.compiler.passes.plan import plan
from obert_edge.host.compiler.passes.quantize import quantize
from obert_edge.targets import get_target


def test_the_program_is_the_one_compiled_with_four_bits(
    classifier: ir.Graph, saved: Tuple[Any, Dict[str, Any], Any]
) -> None:
    graph = fuse(classifier)
    scales = Scales.from_mapping(saved[1], "bert.")
    costs = get_target("x86").format_costs
    packed, _ = pack(quantize(graph, scales), costs)
    compiled, _ = pack(quantize(graph, dataclasses.replace(scales, embeddings="int4")), costs)
    program, weights = plan(four_bit_words(graph, packed))
    expected, expected_weights = plan(compiled)
    assert program.to_bytes() == expected.to_bytes()
    assert weights == expected_weights
    assert len(weights) < len(plan(packed)[1])
