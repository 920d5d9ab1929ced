"""Packing stores what the engine needs of a weight matrix, and nothing is lost."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from obert_edge.bundle.packing import (
    PAD_ROW,
    code_columns,
    count_units,
    pack_linear,
    supports,
    unpack_linear,
    unpack_op,
)
from obert_edge.bundle.program import ABSENT, ColumnCoding, Const, Linear, Program, WeightFormat
from obert_edge.errors import UsageError


@st.composite
def matrices(draw: st.DrawFn) -> np.ndarray:
    n, k4 = draw(st.integers(1, 13)), draw(st.integers(1, 9))
    k = 4 * k4 + draw(st.sampled_from([0, 0, 1, 3]))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    density = draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    values = generator.integers(-127, 128, (n, k))
    return (values * (generator.random((n, k)) < density)).astype(np.int8)


@given(matrices(), st.sampled_from(WeightFormat), st.randoms(use_true_random=False))
def test_unpacking_gives_the_matrix_back(matrix: np.ndarray, weight_format: WeightFormat, random) -> None:
    n, k = matrix.shape
    if not supports(weight_format, k):
        return
    order = list(range(n))
    random.shuffle(order)
    for row_order in (None, order):
        packed = pack_linear(matrix, weight_format, row_order)
        np.testing.assert_array_equal(unpack_linear(packed, weight_format, n, k), matrix)


@given(matrices(), st.sampled_from(WeightFormat))
def test_packed_arrays_have_the_documented_shapes(matrix: np.ndarray, weight_format: WeightFormat) -> None:
    n, k = matrix.shape
    if not supports(weight_format, k):
        return
    packed = pack_linear(matrix, weight_format)
    size, groups = weight_format.rows, -(-n // weight_format.rows)
    units = int(packed["offsets"][-1])
    assert packed["rows"].dtype == np.uint32 and packed["rows"].shape == (groups * size,)
    assert packed["offsets"].dtype == np.uint32 and packed["offsets"].shape == (groups + 1,)
    assert packed["columns"].dtype == np.uint16 and packed["weights"].dtype == np.int8
    listed = {WeightFormat.DENSE_4: 0, WeightFormat.BLOCK_1X4: units}.get(weight_format, 4 * units)
    assert packed["columns"].shape == (listed,)
    assert packed["weights"].shape == (4 * units * size,)
    assert sorted(packed["rows"][packed["rows"] != PAD_ROW]) == list(range(n))
    counts = np.diff(packed["offsets"].astype(np.int64))
    assert (np.diff(counts) <= 0).all()  # most first, so that neighbors balance


@given(matrices(), st.sampled_from(WeightFormat))
def test_counting_agrees_with_packing(matrix: np.ndarray, weight_format: WeightFormat) -> None:
    if not supports(weight_format, matrix.shape[1]):
        return
    packed, counted = pack_linear(matrix, weight_format), count_units(matrix, weight_format)
    assert counted.groups == len(packed["offsets"]) - 1
    assert counted.units == packed["offsets"][-1]
    assert counted.weights == packed["weights"].size
    assert counted.bytes == sum(array.nbytes for array in packed.values())


def test_row_gather_4_lays_out_quads_as_the_diagram_says() -> None:
    matrix = np.zeros((4, 9), np.int8)
    matrix[:, 2], matrix[:, 3], matrix[:, 5], matrix[:, 7] = 2, 3, 5, 7
    matrix[1, 8] = -8  # a fifth column, needed by one row only
    packed = pack_linear(matrix, WeightFormat.ROW_GATHER_4)
    assert packed["columns"].tolist() == [2, 3, 5, 7, 8, 0, 0, 0]
    quads = packed["weights"].reshape(2, 4, 4)
    assert quads[0].tolist() == [[2, 3, 5, 7]] * 4
    assert quads[1].tolist() == [[0, 0, 0, 0], [-8, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert packed["offsets"].tolist() == [0, 2]


def test_trained_4x1_blocks_stay_together() -> None:
    generator = np.random.default_rng(0)
    blocks = generator.random((8, 64)) < 0.2
    matrix = (np.repeat(blocks, 4, axis=0) * 5).astype(np.int8)
    counted = count_units(matrix, WeightFormat.ROW_GATHER_4)
    assert counted.units == sum(-(-int(row.sum()) // 4) for row in blocks)


def test_block_1x4_names_the_first_channel_of_each_block() -> None:
    matrix = np.zeros((1, 12), np.int8)
    matrix[0, 6], matrix[0, 11] = 1, 2
    packed = pack_linear(matrix, WeightFormat.BLOCK_1X4)
    assert packed["columns"].tolist() == [4, 8]
    assert packed["weights"].tolist() == [0, 0, 1, 0, 0, 0, 0, 2]


def test_rows_are_padded_to_a_whole_group() -> None:
    packed = pack_linear(np.ones((5, 4), np.int8), WeightFormat.DENSE_4)
    assert packed["rows"].tolist() == [0, 1, 2, 3, 4, PAD_ROW, PAD_ROW, PAD_ROW]
    assert packed["weights"].reshape(2, 1, 4, 4)[1, 0, 1:].any() == np.False_


@given(matrices(), st.sampled_from(WeightFormat), st.booleans())
def test_weights_of_a_program_are_read_back(
    matrix: np.ndarray, weight_format: WeightFormat, compact: bool
) -> None:
    n, k = matrix.shape
    if not supports(weight_format, k):
        return
    packed, coding = pack_linear(matrix, weight_format), ColumnCoding.LIST
    if compact:
        packed["columns"], coding = code_columns(packed, weight_format, k)
    blob, consts, names = b"", [], ("rows", "offsets", "columns", "weights")
    for name in names:
        consts.append(Const(len(blob), packed[name].nbytes))
        blob += packed[name].tobytes()
    fields = dict.fromkeys((*Linear.INPUTS, *Linear.OUTPUTS, *Linear.INTS), 0)
    fields.update({name: i for i, name in enumerate(names)}, n=n, k=k, format=int(weight_format))
    fields["column_coding"] = int(coding)
    op = Linear("x", **{**fields, "scale": ABSENT, "bias": ABSENT, "correction": ABSENT, "inv_scale": 1.0})
    np.testing.assert_array_equal(unpack_op(Program(consts=consts, ops=[op]), op, blob), matrix)


def test_a_mask_has_a_bit_for_every_listed_column() -> None:
    matrix = np.zeros((4, 20), np.int8)
    matrix[:, [0, 1, 9, 17, 19]] = 3
    masks, coding = code_columns(
        pack_linear(matrix, WeightFormat.ROW_GATHER_4), WeightFormat.ROW_GATHER_4, 20
    )
    assert coding is ColumnCoding.MASKS and masks.tolist() == [0b11, 0b10, 0b1010]


def test_a_mask_of_blocks_has_a_bit_for_four_columns() -> None:
    matrix = np.zeros((1, 40), np.int8)
    matrix[0, [3, 20, 21, 36]] = 3
    masks, coding = code_columns(pack_linear(matrix, WeightFormat.BLOCK_1X4), WeightFormat.BLOCK_1X4, 40)
    assert coding is ColumnCoding.MASKS and masks.tolist() == [0b100001, 0b10]


def test_columns_stay_a_list_where_that_is_smaller() -> None:
    matrix = np.zeros((4, 800), np.int8)
    matrix[:, 5] = 1
    packed = pack_linear(matrix, WeightFormat.ROW_GATHER_4)
    columns, coding = code_columns(packed, WeightFormat.ROW_GATHER_4, 800)
    assert coding is ColumnCoding.LIST and columns is packed["columns"]


def test_columns_in_another_order_stay_a_list() -> None:
    """A mask cannot say which column comes first."""
    packed = pack_linear(np.ones((4, 8), np.int8), WeightFormat.ROW_GATHER_4)
    packed["columns"] = packed["columns"][::-1].copy()
    assert code_columns(packed, WeightFormat.ROW_GATHER_4, 8)[1] is ColumnCoding.LIST


@pytest.mark.parametrize("weight_format", [WeightFormat.DENSE_4, WeightFormat.BLOCK_1X4])
def test_formats_of_four_columns_refuse_other_widths(weight_format: WeightFormat) -> None:
    with pytest.raises(UsageError, match="cannot hold 6 input columns"):
        pack_linear(np.ones((4, 6), np.int8), weight_format)


def test_only_int8_matrices_can_be_packed() -> None:
    with pytest.raises(UsageError, match="int8 matrix"):
        pack_linear(np.ones((4, 4), np.int32), WeightFormat.ROW_GATHER_1)
    with pytest.raises(UsageError, match="int8 matrix"):
        pack_linear(np.ones((0, 4), np.int8), WeightFormat.ROW_GATHER_1)


def test_a_row_order_must_name_every_row_once() -> None:
    with pytest.raises(UsageError, match="not a permutation"):
        pack_linear(np.ones((4, 4), np.int8), WeightFormat.ROW_GATHER_1, [0, 1, 1, 3])
