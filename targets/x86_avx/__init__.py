"""The x86 target: 64-bit Linux on any x86 CPU; the best of its instruction sets is chosen at run time."""

from __future__ import annotations

from pathlib import Path

import obert_edge.engine
from obert_edge.bundle.program import WeightFormat
from obert_edge.targets.base import FormatCost, Source, Target
from obert_edge.targets.generic.sources import COMMON_SOURCES
from obert_edge.targets.x86_avx.sources import LIBRARY, SOURCES, TRIPLE

TARGET = Target(
    name="x86",
    description="64-bit x86 Linux: AVX-512 VNNI, AVX-VNNI, AVX2 or scalar",
    triple=TRIPLE,
    library=Path(obert_edge.engine.__file__).parent / "lib" / LIBRARY,
    sources=tuple(Source(path, flags) for path, flags in (*COMMON_SOURCES, *SOURCES)),
    implementations=("avx512vnni", "avx512vnni_ymm", "avxvnni", "avx2", "scalar"),
    # Fitted by tools/bench/format_costs.py with avx512vnni on Cascade Lake at 2.5 GHz. The fit is within 2 %
    # of the measured times of Dense4, 12 to 23 % of row-gather, and 50 % of Block1x4, which passes over wide
    # inputs several times. ns_per_weight is 0 because the weights of a quad are part of ns_per_quad here.
    format_costs={
        WeightFormat.ROW_GATHER_1: FormatCost(ns_per_weight=0.0, ns_per_quad=3.63, ns_per_group=6.3),
        WeightFormat.ROW_GATHER_2: FormatCost(ns_per_weight=0.0, ns_per_quad=4.33, ns_per_group=15.5),
        WeightFormat.ROW_GATHER_4: FormatCost(ns_per_weight=0.0, ns_per_quad=5.64, ns_per_group=23.7),
        WeightFormat.DENSE_4: FormatCost(ns_per_weight=0.0, ns_per_quad=4.75, ns_per_group=13.0),
        WeightFormat.BLOCK_1X4: FormatCost(ns_per_weight=0.0, ns_per_quad=2.55, ns_per_group=11.9),
    },
    # Printed by tools/bench/target.py on the same machine, with BERT-base at 80 % 4x1 and 128 and 384 tokens.
    reference={
        "multiply_add": 307.2,
        "shuffle": 172.8,
        "float_multiply_add": 76.8,
        "read_l1": 345.5,
        "read_l2": 130.5,
        "read_memory": 10.9,
        "write_l2": 53.3,
        "row_gather_1": 76.8,
        "row_gather_2": 153.6,
        "row_gather_4": 204.8,
        "reached_Embed": 0.11,
        "reached_LayerNorm": 0.48,
        "reached_Linear": 0.79,
        "reached_Attention": 0.69,
        "reached_SelectFirst": 0.04,
        "reached_Quantize": 0.22,
    },
)
