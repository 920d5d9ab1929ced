"""The public header: its example compiles, and it names what the library has and what Python calls."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from obert_edge.device.runtime.native import Library
from obert_edge.targets import build

HEADER = build.ENGINE / "include" / "obert_edge.h"
TEXT = HEADER.read_text()
FUNCTIONS = set(re.findall(r"^OE_API [^;(]*?(oe_\w+)\(", TEXT, re.MULTILINE))


def example() -> str:
    """The program in the header's first comment."""
    lines = [line[2:] for line in TEXT[: TEXT.index("*/")].splitlines()]
    first = next(at for at, line in enumerate(lines) if "#include" in line)
    last = max(at for at, line in enumerate(lines) if line.strip() == "}")
    return "\n".join(lines[first : last + 1])


@pytest.mark.parametrize("language", [("cc", "-std=c99", "-pedantic"), ("c++", "-std=c++17")])
def test_the_example_compiles_without_a_warning(tmp_path: Path, language: tuple[str, ...]) -> None:
    command, *flags = language
    source = tmp_path / ("example.c" if command == "cc" else "example.cpp")
    source.write_text(example() + "\n")
    zig = (sys.executable, "-m", "ziglang", command, *flags, "-Wall", "-Wextra", "-Werror")
    done = subprocess.run(
        [*zig, *build.include_flags(), "-c", str(source), "-o", str(tmp_path / "example.o")],
        capture_output=True, text=True, check=False, env=build._compiler_environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_library_has_every_function(library: Library) -> None:
    missing = {name for name in FUNCTIONS if not hasattr(library._functions, name)}
    # Measuring peaks belongs to a target: a library of the scalar kernels alone is without it.
    assert missing <= {"oe_measure_peak"}


def test_python_calls_no_function_that_the_header_is_without() -> None:
    runtime = Path(build.ENGINE.parent / "device" / "runtime")
    texts = (runtime / "abi.py").read_text() + (runtime / "native.py").read_text()
    called = set(re.findall(r'\boe_[a-z0-9_]+(?="|\()', texts))
    assert called and called <= FUNCTIONS
