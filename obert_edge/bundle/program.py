"""The compiled graph: a flat list of fused ops over pre-planned buffers.

The compiler writes a :class:`Program` with :meth:`Program.to_bytes`; the engine parses the same bytes in C++
(``engine/program/program.h``); ``inspect`` and the baselines read it back with :meth:`Program.from_bytes`.
Weights live in a second blob (``weights.bin``): a constant is a 64-byte aligned span of it.
What the ops are, and which field stands at which place of a record, comes from ``bundle/schema.py``, of which
``bundle/ops.py`` is made; its names can be imported from here.

Layout of the blob (little endian)::

    header   8s magic "OBERTPRG" | u32 version | u32 n_buffers | u32 n_consts | u32 n_ops
             | u32 max_positions | u32 n_slots | 32 bytes zero
    buffers  n_buffers x { u32 dtype, u32 domain, u32 channels, u32 slot }
    consts   n_consts  x { u64 offset, u64 bytes }
    ops      n_ops     x { u32 kind, i32 inputs[4], i32 outputs[4], i32 consts[12],
                           i32 ints[12], f32 floats[8], 64s name }

``-1`` stands for "absent" wherever a buffer or constant is optional. What each op computes, bit for bit,
is in ``docs/reference/numerics.md``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any, Dict, List, Tuple

from obert_edge.bundle.ops import (
    ABSENT,
    OP_TYPES,
    PANEL_STEP,
    PANEL_TOKENS,
    Activation,
    Attention,
    ColumnCoding,
    Domain,
    DType,
    Embed,
    LayerNorm,
    Linear,
    MeanPool,
    Op,
    Output,
    Quantize,
    QuantizeDynamic,
    RowFormat,
    SelectFirst,
    WeightFormat,
)
from obert_edge.errors import BundleError

__all__ = [
    "ABSENT",
    "OP_TYPES",
    "PANEL_STEP",
    "PANEL_TOKENS",
    "Activation",
    "Attention",
    "Buffer",
    "ColumnCoding",
    "Const",
    "DType",
    "Domain",
    "Embed",
    "LayerNorm",
    "Linear",
    "MeanPool",
    "Op",
    "Output",
    "Program",
    "Quantize",
    "QuantizeDynamic",
    "RowFormat",
    "SelectFirst",
    "WeightFormat",
]

MAGIC = b"OBERTPRG"
VERSION = 1

_HEADER = struct.Struct("<8s6I32x")
_BUFFER = struct.Struct("<4I")
_CONST = struct.Struct("<2Q")
_OP = struct.Struct("<I4i4i12i12i8f64s")


@dataclass(frozen=True)
class Buffer:
    """An activation buffer in an arena slot, laid out in panels: ``[tokens / T][channels][T]``."""

    dtype: DType
    domain: Domain
    channels: int
    slot: int


@dataclass(frozen=True)
class Const:
    """A span of ``weights.bin``."""

    offset: int
    bytes: int


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
        return max((_reader_of(op) for op in self.ops), default=1)

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

    def check_places(self) -> None:
        """Refuse ops that name a buffer or a constant there is not, for readers other than the engine.

        Raises:
            BundleError: there is such an op.
        """
        for op in self.ops:
            _check_places(op, len(self.buffers), len(self.consts))

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


def _check_places(op: Op, buffers: int, consts: int) -> None:
    """Refuse an op that names a buffer or a constant there is not.

    Raises:
        BundleError: it does.
    """
    for names, count, kind in (
        (op.INPUTS + op.OUTPUTS, buffers, "buffer"),
        (op.CONSTS, consts, "constant"),
    ):
        for name in names:
            place = getattr(op, name)
            if not 0 <= place < count and not (place == ABSENT and name in op.OPTIONAL):
                raise BundleError(
                    f"op {op.name!r} of the compiled graph has the {name} {place}; there are {count} {kind}s",
                    hint="copy the bundle again; it was altered on the way, or rebuild it",
                )


def _reader_of(op: Op) -> int:
    """The oldest version of the bundle format whose readers understand all fields of an op."""
    newer = [
        reader for name, reader in op.FIELD_READERS.items() if getattr(op, name) != getattr(type(op), name)
    ]
    if isinstance(op, Linear):
        newer.append(Activation(op.activation).reader)
    return max([op.READER, *newer])


def _pack_op(op: Op) -> bytes:
    def places(names: Tuple[str, ...], size: int, fill: float) -> List[Any]:
        values = [getattr(op, name) for name in names]
        return values + [fill] * (size - len(values))

    return _OP.pack(
        op.KIND,
        *places(op.INPUTS, 4, ABSENT),
        *places(op.OUTPUTS, 4, ABSENT),
        *places(op.CONSTS, 12, ABSENT),
        *places(op.INTS, 12, 0),
        *places(op.FLOATS, 8, 0.0),
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
