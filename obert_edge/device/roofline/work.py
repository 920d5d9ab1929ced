"""What each op has to do at least, counted from the compiled program.

``docs/reference/roofline.md`` derives the numbers. Nothing here knows how fast a machine or a kernel is. A
new kind of op is one function and one row of :data:`WORK`; a new weight format has its facts in the schema.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, Sequence, Set, Type, Union

from obert_edge.bundle.manifest import Manifest
from obert_edge.bundle.ops import (
    ABSENT,
    PANEL_STEP,
    PANEL_TOKENS,
    Activation,
    Attention,
    ColumnCoding,
    Domain,
    Embed,
    LayerNorm,
    Linear,
    MeanPool,
    Multiply,
    Op,
    Output,
    Quantize,
    QuantizeDynamic,
    Rotate,
    RowFormat,
    SelectFirst,
    WeightFormat,
)
from obert_edge.bundle.program import Program

#: Bytes of a first-level cache, and of one of its lines.
_L1 = 32 << 10
_LINE = 64
#: Float instructions for each value, of which a vector unit does as many per cycle as multiply-adds.
_EPILOGUE = {
    Activation.NONE: 5,
    Activation.RELU: 6,
    Activation.GELU: 19,
    Activation.GELU_TANH: 19,
    Activation.TANH: 20,
    Activation.SILU: 22,
}
_SOFTMAX = 13
_POSITIONS = 5
_LAYER_NORM = 10
_QUANTIZE = 4
_QUANTIZE_DYNAMIC = 7
_ROTATE = 6
_MULTIPLY = 5
_EMBED = 4


@dataclass(frozen=True)
class Work:
    """What an op does at least, in one run.

    Args:
        multiply_adds: 8-bit multiply-adds, of stored weights and padded tokens.
        gathered_rows: rows that share gathered columns; 0: nothing is gathered.
        shuffled: bytes through shuffles (not of gathered columns: their rate has the shuffles in it).
        floats: float32 instructions times lanes.
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


def work_of(program: Program, op: Op, lengths: Sequence[int]) -> Work:
    """Count what an op does.

    Args:
        program: the compiled graph.
        op: one of its ops.
        lengths: tokens of each sequence of the batch.
    """
    return WORK[type(op)](program, op, lengths)


def multiply_adds_by_kernel(manifest: Manifest, sequence_length: int) -> Dict[str, float]:
    """INT8 multiply-adds of one sequence, counted from the manifest alone, padding left out.

    Args:
        manifest: of a bundle.
        sequence_length: tokens.

    Returns:
        Multiply-adds by what computes them: the name of the stored weights' format, or ``attention``.
    """
    found: Dict[str, float] = {}
    for linear in manifest.linears:
        tokens = sequence_length if linear.per_token else 1
        work = linear.n * linear.k * (1 - linear.sparsity) * tokens
        found[linear.format] = found.get(linear.format, 0.0) + work
    model = manifest.model
    return {**found, "attention": 2.0 * model.layers * model.hidden * sequence_length**2}


def const_bytes(program: Program, op: Op) -> int:
    """Bytes of all constants of an op as kernels read them: columns stored as masks are lists by then."""
    indices = {getattr(op, name) for name in op.CONSTS} - {ABSENT}
    stored: int = sum(program.consts[index].bytes for index in indices)
    return stored + _bytes_of_lists(program, op)


def weight_bytes(program: Program) -> int:
    """Bytes of the constants that every run reads: all but the embedding tables."""
    tables: Set[int] = set()
    read: Set[int] = set()  # by other ops, which may share a constant with an embedding
    for op in program.ops:
        (tables if isinstance(op, Embed) else read).update(getattr(op, name) for name in op.CONSTS)
    left_out = tables - read
    stored = sum(const.bytes for index, const in enumerate(program.consts) if index not in left_out)
    return stored + sum(_bytes_of_lists(program, op) for op in program.ops)


def _format(op: Linear) -> WeightFormat:
    """The weight format of an op; one that is newer than this reader is taken for 1x4 blocks."""
    try:
        return WeightFormat(op.format)
    except ValueError:
        return WeightFormat.BLOCK_1X4


def _gathers(weight_format: WeightFormat) -> bool:
    """Whether kernels shuffle the listed columns anew for every group of rows.

    The kernels of the other formats interleave a panel once for all groups.
    """
    return weight_format.is_sparse and weight_format.block == 1


def _bytes_of_lists(program: Program, op: Op) -> int:
    """How many more bytes the column lists of an op take than the masks it stores them as."""
    if not isinstance(op, Linear) or op.column_coding != ColumnCoding.MASKS:
        return 0
    listed = program.consts[op.weights].bytes // (_format(op).rows * _format(op).block)
    return 2 * listed - program.consts[op.columns].bytes


