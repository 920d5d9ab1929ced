"""Weight packing: a quantized INT8 matrix to the arrays of a linear op, and back.

A packed matrix is a list of *groups* of R output rows. Each group stores only
what it needs of its rows; ``offsets[g]`` is where group ``g`` starts. Groups are
ordered by how much they store (most first), so that equal neighbors balance
between threads; ``rows`` says which output channel each packed row is.

**Row-gather** (R = 1, 2, 4; unstructured, 2x1, 4x1). The R rows of a group share
one list of input columns, those where any of them is not zero, ascending. Four
listed columns and their R x 4 weights are a *quad*; the last quad of a group is
filled up with column 0 and zero weights::

    group g, R = 4, columns c0 c1 c2 c3 | c4 c5 -- --
    columns  [4 * quads]   c0 c1 c2 c3 c4 c5  0  0
    weights  [quads][R][4] quad 0: w[r0,c0..c3] w[r1,c0..c3] w[r2,c0..c3] w[r3,c0..c3]
                           quad 1: w[r0,c4] w[r0,c5] 0 0   w[r1,c4] ...
    offsets  counts quads

**Dense4** (R = 4, k a multiple of 4): every column is stored, so there is no
column list; quad ``q`` of a group holds columns 4q..4q+3::

    weights  [groups][k / 4][4][4]    offsets  counts quads: g * k / 4

**Block1x4** (R = 1, k a multiple of 4): blocks of four consecutive, aligned inputs
of one output row, where any of the four is not zero, ascending::

    columns  [blocks]     first input channel of the block (a multiple of 4)
    weights  [blocks][4]  offsets  counts blocks

Rows that fill up the last group are ``PAD_ROW`` and have zero weights.

A bundle stores the columns as they are (``ColumnCoding.LIST``), or, where that is smaller, as
**masks**: for every group ``ceil(k / 8)`` bytes in which bit ``c % 8`` of byte ``c // 8`` is set for
each column ``c`` it lists (1x4: a bit for each of its ``k / 4`` blocks). The engine makes the list of
it at load, the filling included.
"""

from __future__ import annotations

from typing import Dict, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from obert_edge.bundle.program import ABSENT, ColumnCoding, Const, Linear, Program, WeightFormat
from obert_edge.errors import BundleError, UsageError

#: Marks a packed row that is no output channel.
PAD_ROW = 0xFFFFFFFF
#: Columns are stored as U16, and an int32 sum of k products must not overflow.
MAX_COLUMNS = 65535

_ROWS_PER_GROUP = {
    WeightFormat.ROW_GATHER_1: 1,
    WeightFormat.ROW_GATHER_2: 2,
    WeightFormat.ROW_GATHER_4: 4,
    WeightFormat.DENSE_4: 4,
    WeightFormat.BLOCK_1X4: 1,
}


class StoredUnits(NamedTuple):
    """What a format stores of one matrix.

    Attributes:
        groups: groups of R rows.
        units: quads (row-gather, dense) or blocks (1x4), padding included.
        weights: stored weights, padding included.
        bytes: bytes of ``rows``, ``offsets``, ``columns`` and ``weights`` together.
    """

    groups: int
    units: int
    weights: int
    bytes: int


def rows_per_group(weight_format: WeightFormat) -> int:
    """R: output rows that are computed together."""
    return _ROWS_PER_GROUP[weight_format]


def supports(weight_format: WeightFormat, columns: int) -> bool:
    """Whether a matrix with that many input columns can be stored in the format."""
    by_fours = weight_format in (WeightFormat.DENSE_4, WeightFormat.BLOCK_1X4)
    return 0 < columns <= MAX_COLUMNS and (not by_fours or columns % 4 == 0)


