"""How the armhf target's library is built (stdlib only: read by build.py before anything is installed)."""

from __future__ import annotations

from typing import Tuple

#: 32-bit Raspberry Pi OS and Debian armhf, from glibc 2.28 on.
TRIPLE = "arm-linux-gnueabihf.2.28"
#: The suffix is the pattern of `device/runtime/library.py`: the architecture as Python says it.
LIBRARY = "libobert_edge.armv7l-linux-gnu.so"
#: For every file: ARMv7-A with NEON and VFPv4 (Raspberry Pi 2 and newer). VFPv4 has the fused multiply-add
#: that docs/reference/numerics.md asks for; without it each would be a call of fmaf.
FLAGS: Tuple[str, ...] = ("-mcpu=cortex_a7",)

#: This target's own files: (path as in generic/sources.py, compiler flags).
SOURCES: Tuple[Tuple[str, Tuple[str, ...]], ...] = (("armhf/neon.cpp", ()), ("armhf/attention.cpp", ()))
