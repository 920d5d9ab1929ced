"""The rpi target: 64-bit Raspberry Pi OS on a Zero 2 W, 3, 4 or 5.

The engine is the arm64 target's: one library for all boards, which chooses its kernels by the core it finds.
"""

from __future__ import annotations

import dataclasses

from obert_edge.targets.arm_neon import TARGET as ARM64
from obert_edge.targets.raspberry_pi.boards import BOARDS, outlook

TARGET = dataclasses.replace(
    ARM64,
    name="rpi",
    description="Raspberry Pi Zero 2 W, 3, 4 and 5 with a 64-bit system: the arm64 engine",
    boards=tuple(board.facts for board in BOARDS),
    outlook=outlook,
)
