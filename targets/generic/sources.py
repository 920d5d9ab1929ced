"""What every target's library is made of: the engine and the scalar kernels (stdlib only, read by build.py).

Paths are relative to the folder above: ``engine/...`` is ``obert_edge/engine``, the rest is in ``targets/``.
A path with a ``*`` stands for every file that matches, so a new op or a new part of the engine needs no row.
"""

from __future__ import annotations

from typing import Tuple

#: (path or pattern, extra compiler flags)
COMMON_SOURCES: Tuple[Tuple[str, Tuple[str, ...]], ...] = (
    ("engine/*.cpp", ()),
    ("engine/base/*.cpp", ()),
    ("engine/program/*.cpp", ()),
    ("engine/exec/*.cpp", ()),
    ("engine/ops/*.cpp", ()),
    ("engine/kernels/*.cpp", ()),
    ("engine/litert/*.cpp", ()),
    ("generic/*.cpp", ()),
)
