"""What lends this CPU AVX-VNNI executes the instructions as they are defined, and nothing else.

What the engine then runs with them is compared in :mod:`tests.kernels.test_emulated`, kernel by kernel, and
here as whole bundles.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Dict, Tuple

import pytest

from obert_edge.bundle import Bundle
from obert_edge.bundle.program import Linear, WeightFormat
from obert_edge.device.runtime.native import Library
from tests.kernels import avxvnni_forms
from tests.kernels.emulation import compiled
from tests.kernels.trap import COUNT, cpu_flags, trap_environment
from tools.emulation.debian import UnavailableError

GOLDEN = sorted((Path(__file__).parents[1] / "golden").glob("v*.oeb"))
#: A number for :data:`COUNT`.
STANDARD_ERROR = "2"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trap")


@pytest.fixture(scope="module")
def trapped(folder: Path) -> Dict[str, str]:
    try:
        return {**os.environ, **trap_environment(folder), COUNT: STANDARD_ERROR}
    except UnavailableError as reason:
        pytest.skip(str(reason))


def executed(environment: Dict[str, str], *words: str) -> Tuple[str, int]:
    """What a Python process prints, and how many instructions were executed for it."""
    done = subprocess.run(
        [sys.executable, *words], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, int(done.stderr.split()[-1])


def test_every_form_of_the_instructions_leaves_the_registers_it_must(
    folder: Path, trapped: Dict[str, str]
) -> None:
    forms = avxvnni_forms.forms()
    assembler = folder / "forms.S"
    assembler.write_text(avxvnni_forms.source(forms))
    library = compiled(assembler, folder / "forms.so", "x86_avx", ("-shared",))
    wrong, count = executed(trapped, "-m", avxvnni_forms.__name__, str(library))
    assert wrong == ""
    if "avx_vnni" not in cpu_flags():
        assert count == 2 * len(forms)  # each runs on two lots of numbers


@pytest.mark.parametrize(
    "code",
    ["0f0b", "c4e2f550c2", "66c4e27550c2", "f3c4e27550c2", "c4e27554c2ff", "c4e17550c2ff"],
    ids=["UD2", "of 64 bits", "operand prefix", "repeat prefix", "another opcode", "another map"],
)
def test_what_is_none_of_them_ends_the_process_as_it_would_have(trapped: Dict[str, str], code: str) -> None:
    program = (
        "import ctypes, mmap; block = mmap.mmap(-1, 4096, prot=7); "
        f"block.write(bytes.fromhex('{code}c3')); "
        "ctypes.CFUNCTYPE(None)(ctypes.addressof(ctypes.c_char.from_buffer(block)))()"
    )
    done = subprocess.run([sys.executable, "-c", program], env=trapped, capture_output=True, timeout=60)
    assert done.returncode == -signal.SIGILL


def test_the_engine_finds_the_instructions_only_where_they_are_lent(
    library: Library, trapped: Dict[str, str]
) -> None:
    program = (
        "import sys; from obert_edge.device.runtime.native import Library; "
        "print(*Library(sys.argv[1]).implementations())"
    )
    names, _ = executed(trapped, "-c", program, str(library.path))
    assert "avxvnni" in names.split()
    assert ("avxvnni" in library.implementations()) == ("avx_vnni" in cpu_flags())


def test_bundles_verify_bit_for_bit(trapped: Dict[str, str]) -> None:
    program = (
        "import json, sys; from obert_edge.device.runtime.verify import verify; "
        "print(json.dumps([verify(path, 'avxvnni', threads=2).to_dict() for path in sys.argv[1:]]))"
    )
    printed, count = executed(trapped, "-c", program, *map(str, GOLDEN))
    verifications = json.loads(printed)
    assert len(verifications) == len(GOLDEN)
    for found in verifications:
        assert found["ok"], found["checks"]
        assert [(c["implementation"], c["threads"]) for c in found["checks"]] == [
            ("avxvnni", 1),
            ("avxvnni", 2),
        ]
    assert count > 0 or "avx_vnni" in cpu_flags()


def test_those_bundles_have_weights_of_every_format() -> None:
    formats = set()
    for path in GOLDEN:
        with Bundle.open(path) as bundle:
            formats |= {op.format for op in bundle.program.ops if isinstance(op, Linear)}
    assert formats == set(WeightFormat)
