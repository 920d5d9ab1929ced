"""Programs from anywhere: refused with a message, or run; never a crash."""

from __future__ import annotations

import dataclasses
from typing import Any, Callable, Dict, List, Tuple

import numpy as np
import pytest

from obert_edge.bundle.program import ABSENT, Buffer, Const, Domain, DType, Linear, Op, Program
from obert_edge.device.runtime.native import Library
from obert_edge.errors import BundleError, InputError
from tests.engine.models import EncoderBuilder, batch_of

BUILDERS = {False: EncoderBuilder(layers=1), True: EncoderBuilder(layers=1, dynamic=True, int4=True)}
Change = Callable[[Program, bytearray], None]


def fresh(dynamic: bool = False) -> Tuple[Program, bytearray]:
    builder = BUILDERS[dynamic]
    return Program.from_bytes(builder.program.to_bytes()), bytearray(builder.weights)


def index_of(program: Program, name: str) -> int:
    return next(i for i, op in enumerate(program.ops) if op.name == name)


def set_op(op: str, **fields: Any) -> Change:
    def change(program: Program, weights: bytearray) -> None:
        index = index_of(program, op)
        program.ops[index] = dataclasses.replace(program.ops[index], **fields)

    return change


def set_buffer(index: int, **fields: Any) -> Change:
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
    def change(program: Program, weights: bytearray) -> None:
        index = getattr(program.ops[index_of(program, name)], part)
        span = program.consts[index]
        program.consts[index] = Const(span.offset, span.bytes + by)

    return change


def row_gather(program: Program) -> str:
    """Name of a linear in a row-gather format with few rows per group."""
    return next(op.name for op in program.ops if isinstance(op, Linear) and op.format == 2)


GATHER = row_gather(BUILDERS[False].program)
DENSE = next(o.name for o in BUILDERS[False].program.ops if isinstance(o, Linear) and o.format == 4)

REFUSED: Dict[str, Tuple[Change, str]] = {
    "channels": (set_op("layer.0.norm", channels=23), r"\(layer.0.norm\): its input has 24 channels"),
    "no channels": (set_op("first", channels=0), "its channels is 0; it must be 1 to"),
    "input index": (set_op("first", input=99), "its input is buffer 99; the program has"),
    "negative input": (set_op("first", input=-2), "its input is buffer -2"),
    "absent input": (set_op("first", input=ABSENT), "its input is buffer -1"),
    "type": (set_op("first", input=1), "its input is buffer 1 of type U8, which this op cannot use"),
    "domain": (set_buffer(0, domain=Domain.SEQUENCES), "over sequences; it must be over tokens"),
    "slot": (set_buffer(1, slot=0), "its input and its quantized output share slot 0"),
    "const index": (set_op("layer.0.norm", gamma=1000), "its gamma is constant 1000; the program has"),
    "const size": (resize_const("layer.0.norm", "beta", 4), "its beta takes 100 bytes; it must take 96"),
    "nan": (set_const("layer.0.norm", "gamma", 3, np.nan, "<f4"), r"its gamma\[3\] is not a finite number"),
    "epsilon": (set_op("layer.0.norm", epsilon=0.0), "its epsilon is 0; it must be positive"),
    "inv_scale": (set_op("layer.0.norm", inv_scale=float("inf")), "its inv_scale is inf"),
    "zero point": (set_op("layer.0.norm", zero_point=256), "its zero_point is 256; it must be 0 to 255"),
    "format": (set_op(GATHER, format=6), "its format is 6; it must be 1 to 5"),
    "other format": (set_op(GATHER, format=3), "takes .* bytes; it must take"),
    "activation": (set_op(GATHER, activation=5), "its activation is 5"),
    "k": (set_op(GATHER, k=70000), "its k is 70000; it must be 1 to 65535"),
    "n": (set_op(GATHER, n=-1), "its n is -1"),
    "groups": (set_op(GATHER, groups=2**31 - 1), "its groups is 2147483647"),
    "row": (set_const(GATHER, "rows", 1, 1000, "<u4"), r"its rows\[1\] is channel 1000; the output has"),
    "row twice": (set_const(GATHER, "rows", slice(0, 2), 3, "<u4"), "its rows name output channel 3 twice"),
    "row missing": (set_const(GATHER, "rows", 0, 2**32 - 1, "<u4"), "its rows name 23 of 24 output channels"),
    "column": (set_const(GATHER, "columns", 5, 24, "<u2"), r"columns\[5\] is input channel 24; the largest"),
    "offsets fall": (set_const(GATHER, "offsets", 2, 2**31, "<u4"), "the limit is|its offsets fall"),
    "offsets start": (set_const(GATHER, "offsets", 0, 1, "<u4"), "its offsets start at 1"),
    "offsets end": (set_const(GATHER, "offsets", -1, 3000, "<u4"), "bytes; it must take"),
    "lo": (set_op("layer.0.key", lo=-129), "its lo is -129; it must be -128 to 127"),
    "hi": (set_op("layer.0.key", hi=-128), "its hi is -128; it must be -127 to 127"),
    "heads": (set_op("layer.0.attention", heads=4), "its query has 24 channels; the op says 32"),
    "no heads": (set_op("layer.0.attention", heads=0), "its heads is 0"),
    "score scale": (set_op("layer.0.attention", score_scale=-1.0), "its score_scale is -1"),
    "attention in place": (set_buffer(1, slot=2), "its input and its output share slot 2"),
    "positions": (set_op("embeddings", positions=10), "it must take|position table has 10 rows"),
    "token types": (set_op("embeddings", token_types=3), "type table takes 48 bytes; it must take 72"),
    "no type table": (set_op("embeddings", token_type=ABSENT), "its token_types without a table is 2"),
    "word format": (set_op("embeddings", word_format=2), "its word_format is 2; it must be 0 to 1"),
    "int4 rows": (set_op("embeddings", word_format=1), "word table takes 1200 bytes; it must take 800"),
    "group scales of int8": (set_op("embeddings", word_group_scale=0), "group scales .* beside INT8 rows"),
    "name": (set_op("first", name="\x1b[31m"), "is not printable ASCII"),
}  # fmt: skip

