"""The compiled graph: a flat list of fused ops over pre-planned buffers.

This module is the Python twin of ``engine/program.h``. The compiler writes a
:class:`Program` with :meth:`Program.to_bytes`; the engine parses the same bytes
in C++; ``inspect`` and the baselines read it back with :meth:`Program.from_bytes`.
Weights live in a second blob (``weights.bin``): a constant is an offset and a
length into it, 64-byte aligned.

Layout of the blob (little endian)::

    header   8s magic "OBERTPRG" | u32 version | u32 n_buffers | u32 n_consts | u32 n_ops
             | u32 max_positions | u32 n_slots | 32 bytes zero
    buffers  n_buffers x { u32 dtype, u32 domain, u32 channels, u32 slot }
    consts   n_consts  x { u64 offset, u64 bytes }
    ops      n_ops     x { u32 kind, i32 inputs[4], i32 outputs[4], i32 consts[12],
                           i32 ints[12], f32 floats[8], 64s name }

``-1`` stands for "absent" wherever a buffer or constant is optional. What each
op computes, bit for bit, is in ``docs/numerics.md``.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass, field
from typing import Any, ClassVar, Dict, List, Tuple, Type

from obert_edge.errors import BundleError

MAGIC = b"OBERTPRG"
VERSION = 1
ABSENT = -1

#: Tokens in a full activation panel; narrower panels hold a multiple of 16.
PANEL_TOKENS = 64
PANEL_STEP = 16

_HEADER = struct.Struct("<8s6I32x")
_BUFFER = struct.Struct("<4I")
_CONST = struct.Struct("<2Q")
_OP = struct.Struct("<I4i4i12i12i8f64s")


class DType(enum.IntEnum):
    """Element type of an activation buffer."""

    U8 = 1
    S8 = 2
    F32 = 3

    @property
    def bytes(self) -> int:
        """Size of one element."""
        return 4 if self is DType.F32 else 1


class Domain(enum.IntEnum):
    """What the columns of a buffer are: packed tokens, or sequences of the batch."""

    TOKENS = 0
    SEQUENCES = 1


class WeightFormat(enum.IntEnum):
    """How the weights of a linear op are packed (see ``bundle/packing.py``)."""

    ROW_GATHER_1 = 1  # single weights: one output row per group
    ROW_GATHER_2 = 2  # 2x1 blocks: two output rows share their columns
    ROW_GATHER_4 = 3  # 4x1 blocks: four output rows share their columns
    DENSE_4 = 4  # every column, four output rows at a time, no column list
    BLOCK_1X4 = 5  # blocks of four consecutive inputs of one output row


class RowFormat(enum.IntEnum):
    """How the rows of the word-embedding table are stored (see ``bundle/rows.py``)."""

    INT8 = 0  # S8[channels], one scale per row; what programs older than INT4 say by its zero
    INT4 = 1  # two values a byte, in groups of 32 channels with a scale each


class ColumnCoding(enum.IntEnum):
    """How a bundle stores which input columns a sparse format keeps (see ``bundle/packing.py``)."""

    LIST = 0  # numbers, U16
    MASKS = 1  # one bit for each column or block of every group


class Activation(enum.IntEnum):
    """Element-wise function in the epilogue of a linear op."""

    NONE = 0
    GELU = 1
    GELU_TANH = 2
    RELU = 3
    TANH = 4


@dataclass(frozen=True)
class Buffer:
    """An activation buffer ``[columns/T][channels][T]`` in an arena slot."""

    dtype: DType
    domain: Domain
    channels: int
    slot: int


@dataclass(frozen=True)
class Const:
    """A span of ``weights.bin``."""

    offset: int
    bytes: int


@dataclass(frozen=True)
class Op:
    """Base of all ops; the class variables map fields to record positions."""

    name: str

    KIND: ClassVar[int] = 0
    INPUTS: ClassVar[Tuple[str, ...]] = ()
    OUTPUTS: ClassVar[Tuple[str, ...]] = ()
    CONSTS: ClassVar[Tuple[str, ...]] = ()
    INTS: ClassVar[Tuple[str, ...]] = ()
    FLOATS: ClassVar[Tuple[str, ...]] = ()


@dataclass(frozen=True)
class Embed(Op):
    """Sum of the word, position and (optional) token-type rows, dequantized.

    ``word`` S8[vocabulary, channels] with F32[vocabulary] scales, and so on. With
    ``word_format`` INT4, ``word`` holds half a byte per value, and ``word_group_scale``
    S8[vocabulary, groups] multiplies the row's scale; otherwise it is absent.
    """

    output: int
    word: int
    word_scale: int
    position: int
    position_scale: int
    token_type: int
    token_type_scale: int
    vocabulary: int
    positions: int
    token_types: int
    channels: int
    word_format: int = RowFormat.INT8
    word_group_scale: int = ABSENT

    KIND = 1
    OUTPUTS = ("output",)
    CONSTS = (
        "word",
        "word_scale",
        "position",
        "position_scale",
        "token_type",
        "token_type_scale",
        "word_group_scale",
    )
    INTS = ("vocabulary", "positions", "token_types", "channels", "word_format")


@dataclass(frozen=True)
class LayerNorm(Op):
    """LayerNorm over channels; writes float, quantized, or both at once.

    ``input`` F32[channels]; ``output`` F32 (may be the input buffer) or absent;
    ``quantized`` U8 or absent: ``q = clamp(rne(y * inv_scale) + zero_point, 0, 255)``.
    """

    input: int
    output: int
    quantized: int
    gamma: int
    beta: int
    channels: int
    zero_point: int
    epsilon: float
    inv_scale: float

    KIND = 2
    INPUTS = ("input",)
    OUTPUTS = ("output", "quantized")
    CONSTS = ("gamma", "beta")
    INTS = ("channels", "zero_point")
    FLOATS = ("epsilon", "inv_scale")


@dataclass(frozen=True)
class Quantize(Op):
    """F32[channels] to U8[channels] with a static scale and zero point."""

    input: int
    output: int
    channels: int
    zero_point: int
    inv_scale: float

    KIND = 3
    INPUTS = ("input",)
    OUTPUTS = ("output",)
    INTS = ("channels", "zero_point")
    FLOATS = ("inv_scale",)


@dataclass(frozen=True)
class QuantizeDynamic(Op):
    """F32[channels] to U8[channels] with one scale and zero point per token.

    ``params`` F32[2]: channel 0 the scale, channel 1 the zero point (a whole number).
    """

    input: int
    output: int
    params: int
    channels: int

    KIND = 4
    INPUTS = ("input",)
    OUTPUTS = ("output", "params")
    INTS = ("channels",)


@dataclass(frozen=True)
class Linear(Op):
    """``y = activation(x W^T + b) (+ residual)`` on U8 activations and S8 weights.

    ``input`` U8[k]. ``params`` F32[2] when the input was quantized per token, else
    absent. ``residual`` F32[n] or absent. ``output`` F32, U8 or S8 [n]; the residual
    and a F32 output may be the same buffer.

    Constants: ``rows`` U32[groups * R] the output channel of each packed row
    (0xFFFFFFFF: padding); ``offsets`` U32[groups + 1]; ``columns`` U16, or bits
    as ``column_coding`` says; ``weights`` S8 (layouts in ``bundle/packing.py``); ``scale`` F32[n];
    ``bias`` F32[n]; ``correction`` I32[n]: ``-zero_point * sum(w)`` for a static
    input, ``sum(w)`` for a per-token one.

    ``lo``/``hi`` clamp an 8-bit output (0..255 for U8, -127..127 for S8).
    """

    input: int
    params: int
    residual: int
    output: int
    rows: int
    offsets: int
    columns: int
    weights: int
    scale: int
    bias: int
    correction: int
    k: int
    n: int
    groups: int
    format: int
    activation: int
    zero_point: int
    lo: int
    hi: int
    inv_scale: float
    column_coding: int = ColumnCoding.LIST

    KIND = 5
    INPUTS = ("input", "params", "residual")
    OUTPUTS = ("output",)
    CONSTS = ("rows", "offsets", "columns", "weights", "scale", "bias", "correction")
    INTS = ("k", "n", "groups", "format", "activation", "zero_point", "lo", "hi", "column_coding")
    FLOATS = ("inv_scale",)


@dataclass(frozen=True)
class Attention(Op):
    """Multi-head self-attention within each sequence, in INT8.

    ``query`` U8 (zero point ``query_zero_point``), ``key`` and ``value`` S8, all
    ``[heads * head_dim]``; ``output`` U8 or F32 of the same width.
    ``score_scale = s_q * s_k / sqrt(head_dim) * log2(e)``; ``context_scale =
    s_v * inv_scale`` for a U8 output, ``s_v`` for a F32 one.
    """

    query: int
    key: int
    value: int
    output: int
    heads: int
    head_dim: int
    query_zero_point: int
    zero_point: int
    score_scale: float
    context_scale: float

    KIND = 6
    INPUTS = ("query", "key", "value")
    OUTPUTS = ("output",)
    INTS = ("heads", "head_dim", "query_zero_point", "zero_point")
    FLOATS = ("score_scale", "context_scale")


@dataclass(frozen=True)
class SelectFirst(Op):
    """The first token of each sequence: F32[channels] tokens -> F32[channels] sequences."""

    input: int
    output: int
    channels: int

    KIND = 7
    INPUTS = ("input",)
    OUTPUTS = ("output",)
    INTS = ("channels",)


@dataclass(frozen=True)
class MeanPool(Op):
    """The mean over each sequence's tokens: F32 tokens -> F32 sequences."""

    input: int
    output: int
    channels: int

    KIND = 8
    INPUTS = ("input",)
    OUTPUTS = ("output",)
    INTS = ("channels",)


