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
    description="64-bit x86 Linux: AVX-512 VNNI, AVX-VNNI, AVX2 or plain",
    triple=TRIPLE,
    library=Path(obert_edge.engine.__file__).parent / "lib" / LIBRARY,
    sources=tuple(Source(path, flags) for path, flags in (*COMMON_SOURCES, *SOURCES)),
    implementations=("avx512vnni", "avx512vnni_ymm", "avxvnni", "avx2", "scalar"),
    # Least-squares fit to avx512vnni on Cascade Lake at 2.4 GHz: 64 tokens, BERT-base and MiniLM shapes,
    # 50 to 95 % sparse, weights from L3 as in a whole model; what an epilogue costs in any format is left
    # out. Row-gather and dense within 10 %, 1x4 within 26 %. Quads of a format all hold as many weights,
    # so these are in ns_per_quad.
    format_costs={
        WeightFormat.ROW_GATHER_1: FormatCost(ns_per_weight=0.0, ns_per_quad=3.18, ns_per_group=13.8),
        WeightFormat.ROW_GATHER_2: FormatCost(ns_per_weight=0.0, ns_per_quad=3.77, ns_per_group=26.7),
        WeightFormat.ROW_GATHER_4: FormatCost(ns_per_weight=0.0, ns_per_quad=4.91, ns_per_group=57.9),
        WeightFormat.DENSE_4: FormatCost(ns_per_weight=0.0, ns_per_quad=4.18, ns_per_group=38.6),
        WeightFormat.BLOCK_1X4: FormatCost(ns_per_weight=0.0, ns_per_quad=2.17, ns_per_group=23.4),
    },
    # tools/bench_target.py on the same machine, BERT-base 80 % 4x1 at 128 and 384 tokens.
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
