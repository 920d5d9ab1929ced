"""The arm64 target: 64-bit Linux on any ARMv8 CPU; the best of its instruction sets is chosen at run time."""

from __future__ import annotations

from pathlib import Path

import obert_edge.engine
from obert_edge.bundle.program import WeightFormat
from obert_edge.targets.arm_neon.sources import LIBRARY, SOURCES, TRIPLE
from obert_edge.targets.base import FormatCost, Source, Target
from obert_edge.targets.generic.sources import COMMON_SOURCES

TARGET = Target(
    name="arm64",
    description="64-bit ARM Linux: i8mm, dotprod or plain NEON",
    triple=TRIPLE,
    library=Path(obert_edge.engine.__file__).parent / "lib" / LIBRARY,
    sources=tuple(Source(path, flags) for path, flags in (*COMMON_SOURCES, *SOURCES)),
    implementations=("i8mm", "neondot", "neon", "scalar"),
    # The costs are modeled, not measured (docs/results/arm_throughput.md): neondot on a Cortex-A76 or
    # Neoverse N1 at 2.4 GHz, whose two vector pipes take 16 SDOT and 8 zips for a quad of 4 rows and 16
    # tokens. Only the ratios matter to the compiler.
    format_costs={
        WeightFormat.ROW_GATHER_1: FormatCost(ns_per_weight=0.83, ns_per_quad=7.1, ns_per_group=25.0),
        WeightFormat.ROW_GATHER_2: FormatCost(ns_per_weight=0.83, ns_per_quad=7.1, ns_per_group=50.0),
        WeightFormat.ROW_GATHER_4: FormatCost(ns_per_weight=0.83, ns_per_quad=7.1, ns_per_group=100.0),
        WeightFormat.DENSE_4: FormatCost(ns_per_weight=0.83, ns_per_quad=0.8, ns_per_group=100.0),
        WeightFormat.BLOCK_1X4: FormatCost(ns_per_weight=0.83, ns_per_quad=1.7, ns_per_group=25.0),
    },
)