@dataclass(frozen=True)
class Output(Op):
    """A result of the model: F32[channels], written row-major ``[columns, channels]``.

    Outputs are numbered by their order in the program.
    """

    input: int
    channels: int

    KIND = 9
    INPUTS = ("input",)
    INTS = ("channels",)


OP_TYPES: Dict[int, Type[Op]] = {
    op.KIND: op
    for op in (
        Embed,
        LayerNorm,
        Quantize,
        QuantizeDynamic,
        Linear,
        Attention,
        SelectFirst,
        MeanPool,
        Output,
    )
}


@dataclass
class Program:
    """A compiled graph.

    Args:
        buffers: activation buffers; ops name them by index.
        consts: spans of the weights blob; ops name them by index.
        ops: in execution order.
        max_positions: the longest sequence the position table covers.
    """

    buffers: List[Buffer] = field(default_factory=list)
    consts: List[Const] = field(default_factory=list)
    ops: List[Op] = field(default_factory=list)
    max_positions: int = 512

    @property
    def outputs(self) -> List[Output]:
        """The :class:`Output` ops in order."""
        return [op for op in self.ops if isinstance(op, Output)]

    @property
    def uses_first_token(self) -> bool:
        """Whether a result is taken from the first token of a sequence."""
        return any(isinstance(op, SelectFirst) for op in self.ops)

    @property
    def minimum_reader(self) -> int:
        """The oldest version of the bundle format whose readers understand all that is in it."""
        int4 = any(isinstance(op, Embed) and op.word_format != RowFormat.INT8 for op in self.ops)
        masks = any(isinstance(op, Linear) and op.column_coding != ColumnCoding.LIST for op in self.ops)
        return 2 if int4 or masks else 1

    @property
    def slots(self) -> int:
        """Number of arena slots."""
        return 1 + max((buffer.slot for buffer in self.buffers), default=-1)

    def to_bytes(self) -> bytes:
        """Serialize; deterministic."""
        parts = [
            _HEADER.pack(
                MAGIC,
                VERSION,
                len(self.buffers),
                len(self.consts),
                len(self.ops),
                self.max_positions,
                self.slots,
            )
        ]
        parts += [_BUFFER.pack(b.dtype, b.domain, b.channels, b.slot) for b in self.buffers]
        parts += [_CONST.pack(c.offset, c.bytes) for c in self.consts]
        parts += [_pack_op(op) for op in self.ops]
        return b"".join(parts)

    @classmethod
    def from_bytes(cls, blob: bytes) -> Program:
        """Parse what :meth:`to_bytes` wrote.

        Raises:
            BundleError: not a program, of another version, or truncated.
        """
        if len(blob) < _HEADER.size or blob[:8] != MAGIC:
            raise BundleError(
                f"the compiled graph does not start with {MAGIC!r} (found {bytes(blob[:8])!r})",
                hint="rebuild the bundle with `obert-edge build`",
            )
        _, version, n_buffers, n_consts, n_ops, max_positions, _ = _HEADER.unpack_from(blob)
        if version != VERSION:
            raise BundleError(
                f"the compiled graph has version {version}; this reader knows {VERSION}",
                hint="use the obert-edge that built the bundle, or rebuild it",
            )
        expected = _HEADER.size + n_buffers * _BUFFER.size + n_consts * _CONST.size + n_ops * _OP.size
        if len(blob) != expected:
            raise BundleError(
                f"the compiled graph has {len(blob)} bytes where its header implies {expected}",
                hint="copy the bundle again; it was cut or altered on the way",
            )
        at = _HEADER.size
        program = cls(max_positions=max_positions)
        for _ in range(n_buffers):
            dtype, domain, channels, slot = _BUFFER.unpack_from(blob, at)
            try:
                program.buffers.append(Buffer(DType(dtype), Domain(domain), channels, slot))
            except ValueError as error:
                raise BundleError(
                    f"the compiled graph holds a buffer of unknown kind: {error}",
                    hint="copy the bundle again; it was altered, or a newer obert-edge wrote it",
                ) from error
            at += _BUFFER.size
        for _ in range(n_consts):
            program.consts.append(Const(*_CONST.unpack_from(blob, at)))
            at += _CONST.size
        for _ in range(n_ops):
            program.ops.append(_unpack_op(_OP.unpack_from(blob, at)))
            at += _OP.size
        return program


