"""Programs from anywhere: refused with a message, or run; never a crash."""

from __future__ import annotations

import dataclasses
from typing import List, Tuple

import numpy as np
import pytest

from obert_edge.bundle.program import ABSENT, Buffer, Const, Domain, DType, Op
from obert_edge.device.runtime.native import Library
from obert_edge.errors import BundleError, InputError
from tests.engine.damage import fresh, index_of
from tests.engine.models import batch_of

HEADERS: List[Tuple[int, bytes, str]] = [
    (0, b"XBERTPRG", "does not start with OBERTPRG"),
    (8, (2).to_bytes(4, "little"), "has version 2; this engine runs version 1"),
    (12, (2**32 - 1).to_bytes(4, "little"), "the limit is"),
    (12, (1).to_bytes(4, "little"), "its header implies"),
    (20, (0).to_bytes(4, "little"), "its header implies"),
    (24, (0).to_bytes(4, "little"), "max_positions is 0"),
    (24, (70000).to_bytes(4, "little"), "max_positions is 70000"),
    (28, (1).to_bytes(4, "little"), "is in slot 1; the program has 1 slots"),
    (28, (9999).to_bytes(4, "little"), "has 9999 slots"),
    (64, (9).to_bytes(4, "little"), "buffer 0 has dtype 9"),
    (68, (2).to_bytes(4, "little"), "buffer 0 has domain 2"),
    (72, (0).to_bytes(4, "little"), "buffer 0 has 0 channels"),
]


@pytest.mark.parametrize("at, value, message", HEADERS, ids=[message for *_, message in HEADERS])
def test_headers(library: Library, at: int, value: bytes, message: str) -> None:
    program, weights = fresh()
    blob = bytearray(program.to_bytes())
    blob[at : at + len(value)] = value
    with pytest.raises(BundleError, match=message):
        library.open(bytes(blob), weights)


def test_constants_stay_inside_the_weights(library: Library) -> None:
    for span, message in (
        (Const(2**63, 96), "spans 96 bytes at 9223372036854775808"),
        (Const(64, 2**64 - 1), "spans 18446744073709551615 bytes"),
        (Const(8, 96), "is not a multiple of 64"),
    ):
        program, weights = fresh()
        program.consts[7] = span
        with pytest.raises(BundleError, match=message):
            library.open(program.to_bytes(), weights)


@pytest.mark.parametrize("dynamic", [False, True])
def test_truncated_anywhere(library: Library, dynamic: bool) -> None:
    program, weights = fresh(dynamic)
    blob = program.to_bytes()
    for size in range(0, len(blob), 7):
        with pytest.raises(BundleError):
            library.open(blob[:size], weights)
    for size in range(0, len(weights), 509):
        with pytest.raises(BundleError):
            library.open(blob, weights[:size])


def try_to_run(library: Library, blob: bytes, weights: bytes) -> bool:
    """Whether the engine ran it; the point is that it returns."""
    try:
        with library.open(blob, weights) as model:
            model.run(batch_of([3, 20]))
        return True
    except (BundleError, InputError):
        return False


@pytest.mark.parametrize("dynamic, flips", [(False, (0x01, 0xFF)), (True, (0x80,))])
def test_any_altered_byte_of_a_program_is_refused_or_harmless(
    library: Library, dynamic: bool, flips: Tuple[int, ...]
) -> None:
    program, weights = fresh(dynamic)
    blob = program.to_bytes()
    ran = 0
    for at in range(len(blob)):
        for flip in flips:
            altered = bytearray(blob)
            altered[at] ^= flip
            ran += try_to_run(library, bytes(altered), bytes(weights))
    assert 0 < ran < len(flips) * len(blob)


@pytest.mark.parametrize("dynamic", [False, True])
def test_altered_weights_are_refused_or_harmless(library: Library, dynamic: bool) -> None:
    program, weights = fresh(dynamic)
    blob = program.to_bytes()
    rng = np.random.default_rng(5)
    for _ in range(1500):
        altered = bytearray(weights)
        for at in rng.integers(0, len(altered), 4):
            altered[at] = rng.integers(0, 256)
        try_to_run(library, blob, bytes(altered))


def test_an_overwritten_slot(library: Library) -> None:
    """Two buffers may share a slot, but not while both are wanted."""
    program, weights = fresh()
    program.buffers.append(Buffer(DType.F32, Domain.TOKENS, 24, program.buffers[0].slot))
    norm = program.ops[index_of(program, "embeddings.norm")]
    extra: Op = dataclasses.replace(
        norm, name="thief", input=0, output=len(program.buffers) - 1, quantized=ABSENT
    )
    program.ops.insert(index_of(program, "layer.0.query"), extra)
    with library.open(program.to_bytes(), weights) as model:  # noqa: SIM117 - python 3.9
        with pytest.raises(BundleError, match="it reads buffer 0, whose slot holds buffer"):
            model.run(batch_of([4]))


def test_zero_points_of_another_buffer(library: Library) -> None:
    """A per-token linear must use the zero points its own input was quantized with."""
    program, weights = fresh(dynamic=True)
    program.buffers.append(Buffer(DType.F32, Domain.TOKENS, 2, program.slots))
    wide = index_of(program, "layer.0.wide")
    program.ops[wide] = dataclasses.replace(program.ops[wide], params=len(program.buffers) - 1)
    with library.open(program.to_bytes(), weights) as model:  # noqa: SIM117 - python 3.9
        with pytest.raises(BundleError, match="its params do not come from the op that quantized its input"):
            model.run(batch_of([4]))
