"""The model of the limit: what each op has to do at least, and how long that takes at the machine's peaks.

``docs/performance.md`` derives the numbers. Work is counted from the compiled program; nothing here knows how
fast a kernel really is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Optional, Sequence, Set

from obert_edge.bundle.program import (
    ABSENT,
    Activation,
    Attention,
    ColumnCoding,
    Domain,
    Embed,
    LayerNorm,
    Linear,
    MeanPool,
    Op,
    Output,
    Program,
    Quantize,
    QuantizeDynamic,
    RowFormat,
    SelectFirst,
    WeightFormat,
)
from obert_edge.device.roofline.peaks import Peaks

_STEP = 16  # tokens: what a panel's width is a multiple of
_PANEL = 64
_L1 = 32 << 10
_LINE = 64
#: Rows that share a list of columns, of the formats whose activations are shuffled for each of them.
GATHERED = {
    WeightFormat.ROW_GATHER_1: 1,
    WeightFormat.ROW_GATHER_2: 2,
    WeightFormat.ROW_GATHER_4: 4,
}
#: Float instructions for each value, of which a vector unit does as many per cycle as multiply-adds.
_FINISH = {Activation.NONE: 5, Activation.RELU: 6, Activation.GELU: 19, Activation.GELU_TANH: 19}
_FINISH_TANH = 20
_SOFTMAX = 13
_LAYER_NORM = 10
_QUANTIZE = 4
_QUANTIZE_DYNAMIC = 7
_EMBED = 4


@dataclass(frozen=True)
class Work:
    """What an op does at least, in one run.

    Args:
        multiply_adds: 8-bit, of stored weights and padded tokens.
        gathered_rows: rows that share gathered columns; 0: nothing is gathered.
        shuffled: bytes through shuffles (not of gathered columns: their rate has the shuffles in it).
        floats: float instructions times lanes.
        l1: bytes loaded into registers.
        l2: bytes read that do not fit in L1.
        written: bytes of results.
        memory: bytes of constants.
    """

    multiply_adds: float = 0
    gathered_rows: int = 0
    shuffled: float = 0
    floats: float = 0
    l1: float = 0
    l2: float = 0
    written: float = 0
    memory: float = 0

    @property
    def moved(self) -> float:
        """Bytes between L1 and what is behind it."""
        return self.l2 + self.written + self.memory


@dataclass(frozen=True)
class Bound:
    """The least time of an op.

    Args:
        nanoseconds: of one run.
        by: what takes them.
    """

    nanoseconds: float
    by: str


def work_of(program: Program, op: Op, lengths: Sequence[int]) -> Work:
    """Count what an op does.

    Args:
        program: the compiled graph.
        op: one of its ops.
        lengths: tokens of each sequence of the batch.
    """
    tokens = _padded(sum(lengths))
    if isinstance(op, Linear):
        return _linear(program, op, lengths)
    if isinstance(op, Attention):
        return _attention(op, lengths)
    if isinstance(op, LayerNorm):
        values = _padded(_columns(program, op.input, lengths)) * op.channels
        written = values * (4 * (op.output != ABSENT) + (op.quantized != ABSENT))
        return Work(floats=_LAYER_NORM * values, l1=12 * values, l2=12 * values, written=written)
    if isinstance(op, (Quantize, QuantizeDynamic)):
        values = _padded(_columns(program, op.input, lengths)) * op.channels
        dynamic = isinstance(op, QuantizeDynamic)
        reads = 4 * values * (2 if dynamic else 1)
        floats = (_QUANTIZE_DYNAMIC if dynamic else _QUANTIZE) * values
        return Work(floats=floats, l1=reads, l2=reads, written=values)
    if isinstance(op, Embed):
        values = tokens * op.channels
        word = 0.5 if op.word_format == RowFormat.INT4 else 1.0
        read = (word + 1 + (op.token_type != ABSENT)) * values
        return Work(floats=_EMBED * values, l1=read, written=4 * values, memory=(word + 1) * values)
    if isinstance(op, SelectFirst):  # of each row of the panel, a line of the cache
        reads = _LINE * len(lengths) * op.channels
        return Work(l1=reads, l2=reads)
    if isinstance(op, (MeanPool, Output)):
        reads = 4 * _columns(program, op.input, lengths) * op.channels
        return Work(floats=reads / 4, l1=reads, l2=reads)
    return Work()


def bound_of(work: Work, peaks: Peaks) -> Bound:
    """The time no implementation of this form can be below.

    Arithmetic (multiply-adds, shuffles and float steps) shares the vector units, so its times add up; loads
    and the levels of the memory work beside it, so the longest of them all is the bound.
    """
    gathered = peaks.row_gather.get(work.gathered_rows, 0.0)
    arithmetic: Dict[str, float] = {
        "shuffles": work.shuffled / peaks.shuffle,
        "float steps": work.floats / peaks.float_multiply_add,
    }
    if gathered > 0:
        arithmetic["row-gather"] = work.multiply_adds / gathered
    else:
        arithmetic["multiply-adds"] = work.multiply_adds / peaks.multiply_add
    times = {
        max(arithmetic, key=lambda name: arithmetic[name]): sum(arithmetic.values()),
        "L1 loads": work.l1 / peaks.read_l1,
        "L2": max(work.l2 / peaks.read_l2, work.written / peaks.write_l2),
        "memory": work.memory / peaks.read_memory,
    }
    by = max(times, key=lambda name: times[name])
    return Bound(times[by], by)


def const_bytes(program: Program, op: Op) -> int:
    """Bytes of all constants of an op as kernels read them: columns stored as masks are lists by then."""
    indices = {getattr(op, name) for name in op.CONSTS} - {ABSENT}
    stored: int = sum(program.consts[index].bytes for index in indices)
    return stored + _bytes_of_lists(program, op)


def _bytes_of_lists(program: Program, op: Op) -> int:
    """What the lists of columns of an op take more than its masks."""
    if not isinstance(op, Linear) or op.column_coding != ColumnCoding.MASKS:
        return 0
    listed = program.consts[op.weights].bytes // (_gathered(op) or 4)
    return 2 * listed - program.consts[op.columns].bytes


def _linear(program: Program, op: Linear, lengths: Sequence[int]) -> Work:
    columns = _padded(_columns(program, op.output, lengths))
    stored = program.consts[op.weights].bytes
    rows = _gathered(op)
    results = columns * op.n * program.buffers[op.output].dtype.bytes
    activation = Activation(op.activation)
    floats = _FINISH.get(activation, _FINISH_TANH) * columns * op.n
    residual = 0 if op.residual == ABSENT else 4 * columns * op.n
    panel = op.k * min(columns, _PANEL)
    if rows:
        # Per quad: four rows of activations, and a broadcast of a full register for each row of weights.
        quads = stored / (4 * rows)
        loads, shuffled = quads * (4 + rows) * columns, 0.0
        # Of what is gathered from a panel larger than L1, this much is not there when it is wanted.
        missed = quads * 4 * columns * max(0.0, 1 - _L1 / panel)
    else:
        # A panel is interleaved once; then every four rows (dense) or every block load it again.
        together = 4 if op.format == WeightFormat.DENSE_4 else 1
        loads = stored * columns * (1 / together + 0.25)
        shuffled = 2.0 * op.k * columns
        missed = stored / together * columns * max(0.0, 1 - _L1 / panel)
    return Work(
        multiply_adds=float(stored) * columns,
        gathered_rows=rows,
        shuffled=shuffled,
        floats=floats,
        l1=loads + residual,
        l2=missed + op.k * columns + residual,
        written=results,
        memory=const_bytes(program, op),
    )


def _gathered(op: Linear) -> int:
    try:
        return GATHERED.get(WeightFormat(op.format), 0)
    except ValueError:  # a format newer than this model
        return 0


def _attention(op: Attention, lengths: Sequence[int]) -> Work:
    channels = op.heads * op.head_dim
    scores = sum(_padded(length) ** 2 for length in lengths)
    tokens = sum(_padded(length) for length in lengths)
    return Work(
        multiply_adds=2.0 * scores * channels,
        floats=_SOFTMAX * scores * op.heads,
        shuffled=4.0 * tokens * channels,
        l2=3.0 * tokens * channels,
        written=tokens * channels,
    )


def _columns(program: Program, buffer: int, lengths: Sequence[int]) -> int:
    return sum(lengths) if program.buffers[buffer].domain is Domain.TOKENS else len(lengths)


def _padded(columns: int) -> int:
    return -(-columns // _STEP) * _STEP


def weight_bytes(program: Program) -> int:
    """Bytes of the constants that every run reads: all but the embedding tables."""
    embedded: Optional[Set[int]] = None
    for op in program.ops:
        if isinstance(op, Embed):
            embedded = {getattr(op, name) for name in op.CONSTS}
    spans = enumerate(program.consts)
    stored = sum(const.bytes for index, const in spans if embedded is None or index not in embedded)
    return stored + sum(_bytes_of_lists(program, op) for op in program.ops)