def count_units(weights: np.ndarray, weight_format: WeightFormat) -> StoredUnits:
    """What :func:`pack_linear` would store, without packing.

    Args:
        weights: int8 [n, k].
        weight_format: one that :func:`supports` k.

    Raises:
        UsageError: not an int8 matrix, or one the format cannot hold.
    """
    n, k = _check(weights, weight_format)
    size = rows_per_group(weight_format)
    groups = -(-n // size)
    if weight_format is WeightFormat.DENSE_4:
        units = groups * (k // 4)
    elif weight_format is WeightFormat.BLOCK_1X4:
        units = int(np.count_nonzero(np.ascontiguousarray(weights).view(np.int32)))
    else:
        listed_of = np.count_nonzero(_union_of_rows(weights, size), axis=1)
        units = int(((listed_of + 3) // 4).sum())
    listed = {WeightFormat.DENSE_4: 0, WeightFormat.BLOCK_1X4: units}.get(weight_format, 4 * units)
    stored = units * 4 * (1 if weight_format is WeightFormat.BLOCK_1X4 else size)
    return StoredUnits(groups, units, stored, 4 * groups * size + 4 * (groups + 1) + 2 * listed + stored)


def pack_linear(
    weights: np.ndarray, weight_format: WeightFormat, row_order: Optional[Sequence[int]] = None
) -> Dict[str, np.ndarray]:
    """Pack a quantized weight matrix.

    Args:
        weights: int8 [n, k], one row per output channel.
        weight_format: layout; see the module's diagrams.
        row_order: a permutation of the rows; rows ``row_order[R * g : R * (g + 1)]``
            form one group. Default: as they come, which keeps trained RxK blocks together.

    Returns:
        ``rows`` u32 [groups * R], ``offsets`` u32 [groups + 1], ``columns`` u16 (empty
        for Dense4) and ``weights`` int8, laid out as the module says.

    Raises:
        UsageError: not an int8 matrix, k not supported by the format, or ``row_order``
            not a permutation.
    """
    n, _ = _check(weights, weight_format)
    size = rows_per_group(weight_format)
    order = np.arange(n) if row_order is None else np.asarray(row_order, dtype=np.int64)
    if order.shape != (n,) or not np.array_equal(np.sort(order), np.arange(n)):
        raise UsageError(
            f"row_order is not a permutation of the {n} rows", hint="pass every row index exactly once"
        )
    padding = -n % size
    rows = np.concatenate([order.astype(np.uint32), np.full(padding, PAD_ROW, np.uint32)])
    ordered = weights if row_order is None else weights[order]
    if padding:
        ordered = np.concatenate([ordered, np.zeros((padding, weights.shape[1]), np.int8)])
    grouped = ordered.reshape(-1, size, weights.shape[1])
    if weight_format is WeightFormat.DENSE_4:
        return _pack_dense(grouped, rows)
    if weight_format is WeightFormat.BLOCK_1X4:
        return _pack_blocks(grouped[:, 0], rows)
    return _pack_row_gather(grouped, rows)


def unpack_linear(packed: Dict[str, np.ndarray], weight_format: WeightFormat, n: int, k: int) -> np.ndarray:
    """The int8 [n, k] matrix that :func:`pack_linear` was given.

    Args:
        packed: the arrays of :func:`pack_linear`, of any integer-compatible shape.
        weight_format: the format they were packed in.
        n: output channels.
        k: input columns.
    """
    size = rows_per_group(weight_format)
    rows = packed["rows"].reshape(-1, size)
    offsets = packed["offsets"].astype(np.int64)
    groups = rows.shape[0]
    group_of = np.repeat(np.arange(groups), np.diff(offsets))
    grouped = np.zeros((groups, size, k), np.int8)
    stored = packed["weights"].reshape(-1)
    if weight_format is WeightFormat.DENSE_4:
        grouped[:] = stored.reshape(groups, k // 4, size, 4).transpose(0, 2, 1, 3).reshape(groups, size, k)
    elif weight_format is WeightFormat.BLOCK_1X4:
        first = packed["columns"].astype(np.int64)
        grouped[group_of[:, None], 0, first[:, None] + np.arange(4)] = stored.reshape(-1, 4)
    else:
        quads = stored.reshape(-1, size, 4)
        columns = packed["columns"].reshape(-1, 4).astype(np.int64)
        used = quads.any(axis=1)  # the filling repeats column 0: it must not overwrite it
        quad, lane = np.nonzero(used)
        grouped[group_of[quad], :, columns[quad, lane]] = quads[quad, :, lane]
    matrix = np.zeros((n, k), np.int8)
    real = rows.reshape(-1) != PAD_ROW
    matrix[rows.reshape(-1)[real]] = grouped.reshape(-1, k)[real]
    return matrix


def code_columns(
    packed: Dict[str, np.ndarray], weight_format: WeightFormat, k: int
) -> Tuple[np.ndarray, ColumnCoding]:
    """The columns of :func:`pack_linear` as a bundle stores them: whatever takes fewer bytes.

    Args:
        packed: its arrays.
        weight_format: the format they were packed in.
        k: input columns.

    Returns:
        u16 (the list itself) or u8 [groups * bytes of a mask], and which of the two.
    """
    columns, block = packed["columns"], _columns_of_bit(weight_format)
    if weight_format is WeightFormat.DENSE_4:
        return columns, ColumnCoding.LIST
    groups, bits = len(packed["offsets"]) - 1, k // block
    listed, real = _listed(packed, weight_format)
    kept = np.zeros((groups, 8 * -(-bits // 8)), bool)
    kept[listed[real], columns[real] // block] = True
    masks = np.packbits(kept, axis=1, bitorder="little").reshape(-1)
    if masks.nbytes >= columns.nbytes or not np.array_equal(
        _list_of_masks(masks, packed["offsets"], weight_format, k), columns
    ):
        return columns, ColumnCoding.LIST
    return masks, ColumnCoding.MASKS


def _columns_of_bit(weight_format: WeightFormat) -> int:
    return 4 if weight_format is WeightFormat.BLOCK_1X4 else 1


def _listed(packed: Dict[str, np.ndarray], weight_format: WeightFormat) -> Tuple[np.ndarray, np.ndarray]:
    """Of every listed column: its group, and whether it is more than filling."""
    ends = packed["offsets"].astype(np.int64)
    counts: np.ndarray = ends[1:] - ends[:-1]
    if weight_format is WeightFormat.BLOCK_1X4:
        return np.repeat(np.arange(len(counts)), counts), np.ones(len(packed["columns"]), bool)
    size = rows_per_group(weight_format)
    used = packed["weights"].reshape(-1, size, 4).any(axis=1).reshape(-1)
    return np.repeat(np.arange(len(counts)), 4 * counts), used


def _list_of_masks(masks: np.ndarray, offsets: np.ndarray, weight_format: WeightFormat, k: int) -> np.ndarray:
    """u16: the columns of a packed matrix, from their masks."""
    block, groups = _columns_of_bit(weight_format), len(offsets) - 1
    group, bit = np.nonzero(np.unpackbits(masks.reshape(groups, -1), axis=1, bitorder="little"))
    step = 1 if weight_format is WeightFormat.BLOCK_1X4 else 4
    columns = np.zeros(step * int(offsets[-1]), np.uint16)
    starts = np.searchsorted(group, np.arange(groups))
    at = step * offsets[group].astype(np.int64) + np.arange(len(group)) - starts[group]
    if len(at) and at[-1] >= len(columns):
        raise BundleError(
            f"the masks of a linear hold {len(group)} bits; its offsets say {len(columns)}",
            hint="copy the bundle again; it was altered on the way",
        )
    columns[at] = block * bit
    return columns


def unpack_op(program: Program, op: Linear, weights: Union[bytes, memoryview]) -> np.ndarray:
    """The int8 [n, k] weights of a linear op of a compiled graph.

    Args:
        program: the graph.
        op: one of its linears.
        weights: the weights blob of the same bundle.
    """
    masks = op.column_coding == ColumnCoding.MASKS
    dtypes = {"rows": "<u4", "offsets": "<u4", "columns": "u1" if masks else "<u2", "weights": "i1"}
    packed: Dict[str, np.ndarray] = {}
    for name, dtype in dtypes.items():
        index = getattr(op, name)
        span = program.consts[index] if index != ABSENT else Const(0, 0)
        packed[name] = np.frombuffer(weights[span.offset : span.offset + span.bytes], dtype)
    if masks:
        packed["columns"] = _list_of_masks(
            packed["columns"], packed["offsets"], WeightFormat(op.format), op.k
        )
    return unpack_linear(packed, WeightFormat(op.format), op.n, op.k)


def _union_of_rows(weights: np.ndarray, size: int) -> np.ndarray:
    """Non-zero where any of ``size`` consecutive rows is: int8 [groups, k]."""
    union = weights[::size].copy()
    for row in range(1, size):
        part = weights[row::size]
        union[: len(part)] |= part
    return union


def _check(weights: np.ndarray, weight_format: WeightFormat) -> tuple[int, int]:
    if weights.ndim != 2 or weights.dtype != np.int8 or weights.shape[0] == 0:
        raise UsageError(
            f"packing takes an int8 matrix with at least one row; found {weights.dtype} {weights.shape}",
            hint="quantize the weights first",
        )
    n, k = weights.shape
    if not supports(weight_format, k):
        raise UsageError(
            f"{weight_format.name} cannot hold {k} input columns (at most {MAX_COLUMNS}; Dense4 and "
            "Block1x4 need a multiple of 4)",
            hint="use a row-gather format",
        )
    return n, k


def _by_size(rows: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Order groups by units, most first: (permutation, rows in that order, offsets)."""
    order = np.argsort(-counts, kind="stable")
    offsets = np.zeros(len(counts) + 1, np.uint32)
    np.cumsum(counts[order], out=offsets[1:])
    return order, rows.reshape(len(counts), -1)[order].reshape(-1), offsets


def _pack_dense(grouped: np.ndarray, rows: np.ndarray) -> Dict[str, np.ndarray]:
    groups, size, k = grouped.shape
    quads = np.ascontiguousarray(grouped.reshape(groups, size, k // 4, 4).transpose(0, 2, 1, 3))
    return {
        "rows": rows,
        "offsets": (np.arange(groups + 1) * (k // 4)).astype(np.uint32),
        "columns": np.zeros(0, np.uint16),
        "weights": quads.reshape(-1),
    }


def _pack_blocks(matrix: np.ndarray, rows: np.ndarray) -> Dict[str, np.ndarray]:
    blocks = matrix.reshape(matrix.shape[0], -1, 4)
    occupied = (blocks != 0).any(axis=2)
    order, rows, offsets = _by_size(rows, occupied.sum(axis=1))
    row, block = np.nonzero(occupied[order])
    return {
        "rows": rows,
        "offsets": offsets,
        "columns": (4 * block).astype(np.uint16),
        "weights": blocks[order[row], block].reshape(-1),
    }


def _pack_row_gather(grouped: np.ndarray, rows: np.ndarray) -> Dict[str, np.ndarray]:
    size = grouped.shape[1]
    occupied = (grouped != 0).any(axis=1)
    listed = occupied.sum(axis=1)
    order, rows, offsets = _by_size(rows, (listed + 3) // 4)
    group, column = np.nonzero(occupied[order])
    starts = np.concatenate([[0], np.cumsum(listed[order])])
    at = 4 * offsets[group].astype(np.int64) + np.arange(len(group)) - starts[group]
    columns = np.zeros(4 * int(offsets[-1]), np.uint16)
    columns[at] = column
    lanes = np.zeros((len(columns), size), np.int8)
    lanes[at] = grouped[order[group], :, column]
    quads = np.ascontiguousarray(lanes.reshape(-1, 4, size).transpose(0, 2, 1))
    return {"rows": rows, "offsets": offsets, "columns": columns, "weights": quads.reshape(-1)}
