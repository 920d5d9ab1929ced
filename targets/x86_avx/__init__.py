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
    # A quad of R rows takes 1.15 + 0.34 R ns on AVX-512-VNNI: a fit to measured row-gather throughputs of
    # 168, 290 and 401 GMAC/s for R = 1, 2, 4. Only ratios matter to the packer.
    format_costs={
        WeightFormat.ROW_GATHER_1: FormatCost(ns_per_weight=0.085, ns_per_quad=1.15, ns_per_group=10.0),
        WeightFormat.ROW_GATHER_2: FormatCost(ns_per_weight=0.085, ns_per_quad=1.15, ns_per_group=14.0),
        WeightFormat.ROW_GATHER_4: FormatCost(ns_per_weight=0.085, ns_per_quad=1.15, ns_per_group=22.0),
        WeightFormat.DENSE_4: FormatCost(ns_per_weight=0.085, ns_per_quad=1.05, ns_per_group=22.0),
        WeightFormat.BLOCK_1X4: FormatCost(ns_per_weight=0.085, ns_per_quad=1.1, ns_per_group=10.0),
    },
)
