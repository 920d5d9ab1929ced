"""How the x86 target's library is built (stdlib only: read by build.py before anything is installed)."""

from __future__ import annotations

from typing import Tuple

#: zig's name of the machine; the suffix is the oldest glibc that the library runs on.
TRIPLE = "x86_64-linux-gnu.2.17"
LIBRARY = "libobert_edge.x86_64-linux-gnu.so"

# PREFETCHW is a no-op on CPUs with AVX2 that lack it, so every one of them may execute it.
_AVX2 = ("-mavx2", "-mfma", "-mprfchw")
_AVX512 = (*_AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl")

#: This target's own files: (path as in generic/sources.py, compiler flags).
SOURCES: Tuple[Tuple[str, Tuple[str, ...]], ...] = (
    ("x86_avx/crc32.cpp", ("-mpclmul",)),
    ("x86_avx/peaks.cpp", ()),
    ("x86_avx/avx2.cpp", _AVX2),
    ("x86_avx/avxvnni.cpp", (*_AVX2, "-mavxvnni")),
    ("x86_avx/avx512vnni.cpp", (*_AVX512, "-mavx512vnni")),
    ("x86_avx/avx512vnni_ymm.cpp", (*_AVX512, "-mavx512vnni")),
)
