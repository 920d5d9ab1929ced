"""What each op checks of its record: one that breaks a rule is refused with a message that says which."""

from __future__ import annotations

import dataclasses
from typing import Dict, Tuple

import numpy as np
import pytest

from obert_edge.bundle.program import ABSENT, Domain, Linear, Program, WeightFormat
from obert_edge.device.runtime.native import Library
from obert_edge.errors import BundleError
from tests.engine.damage import (
    BUILDERS,
    Change,
    fresh,
    index_of,
    resize_const,
    set_buffer,
    set_const,
    set_op,
)
from tests.engine.models import EncoderBuilder


def linear_of(builder: EncoderBuilder, weight_format: WeightFormat) -> str:
    """The name of the first linear with weights of a format."""
    linears = (op for op in builder.program.ops if isinstance(op, Linear))
    return next(op.name for op in linears if op.format == weight_format)


GATHER = linear_of(BUILDERS[False], WeightFormat.ROW_GATHER_2)
DENSE = linear_of(BUILDERS[False], WeightFormat.DENSE_4)

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
    "kind of norm": (set_op("layer.0.norm", kind=3), "its kind is 3; it must be 0 to 2"),
    "format": (set_op(GATHER, format=6), "its format is 6; it must be 1 to 5"),
    "other format": (set_op(GATHER, format=3), "takes .* bytes; it must take"),
    "activation": (set_op(GATHER, activation=6), "its activation is 6"),
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
    "lo": (set_op("layer.0.key", lo=-129), "its lo is -129; it must be -127 to 127"),
    "hi": (set_op("layer.0.key", hi=-128), "its hi is -128; it must be -127 to 127"),
    "heads": (set_op("layer.0.attention", heads=4), "its query has 24 channels; the op says 32"),
    "no heads": (set_op("layer.0.attention", heads=0), "its heads is 0"),
    "score scale": (set_op("layer.0.attention", score_scale=-1.0), "its score_scale is -1"),
    "attention in place": (set_buffer(1, slot=2), "its input and its output share slot 2"),
    "biases": (set_op("layer.0.attention", distances=2, bias=0), "its bias takes .* bytes; it must take"),
    "no biases": (set_op("layer.0.attention", distances=2), "its bias is constant -1; the program has"),
    "distances": (set_op("layer.0.attention", distances=-1), "its distances is -1; it must be 0 to"),
    "window": (set_op("layer.0.attention", window=-1), "its window is -1; it must be 0 to"),
    "no distances": (set_op("layer.0.attention", bias=0), "a bias .constant 0. of no distances"),
    "tables": (set_op("layer.0.attention", positions=-1), "its positions is -1; it must be 0 to"),
    "tables of nothing": (set_op("layer.0.attention", positions=2), "it has 2 positions of no distances"),
    "two kinds": (
        set_op("layer.0.attention", positions=2, distances=2, window=3),
        "2 positions beside a bias or a window",
    ),
    "tables beside a bias": (
        set_op("layer.0.attention", positions=2, distances=2, bias=0),
        "2 positions beside a bias or a window",
    ),
    "no tables": (set_op("layer.0.attention", positions=2, distances=2), "its position_key is constant -1"),
    "small tables": (
        set_op("layer.0.attention", positions=2, distances=2, position_key=0),
        "its position_key takes .* bytes; it must take",
    ),
    "positions": (set_op("embeddings", positions=10), "it must take|position table has 10 rows"),
    "token types": (set_op("embeddings", token_types=3), "type table takes 48 bytes; it must take 72"),
    "no type table": (set_op("embeddings", token_type=ABSENT), "its token_types without a table is 2"),
    "word format": (set_op("embeddings", word_format=2), "its word_format is 2; it must be 0 to 1"),
    "int4 rows": (set_op("embeddings", word_format=1), "word table takes 1200 bytes; it must take 800"),
    "group scales of int8": (set_op("embeddings", word_group_scale=0), "group scales .* beside INT8 rows"),
    "group scales of no words": (
        set_op("embeddings", word=ABSENT, vocabulary=0, word_group_scale=2_000_000_000),
        "group scales without a word table is 2000000000; it must be -1",
    ),
    "scales of no words": (
        set_op("embeddings", word=ABSENT, vocabulary=0, word_scale=2_000_000_000),
        r"\(embeddings\): constant 1 of the op is number 2000000000; the program has",
    ),
    "sparse code": (set_const(GATHER, "weights", 5, -128, "i1"), r"its weights\[5\] is -128; it must"),
    "dense code": (set_const(DENSE, "weights", 7, -128, "i1"), r"its weights\[7\] is -128; it must be -127"),
    "keys' least code": (set_op("layer.0.key", lo=-128), "its lo is -128; it must be -127 to 127"),
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
BLOCKS = linear_of(MASKED, WeightFormat.BLOCK_1X4)
REFUSED_MASKS: Dict[str, Tuple[Change, str]] = {
    "a bit less": (set_const(GATHER, "columns", slice(0, 3), 0, "u1"), "group 0 has 0 bits set; its offsets"),
    "a block more": (set_const(BLOCKS, "columns", 0, 255, "u1"), "mask of group 0 has 8 bits set"),
    "beyond the inputs": (set_const(BLOCKS, "columns", 0, 0xFC, "u1"), "has a bit beyond its 24 inputs"),
    "size": (resize_const(GATHER, "columns", 1), "its columns takes .* bytes; it must take"),
    "coding": (set_op(GATHER, column_coding=2), "its column_coding is 2; it must be 0 to 1"),
    "as a list": (set_op(GATHER, column_coding=0), "its columns takes .* bytes; it must take"),
}