def _pack_op(op: Op) -> bytes:
    def slots(names: Tuple[str, ...], size: int, fill: float) -> List[Any]:
        values = [getattr(op, name) for name in names]
        return values + [fill] * (size - len(values))

    return _OP.pack(
        op.KIND,
        *slots(op.INPUTS, 4, ABSENT),
        *slots(op.OUTPUTS, 4, ABSENT),
        *slots(op.CONSTS, 12, ABSENT),
        *slots(op.INTS, 12, 0),
        *slots(op.FLOATS, 8, 0.0),
        op.name.encode()[:63],
    )


def _unpack_op(record: Tuple[Any, ...]) -> Op:
    kind = record[0]
    if kind not in OP_TYPES:
        raise BundleError(
            f"the compiled graph holds an op of kind {kind}; this reader knows {sorted(OP_TYPES)}",
            hint="use the obert-edge that built the bundle, or rebuild it",
        )
    op_type = OP_TYPES[kind]
    values: Dict[str, Any] = {"name": record[-1].rstrip(b"\0").decode("ascii", "replace")}
    for names, start in (
        (op_type.INPUTS, 1),
        (op_type.OUTPUTS, 5),
        (op_type.CONSTS, 9),
        (op_type.INTS, 21),
        (op_type.FLOATS, 33),
    ):
        values.update(zip(names, record[start : start + len(names)]))
    op = object.__new__(op_type)
    # All its fields at once: a frozen dataclass sets one after the other, in ten times as long.
    vars(op).update(values)
    return op