REFUSED_INT4: Dict[str, Tuple[Change, str]] = {
    "int8 rows": (set_op("embeddings", word_format=0), "group scales .* beside INT8 rows"),
    "no group scales": (set_op("embeddings", word_group_scale=ABSENT), "group scales is constant -1"),
    "other group scales": (set_op("embeddings", word_group_scale=0), "takes 1200 bytes; it must take 50"),
    "group scales": (resize_const("embeddings", "word_group_scale", -1), "takes 49 bytes; it must take 50"),
    "rows": (resize_const("embeddings", "word", -16), "word table takes 784 bytes; it must take 800"),
    "vocabulary": (set_op("embeddings", vocabulary=51), "word table takes 800 bytes; it must take 816"),
    "scale": (set_const("embeddings", "word_scale", 7, np.inf, "<f4"), r"word table\[7\] is not a finite"),
}  # fmt: skip


@pytest.mark.parametrize("change, message", REFUSED.values(), ids=REFUSED.keys())
def test_refused(library: Library, change: Change, message: str) -> None:
    program, weights = fresh()
    change(program, weights)
    with pytest.raises(BundleError, match=message):
        library.open(program.to_bytes(), weights)


@pytest.mark.parametrize("change, message", REFUSED_INT4.values(), ids=REFUSED_INT4.keys())
def test_four_bit_word_rows_are_checked(library: Library, change: Change, message: str) -> None:
    program, weights = fresh(dynamic=True)
    library.open(program.to_bytes(), weights).close()
    change(program, weights)
    with pytest.raises(BundleError, match=message):
        library.open(program.to_bytes(), weights)


def test_weights_beyond_the_inputs_of_a_dense_linear(library: Library) -> None:
    """Kernels may not load those channels, so a weight there could not mean anything."""
    program, weights = fresh()
    narrow = dataclasses.replace(program.ops[index_of(program, DENSE)], k=23)
    program.ops[index_of(program, DENSE)] = narrow
    for index in {narrow.input}:
        program.buffers[index] = dataclasses.replace(program.buffers[index], channels=23)
    program.ops = [narrow]
    with pytest.raises(BundleError, match="has a weight beyond its 23 inputs"):
        library.open(program.to_bytes(), weights)


MASKED = EncoderBuilder(layers=1, compact=True)
BLOCKS = next(o.name for o in MASKED.program.ops if isinstance(o, Linear) and o.format == 5)
REFUSED_MASKS: Dict[str, Tuple[Change, str]] = {
    "a bit less": (set_const(GATHER, "columns", slice(0, 3), 0, "u1"), "group 0 has 0 bits set; its offsets"),
    "a block more": (set_const(BLOCKS, "columns", 0, 255, "u1"), "mask of group 0 has 8 bits set"),
    "beyond the inputs": (set_const(BLOCKS, "columns", 0, 0xFC, "u1"), "has a bit beyond its 24 inputs"),
    "size": (resize_const(GATHER, "columns", 1), "its columns takes .* bytes; it must take"),
    "coding": (set_op(GATHER, column_coding=2), "its column_coding is 2; it must be 0 to 1"),
    "as a list": (set_op(GATHER, column_coding=0), "its columns takes .* bytes; it must take"),
}


@pytest.mark.parametrize("change, message", REFUSED_MASKS.values(), ids=REFUSED_MASKS.keys())
def test_refused_masks(library: Library, change: Change, message: str) -> None:
    program, weights = Program.from_bytes(MASKED.program.to_bytes()), bytearray(MASKED.weights)
    change(program, weights)
    with pytest.raises(BundleError, match=message):
        library.open(program.to_bytes(), weights)


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