POSITIONED = EncoderBuilder(layers=1, positions=9)
REFUSED_POSITIONS: Dict[str, Tuple[Change, str]] = {
    "row": (
        set_const("layer.0.attention", "row_of_distance", 3, 9, "<u2"),
        r"its row_of_distance\[3\] is 9; there are 9 positions",
    ),
    "distances": (set_op("layer.0.attention", distances=6), "its row_of_distance takes 18 bytes; it must"),
    "rows": (set_op("layer.0.attention", positions=8), "its position_key takes 216 bytes; it must take 192"),
    "too many": (set_op("layer.0.attention", positions=65537), "its positions is 65537; it must be 0 to"),
    "heads": (set_op("layer.0.attention", heads=4, head_dim=6), "head_dim 6 must be a multiple of 4"),
    "window": (set_op("layer.0.attention", window=2), "9 positions beside a bias or a window"),
    "size": (resize_const("layer.0.attention", "position_query", -1), "position_query takes 215 bytes"),
    "key code": (
        set_const("layer.0.attention", "position_key", 3, -128, "i1"),
        r"its position_key\[3\] is -128; it must be -127 to 127",
    ),
    "query code": (
        set_const("layer.0.attention", "position_query", 0, -128, "i1"),
        r"its position_query\[0\] is -128; it must be -127 to 127",
    ),
    "key scale": (
        set_const("layer.0.attention", "position_key_scale", 5, np.inf, "<f4"),
        r"its position_key_scale\[5\] is not a finite number",
    ),
    "query scale": (
        set_const("layer.0.attention", "position_query_scale", 5, np.nan, "<f4"),
        r"its position_query_scale\[5\] is not a finite number",
    ),
}


@pytest.mark.parametrize("change, message", REFUSED_POSITIONS.values(), ids=REFUSED_POSITIONS.keys())
def test_refused_positions(library: Library, change: Change, message: str) -> None:
    program, weights = Program.from_bytes(POSITIONED.program.to_bytes()), bytearray(POSITIONED.weights)
    library.open(program.to_bytes(), weights).close()
    change(program, weights)
    with pytest.raises(BundleError, match=message):
        library.open(program.to_bytes(), weights)


@pytest.mark.parametrize("change, message", REFUSED_MASKS.values(), ids=REFUSED_MASKS.keys())
def test_refused_masks(library: Library, change: Change, message: str) -> None:
    program, weights = Program.from_bytes(MASKED.program.to_bytes()), bytearray(MASKED.weights)
    change(program, weights)
    with pytest.raises(BundleError, match=message):
        library.open(program.to_bytes(), weights)
