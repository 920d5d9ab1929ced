"""A bundle's compiled graph in one block of bytes, for model files of other runtimes that carry our engine.

The Python twin of ``engine/litert/capsule.h``, which reads it. Its parts are aligned to 64 bytes; whoever
stores it puts it at a multiple of 64 of the file, so that a map of the file can be used in place. Little
endian::

    header   8s magic "OBERTCAP" | u32 version | u32 flags | i32 position_offset | i32 pad_id
             | i32 type_vocabulary | u32 squeezed | u64 program bytes | u64 weights bytes | 16 bytes zero
    program  as program.bin of the bundle, then zeros up to a multiple of 64
    weights  as weights.bin

Flag 1: a model whose result is taken from column 0. Bit i of ``squeezed``: result i has one channel, and is
given without that axis.
"""

from __future__ import annotations

import struct

from obert_edge.bundle.container import PROGRAM, Bundle
from obert_edge.bundle.manifest import OutputFacts
from obert_edge.errors import UsageError

MAGIC = b"OBERTCAP"
VERSION = 1
ALIGNMENT = 64
#: Model files of other runtimes hold it as one array, whose length is a signed 32-bit number.
MAX_BYTES = 2**31 - 1

_HEADER = struct.Struct("<8s2I3iI2Q16x")
_USES_FIRST_TOKEN = 1
#: The most results: one bit of ``squeezed`` for each.
_MAX_OUTPUTS = 32


def write_capsule(bundle: Bundle) -> bytearray:
    """The capsule of an open bundle.

    Raises:
        UsageError: the model has more bytes or results than a capsule holds.
    """
    program = bytes(bundle.member(PROGRAM))
    padding = -len(program) % ALIGNMENT
    size = _HEADER.size + len(program) + padding + len(bundle.weights)
    outputs = bundle.manifest.outputs
    if size > MAX_BYTES or len(outputs) > _MAX_OUTPUTS:
        raise UsageError(
            f"{bundle.path} holds {size} bytes of model with {len(outputs)} results; a file of another "
            f"runtime takes {MAX_BYTES} bytes and {_MAX_OUTPUTS} results",
            hint="use the bundle itself",
        )
    model = bundle.manifest.model
    header = _HEADER.pack(
        MAGIC,
        VERSION,
        _USES_FIRST_TOKEN if bundle.program.uses_first_token else 0,
        model.position_offset,
        model.pad_id,
        model.type_vocabulary,
        _bits(outputs),
        len(program),
        len(bundle.weights),
    )
    block = bytearray(size)
    block[: len(header)] = header
    block[len(header) : len(header) + len(program)] = program
    block[size - len(bundle.weights) :] = bundle.weights
    return block


def _bits(outputs: list[OutputFacts]) -> int:
    """``squeezed``: which results have one channel, whose axis is left out."""
    return sum(1 << number for number, output in enumerate(outputs) if output.is_squeezed)