def _linear(program: Program, op: Linear, lengths: Sequence[int]) -> Work:
    tokens = _padded(_tokens(program, op.output, lengths))
    stored = program.consts[op.weights].bytes
    weights = _format(op)
    results = tokens * op.n * program.buffers[op.output].dtype.bytes
    floats = _EPILOGUE.get(op.activation, 5) * tokens * op.n  # type: ignore[call-overload]
    residual = 0 if op.residual == ABSENT else 4 * tokens * op.n
    panel = op.k * min(tokens, PANEL_TOKENS)
    beyond = max(0.0, 1 - _L1 / max(panel, 1))  # a damaged program may have no channels
    if _gathers(weights):
        # Per quad: four rows of activations, and a broadcast of a full register for each row of weights.
        quads = stored / (4 * weights.rows)
        loads, shuffled = quads * (4 + weights.rows) * tokens, 0.0
        # Of what is gathered from a panel larger than L1, this much is not there when it is wanted.
        missed = quads * 4 * tokens * beyond
    else:
        # A panel is interleaved once; then every group of rows (dense) or every block loads it again.
        loads = stored * tokens * (1 / weights.rows + 0.25)
        shuffled = 2.0 * op.k * tokens
        missed = stored / weights.rows * tokens * beyond
    return Work(
        multiply_adds=float(stored) * tokens,
        gathered_rows=weights.rows if _gathers(weights) else 0,
        shuffled=shuffled,
        floats=floats,
        l1=loads + residual,
        l2=missed + op.k * tokens + residual,
        written=results,
        memory=const_bytes(program, op),
    )


def _attention(program: Program, op: Attention, lengths: Sequence[int]) -> Work:
    channels = op.heads * op.head_dim
    seen = [min(length, 2 * op.window + 1) if op.window else length for length in lengths]
    scores = sum(_padded(length) * _padded(keys) for length, keys in zip(lengths, seen))
    tokens = sum(_padded(length) for length in lengths)
    products, loads, memory, floats = 2.0, 4.0 * bool(op.distances), 0.0, _SOFTMAX
    if op.positions:
        # Two products more, whose rows serve one key and one vector of queries; and their two scales.
        products, loads, floats = 4.0, 2.0 * op.head_dim + 8.0, _SOFTMAX + _POSITIONS
        memory = const_bytes(program, op)
    return Work(
        multiply_adds=products * scores * channels,
        floats=floats * scores * op.heads,
        shuffled=4.0 * tokens * channels,
        l2=3.0 * tokens * channels,
        l1=loads * scores * op.heads,
        written=tokens * channels,
        memory=memory,
    )


def _layer_norm(program: Program, op: LayerNorm, lengths: Sequence[int]) -> Work:
    values = _padded(_tokens(program, op.input, lengths)) * op.channels
    written = values * (4 * (op.output != ABSENT) + (op.quantized != ABSENT))
    return Work(floats=_LAYER_NORM * values, l1=12 * values, l2=12 * values, written=written)


def _quantize(program: Program, op: Quantize, lengths: Sequence[int]) -> Work:
    values = _padded(_tokens(program, op.input, lengths)) * op.channels
    return Work(floats=_QUANTIZE * values, l1=4 * values, l2=4 * values, written=values)


def _quantize_dynamic(program: Program, op: QuantizeDynamic, lengths: Sequence[int]) -> Work:
    """As with static parameters, but the values are read twice: the range of a token comes first."""
    values = _padded(_tokens(program, op.input, lengths)) * op.channels
    return Work(floats=_QUANTIZE_DYNAMIC * values, l1=8 * values, l2=8 * values, written=values)


def _rotate(program: Program, op: Rotate, lengths: Sequence[int]) -> Work:
    values = _padded(sum(lengths)) * op.heads * op.head_dim
    return Work(floats=_ROTATE * values, l1=4 * values, l2=4 * values, written=values)


def _multiply(program: Program, op: Multiply, lengths: Sequence[int]) -> Work:
    values = _padded(_tokens(program, op.left, lengths)) * op.channels
    return Work(floats=_MULTIPLY * values, l1=8 * values, l2=8 * values, written=values)


def _embed(program: Program, op: Embed, lengths: Sequence[int]) -> Work:
    values = _padded(sum(lengths)) * op.channels
    word = 0.0 if op.word == ABSENT else 0.5 if op.word_format == RowFormat.INT4 else 1.0
    rows = word + (op.position != ABSENT)
    read = (rows + (op.token_type != ABSENT)) * values
    return Work(floats=_EMBED * values, l1=read, written=4 * values, memory=rows * values)


def _select_first(program: Program, op: SelectFirst, lengths: Sequence[int]) -> Work:
    """Of each channel's row in a panel, one value is wanted and a whole line of the cache is read."""
    reads = _LINE * len(lengths) * op.channels
    return Work(l1=reads, l2=reads)


def _read_once(program: Program, op: Union[MeanPool, Output], lengths: Sequence[int]) -> Work:
    reads = 4 * _tokens(program, op.input, lengths) * op.channels
    return Work(floats=reads / 4, l1=reads, l2=reads)


#: How to count the work of each kind of op: ``count(program, op, lengths)``.
WORK: Dict[Type[Op], Callable[[Program, Any, Sequence[int]], Work]] = {
    Embed: _embed,
    LayerNorm: _layer_norm,
    Quantize: _quantize,
    QuantizeDynamic: _quantize_dynamic,
    Linear: _linear,
    Attention: _attention,
    SelectFirst: _select_first,
    MeanPool: _read_once,
    Rotate: _rotate,
    Multiply: _multiply,
    Output: _read_once,
}


def _tokens(program: Program, buffer: int, lengths: Sequence[int]) -> int:
    """Columns of a buffer: the tokens of the batch, or its sequences."""
    return sum(lengths) if program.buffers[buffer].domain is Domain.TOKENS else len(lengths)


def _padded(tokens: int) -> int:
    """The lanes that kernels compute: whole steps of a panel."""
    return -(-tokens // PANEL_STEP) * PANEL_STEP
