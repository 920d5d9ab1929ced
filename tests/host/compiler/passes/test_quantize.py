"""A value is quantized once for every form its readers want."""

from __future__ import annotations

from typing import List

from obert_edge.bundle import program
from obert_edge.host.checkpoints.scales import Scales
from obert_edge.host.compiler import ir
from obert_edge.host.compiler.passes.fuse import fuse
from obert_edge.host.compiler.passes.quantize import quantize
from tests.host.compiler.graphs import IDS
from tests.host.compiler.naive_ranges import naive_ranges


def test_readers_with_equal_scales_share_one_quantized_value(classifier: ir.Graph) -> None:
    fused = fuse(classifier)
    ranges = naive_ranges(fused, [IDS])
    norm = "bert.embeddings.LayerNorm"

    def quantizations_of_the_norm() -> List[str]:
        lowered = quantize(fused, Scales.from_mapping(ranges, "bert."))
        names = [op.name for op in lowered.ops if op.op_type is program.Quantize]
        return [name for name in names if name.startswith(norm)]

    assert quantizations_of_the_norm() == []  # it writes the one form that query, key and value read
    ranges["sites"]["bert.encoder.layer.0.attention.self.key:input"] = {"scale": 0.5, "zero_point": 3}
    assert quantizations_of_the_norm() == [f"{norm}.quantize"]
