"""The compiled graph's bytes: what is written is read back; what is not a program is refused."""

from __future__ import annotations

import struct

import pytest

from obert_edge.bundle.program import (
    ABSENT,
    OP_TYPES,
    Attention,
    Buffer,
    Const,
    Domain,
    DType,
    Output,
    Program,
)
from obert_edge.errors import BundleError


def program() -> Program:
    ops = [
        Attention("layer.0.attention", 0, 1, 2, 3, 12, 64, 128, 7, 0.5, 0.25),
        Output("logits", 3, 768),
    ]
    buffers = [Buffer(DType.U8, Domain.TOKENS, 768, slot) for slot in range(4)]
    return Program(buffers, [Const(0, 64), Const(64, 128)], ops, max_positions=128)


def test_a_program_survives_the_round_trip():
    assert Program.from_bytes(program().to_bytes()) == program()


def test_serializing_is_deterministic():
    assert program().to_bytes() == program().to_bytes()


def test_slots_count_the_highest():
    assert program().slots == 4
    assert Program().slots == 0


@pytest.mark.parametrize("kind", sorted(OP_TYPES))
def test_every_op_keeps_every_field(kind):
    op_type = OP_TYPES[kind]
    names = [*op_type.INPUTS, *op_type.OUTPUTS, *op_type.CONSTS, *op_type.INTS]
    values = {name: at for at, name in enumerate(names)}
    values.update({name: 0.5 * at for at, name in enumerate(op_type.FLOATS)})
    op = op_type(name=f"op {kind}", **values)
    assert Program.from_bytes(Program(ops=[op]).to_bytes()).ops == [op]


@pytest.mark.parametrize("size", [0, 7, 63, 64, 100, -1])
def test_a_cut_blob_is_refused(size):
    with pytest.raises(BundleError):
        Program.from_bytes(program().to_bytes()[:size])


def test_a_newer_version_says_which():
    blob = bytearray(program().to_bytes())
    struct.pack_into("<I", blob, 8, 9)
    with pytest.raises(BundleError, match="version 9; this reader knows 1"):
        Program.from_bytes(bytes(blob))


def test_an_unknown_dtype_is_refused():
    blob = bytearray(program().to_bytes())
    struct.pack_into("<I", blob, 64, 77)
    with pytest.raises(BundleError, match="unknown kind"):
        Program.from_bytes(bytes(blob))


def test_an_unknown_op_is_refused():
    blob = bytearray(program().to_bytes())
    struct.pack_into("<I", blob, len(blob) - 2 * 228, 99)
    with pytest.raises(BundleError, match="op of kind 99"):
        Program.from_bytes(bytes(blob))


def test_absent_is_not_an_index():
    assert ABSENT == -1
