"""The page on vector headers names what a new one needs, and every file beside it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import List, Set

import obert_edge.engine
from obert_edge.targets import base

SIMD = Path(obert_edge.engine.__file__).parent / "simd"
README = (SIMD / "README.md").read_text("utf-8")
#: The headers of an implementation, each a list of files under the targets.
HEADERS: List[List[str]] = [
    ["x86_avx/vec_avx512.h"],
    ["x86_avx/vec_avx2.h"],
    ["arm_neon/vec_neon.h", "arm_neon/dot_neon.h"],
    ["arm_neon/vec_neon.h", "arm_neon/dot_by_element.h"],
]


def functions(files: List[str]) -> Set[str]:
    """The names of the functions that a vector header defines."""
    text = "\n".join((Path(base.__file__).parent / name).read_text("utf-8") for name in files)
    return set(re.findall(r"^OE_INLINE (?:constexpr )?[\w:<>& ]+ [&*]?(\w+)\(", text, re.MULTILINE))


def test_what_every_vector_header_defines_is_on_the_page() -> None:
    common = set.intersection(*map(functions, HEADERS))
    assert {"add_quad", "splat_quad", "round"} <= common
    assert sorted(common - set(re.findall(r"\w+", README))) == []


def test_every_file_is_on_the_page() -> None:
    names = {path.name for path in SIMD.iterdir() if path.suffix in {".h", ".inc"}}
    assert sorted(name for name in names if f"`{name}`" not in README) == []
