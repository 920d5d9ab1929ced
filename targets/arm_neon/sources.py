"""How the arm64 target's library is built (stdlib only: read by build.py before anything is installed)."""

from __future__ import annotations

from typing import Tuple

#: Every 64-bit ARM Linux with glibc 2.17 or newer: zig compiles for ARMv8.0 without extensions by default.
TRIPLE = "aarch64-linux-gnu.2.17"
LIBRARY = "libobert_edge.aarch64-linux-gnu.so"
#: For every file: plain ARMv8.0 atomics. The default calls functions of libgcc that choose LSE at run time.
FLAGS: Tuple[str, ...] = ("-mno-outline-atomics",)

#: This target's own files: (path as in generic/sources.py, compiler flags).
SOURCES: Tuple[Tuple[str, Tuple[str, ...]], ...] = (
    ("arm_neon/crc32.cpp", ("-mcpu=generic+crc",)),
    ("arm_neon/neon.cpp", ()),
    ("arm_neon/neondot.cpp", ("-mcpu=generic+dotprod",)),
    ("arm_neon/i8mm.cpp", ("-mcpu=generic+v8_2a+dotprod+i8mm",)),
)
