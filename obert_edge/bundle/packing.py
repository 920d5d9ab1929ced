"""Weight packing: a quantized INT8 matrix to the arrays of a linear op, and back.

A packed matrix is a list of *groups* of R output rows. A group stores *units*: the weights of four input
columns of its R rows, ``[R][4]``; ``offsets[g]`` is the first unit of group ``g``. Groups are ordered by
how much they store (most first), so that equal neighbors balance between threads; ``rows`` says which
output channel each packed row is. R and the kind of unit of each format are facts of
:class:`~obert_edge.bundle.ops.WeightFormat`, which come from ``bundle/schema.py``.

**Row-gather** (sparse, block 1; R = 1, 2, 4: unstructured, 2x1, 4x1). The R rows of a group share one
list of input columns, those where any of them is not zero, ascending. A unit is a *quad*: any four listed
columns. The last quad of a group is padded with column 0 and zero weights::

    group g, R = 4, columns c0 c1 c2 c3 | c4 c5 -- --
    columns  [4 * quads]   c0 c1 c2 c3 c4 c5  0  0
    weights  [quads][R][4] quad 0: w[r0,c0..c3] w[r1,c0..c3] w[r2,c0..c3] w[r3,c0..c3]
                           quad 1: w[r0,c4] w[r0,c5] 0 0   w[r1,c4] ...
    offsets  counts quads

**Dense4** (R = 4, k a multiple of 4): every column is stored, so there is no column list; quad ``q`` of a
group holds columns 4q..4q+3::

    weights  [groups][k / 4][4][4]    offsets  counts quads: g * k / 4

**Block1x4** (sparse, block 4; R = 1, k a multiple of 4): a unit is a *block* of four consecutive, aligned
inputs of one output row, stored where any of the four is not zero, ascending::

    columns  [blocks]     first input channel of the block (a multiple of 4)
    weights  [blocks][4]  offsets  counts blocks

Rows that pad the last group are ``PAD_ROW`` and have zero weights.

A bundle stores the columns as they are (``ColumnCoding.LIST``), or, where that is smaller, as **masks**:
for every group ``ceil(k / 8)`` bytes in which bit ``c % 8`` of byte ``c // 8`` is set for each column
``c`` it lists (1x4: a bit for each of its ``k / 4`` blocks). The engine makes the list again at load, the
padding included.
"""

from __future__ import annotations

from typing import Dict, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from obert_edge.bundle.ops import ABSENT, MAX_COLUMNS, PAD_ROW, ColumnCoding, Linear, WeightFormat
from obert_edge.bundle.program import Const, Program
from obert_edge.errors import BundleError, UsageError

#: A matrix of more weights than any encoder has.
_MOST_WEIGHTS = 1 << 30


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


