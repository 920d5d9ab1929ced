"""Programs with one thing changed, as a file from anywhere might have it."""

from __future__ import annotations

import dataclasses
from typing import Any, Callable, Tuple

import numpy as np

from obert_edge.bundle.program import Const, Program
from tests.engine.models import EncoderBuilder

#: By whether activations are quantized per token; that one has INT4 word rows, too.
BUILDERS = {False: EncoderBuilder(layers=1), True: EncoderBuilder(layers=1, dynamic=True, int4=True)}
#: Changes a program or its weights in place.
Change = Callable[[Program, bytearray], None]


def fresh(dynamic: bool = False) -> Tuple[Program, bytearray]:
    """A program and its weights, to be changed."""
    builder = BUILDERS[dynamic]
    return Program.from_bytes(builder.program.to_bytes()), bytearray(builder.weights)


def index_of(program: Program, name: str) -> int:
    return next(i for i, op in enumerate(program.ops) if op.name == name)


def set_op(op: str, **fields: Any) -> Change:
    """Change fields of an op."""

    def change(program: Program, weights: bytearray) -> None:
        index = index_of(program, op)
        program.ops[index] = dataclasses.replace(program.ops[index], **fields)

    return change


def set_buffer(index: int, **fields: Any) -> Change:
    """Change fields of a buffer."""

    def change(program: Program, weights: bytearray) -> None:
        program.buffers[index] = dataclasses.replace(program.buffers[index], **fields)

    return change


def set_const(name: str, part: str, at: int, value: Any, dtype: str) -> Change:
    """Overwrite one element of a constant of an op."""

    def change(program: Program, weights: bytearray) -> None:
        span = program.consts[getattr(program.ops[index_of(program, name)], part)]
        values = np.frombuffer(weights, dtype, span.bytes // np.dtype(dtype).itemsize, span.offset)
        values.setflags(write=True)
        values[at] = value

    return change


def resize_const(name: str, part: str, by: int) -> Change:
    """Make a constant of an op longer or shorter, in bytes."""

    def change(program: Program, weights: bytearray) -> None:
        index = getattr(program.ops[index_of(program, name)], part)
        span = program.consts[index]
        program.consts[index] = Const(span.offset, span.bytes + by)

    return change
