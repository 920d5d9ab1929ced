"""The armhf target: 32-bit ARM Linux (Raspberry Pi OS) on ARMv7 with NEON, Raspberry Pi 2 and newer."""

from __future__ import annotations

from pathlib import Path

import obert_edge.engine
from obert_edge.bundle.program import WeightFormat
from obert_edge.targets.armhf.sources import LIBRARY, SOURCES, TRIPLE
from obert_edge.targets.base import FormatCost, Source, Target
from obert_edge.targets.generic.sources import COMMON_SOURCES

TARGET = Target(
    name="armhf",
    description="32-bit ARM Linux: ARMv7 with NEON and VFPv4",
    triple=TRIPLE,
    library=Path(obert_edge.engine.__file__).parent / "lib" / LIBRARY,
    sources=tuple(Source(path, flags) for path, flags in (*COMMON_SOURCES, *SOURCES)),
    implementations=("neon", "scalar"),
    # The fields hold instructions for a panel, counted, and not nanoseconds: only the ratios matter to the
    # compiler. The 64 tokens of a panel are 8 vectors, each with 2 VMLAL per weight and 25 other instructions
    # per quad (18 for Dense4, which reads no list of columns).
    format_costs={
        weight_format: FormatCost(
            ns_per_weight=16.0,
            ns_per_quad=144.0 if weight_format is WeightFormat.DENSE_4 else 200.0,
            ns_per_group=64.0,
        )
        for weight_format in (
            WeightFormat.ROW_GATHER_1,
            WeightFormat.ROW_GATHER_2,
            WeightFormat.ROW_GATHER_4,
            WeightFormat.DENSE_4,
            WeightFormat.BLOCK_1X4,
        )
    },
)