def supports(weight_format: WeightFormat, columns: int) -> bool:
    """Whether a matrix with that many input columns can be stored in the format."""
    by_fours = not weight_format.is_sparse or weight_format.block == 4
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
    size = weight_format.rows
    groups = -(-n // size)
    if not weight_format.is_sparse:
        units = groups * (k // 4)
    else:
        union = _union_of_rows(weights, size)
        if weight_format.block == 4:
            units = int(np.count_nonzero(np.ascontiguousarray(union).view(np.int32)))
        else:
            listed = np.count_nonzero(union, axis=1)
            units = int(((listed + 3) // 4).sum())
    stored = units * 4 * size
    numbers = units * _numbers_of_unit(weight_format)
    return StoredUnits(groups, units, stored, 4 * groups * size + 4 * (groups + 1) + 2 * numbers + stored)


def pack_linear(
    weights: np.ndarray, weight_format: WeightFormat, row_order: Optional[Sequence[int]] = None
) -> Dict[str, np.ndarray]:
    """Pack a quantized weight matrix.

    Args:
        weights: int8 [n, k], one row per output channel.
        weight_format: the layout; see the module's diagrams.
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
    size = weight_format.rows
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
    if not weight_format.is_sparse:
        return _pack_dense(grouped, rows)
    return _pack_blocks(grouped, rows) if weight_format.block == 4 else _pack_row_gather(grouped, rows)


def unpack_linear(packed: Dict[str, np.ndarray], weight_format: WeightFormat, n: int, k: int) -> np.ndarray:
    """The int8 [n, k] matrix that :func:`pack_linear` was given.

    Args:
        packed: the arrays of :func:`pack_linear`, of any integer-compatible shape.
        weight_format: the format they were packed in.
        n: output channels.
        k: input columns.
    """
    size = weight_format.rows
    rows = packed["rows"].reshape(-1, size)
    offsets = packed["offsets"].astype(np.int64)
    groups = rows.shape[0]
    group_of = np.repeat(np.arange(groups), np.diff(offsets))
    grouped = np.zeros((groups, size, k), np.int8)
    stored = packed["weights"].reshape(-1)
    if not weight_format.is_sparse:
        grouped[:] = stored.reshape(groups, k // 4, size, 4).transpose(0, 2, 1, 3).reshape(groups, size, k)
    elif weight_format.block == 4:
        columns = packed["columns"].astype(np.int64)[:, None] + np.arange(4)
        grouped[group_of[:, None], :, columns] = stored.reshape(-1, size, 4).transpose(0, 2, 1)
    else:
        quads = stored.reshape(-1, size, 4)
        columns = packed["columns"].reshape(-1, 4).astype(np.int64)
        used = quads.any(axis=1)  # the padding repeats column 0 and must not overwrite it
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
    columns, block = packed["columns"], weight_format.block
    if not weight_format.is_sparse:
        return columns, ColumnCoding.LIST
    groups, bits = len(packed["offsets"]) - 1, k // block
    listed, real = _listed(packed, weight_format)
    kept = np.zeros((groups, 8 * -(-bits // 8)), bool)
    kept[listed[real], columns[real] // block] = True
    masks = np.packbits(kept, axis=1, bitorder="little").reshape(-1)
    if masks.nbytes >= columns.nbytes or not np.array_equal(
        _list_of_masks(masks, packed["offsets"], weight_format), columns
    ):
        return columns, ColumnCoding.LIST
    return masks, ColumnCoding.MASKS


def _numbers_of_unit(weight_format: WeightFormat) -> int:
    """How many numbers of the column list belong to one unit of four columns."""
    return 4 // weight_format.block if weight_format.is_sparse else 0


def _listed(packed: Dict[str, np.ndarray], weight_format: WeightFormat) -> Tuple[np.ndarray, np.ndarray]:
    """For every number of the column list: its group, and whether it is a column and not padding."""
    ends = packed["offsets"].astype(np.int64)
    counts: np.ndarray = ends[1:] - ends[:-1]
    groups = np.repeat(np.arange(len(counts)), _numbers_of_unit(weight_format) * counts)
    if weight_format.block == 4:
        return groups, np.ones(len(groups), bool)
    return groups, packed["weights"].reshape(-1, weight_format.rows, 4).any(axis=1).reshape(-1)


def _list_of_masks(masks: np.ndarray, offsets: np.ndarray, weight_format: WeightFormat) -> np.ndarray:
    """The column list of a packed matrix (u16), from its masks (u8)."""
    groups, numbers = len(offsets) - 1, _numbers_of_unit(weight_format)
    group, bit = np.nonzero(np.unpackbits(masks.reshape(groups, -1), axis=1, bitorder="little"))
    columns = np.zeros(numbers * int(offsets[-1]), np.uint16)
    starts = np.searchsorted(group, np.arange(groups))
    at = numbers * offsets[group].astype(np.int64) + np.arange(len(group)) - starts[group]
    if len(at) and at[-1] >= len(columns):
        raise BundleError(
            f"the masks of a linear hold {len(group)} bits; its offsets say {len(columns)}",
            hint="copy the bundle again; it was altered on the way",
        )
    columns[at] = weight_format.block * bit
    return columns


def unpack_op(program: Program, op: Linear, weights: Union[bytes, memoryview]) -> np.ndarray:
    """The int8 [n, k] weights of a linear op of a compiled graph.

    Args:
        program: the graph.
        op: one of its linears.
        weights: the weights blob of the same bundle.

    Raises:
        BundleError: the constants of the op are no such matrix.
    """
    try:
        return _unpack_op(program, op, weights)
    except (ArithmeticError, IndexError, ValueError) as error:
        raise _no_matrix(op, str(error)) from error


def _unpack_op(program: Program, op: Linear, weights: Union[bytes, memoryview]) -> np.ndarray:
    masks = op.column_coding == ColumnCoding.MASKS
    dtypes = {"rows": "<u4", "offsets": "<u4", "columns": "u1" if masks else "<u2", "weights": "i1"}
    packed: Dict[str, np.ndarray] = {}
    for name, dtype in dtypes.items():
        index = getattr(op, name)
        span = program.consts[index] if index != ABSENT else Const(0, 0)
        packed[name] = np.frombuffer(weights[span.offset : span.offset + span.bytes], dtype)
    offsets, unit = packed["offsets"], 4 * WeightFormat(op.format).rows
    stored = len(packed["weights"]) // unit
    if not (op.n > 0 and 0 < op.k <= MAX_COLUMNS and op.n * op.k <= _MOST_WEIGHTS):
        raise _no_matrix(op, f"it would have {op.n} x {op.k} weights")
    if not len(offsets) or offsets[-1] != stored or (offsets[1:] < offsets[:-1]).any():
        raise _no_matrix(
            op, f"its offsets do not ascend to the {stored} units of four columns that it stores"
        )
    if masks:
        packed["columns"] = _list_of_masks(packed["columns"], packed["offsets"], WeightFormat(op.format))
    return unpack_linear(packed, WeightFormat(op.format), op.n, op.k)


def _no_matrix(op: Linear, why: str) -> BundleError:
    return BundleError(
        f"the constants of {op.name!r} are no weights of {op.n} rows in the format {op.format}: {why}",
        hint="copy the bundle again; it was altered on the way",
    )


def _union_of_rows(weights: np.ndarray, size: int) -> np.ndarray:
    """Non-zero where any of ``size`` consecutive rows is: int8 [groups, k]."""
    if size == 1:
        return weights
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
    """Groups ordered by their units, most first: (permutation, rows in that order, offsets)."""
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


def _pack_blocks(grouped: np.ndarray, rows: np.ndarray) -> Dict[str, np.ndarray]:
    groups, size, k = grouped.shape
    blocks = grouped.reshape(groups, size, k // 4, 4).transpose(0, 2, 1, 3)
    occupied = (blocks != 0).any(axis=(2, 3))
    order, rows, offsets = _by_size(rows, occupied.sum(axis=1))
    group, block = np.nonzero(occupied[order])
    return {
        "rows": rows,
        "offsets": offsets,
        "columns": (4 * block).astype(np.uint16),
        "weights": blocks[order[group], block].reshape(-1),
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
