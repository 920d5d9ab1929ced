"""What every target's library is made of: the engine and the scalar kernels (stdlib only, read by build.py).

Paths are relative to the folder above: ``engine/...`` is ``obert_edge/engine``, the rest is in ``targets/``.
Every ``.cpp`` file of a folder belongs to the library, so a new op or a new part of the engine needs no row.
"""

from __future__ import annotations

from pathlib import Path
from typing import Tuple

_TARGETS = Path(__file__).resolve().parents[1]
#: ``engine/`` lies in ``obert_edge/`` of a checkout, and beside ``targets/`` in an installed package.
_ENGINE = next(
    path for path in (_TARGETS.parent / "obert_edge" / "engine", _TARGETS.parent / "engine") if path.is_dir()
)
_FOLDERS = {
    "engine": _ENGINE,
    **{f"engine/{name}": _ENGINE / name for name in ("base", "program", "exec", "ops", "kernels", "litert")},
    "generic": _TARGETS / "generic",
}

#: (path, extra compiler flags)
COMMON_SOURCES: Tuple[Tuple[str, Tuple[str, ...]], ...] = tuple(
    (f"{folder}/{path.name}", ())
    for folder, where in _FOLDERS.items()
    for path in sorted(where.glob("*.cpp"))
)
