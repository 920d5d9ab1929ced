"""Places for values: buffers, arena slots, and offsets in the weights blob.

A slot is as big as its biggest buffer, so the arena is small when values that do
not live at the same time share slots. Values are placed in the order they are
written: in place of the float value an op updates where it may, else in the free
slot that fits best.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, List, Optional, Tuple

import numpy as np
import numpy.typing as npt

from obert_edge.bundle import program
from obert_edge.bundle.program import ABSENT, Buffer, Const, Op, Program
from obert_edge.host.compiler.lowered import LoweredGraph, LoweredOp, Value

#: Constants start at multiples of this many bytes of ``weights.bin``.
ALIGNMENT = 64

#: Op -> the input whose memory its float output may take over.
_IN_PLACE = {program.LayerNorm: "input", program.Linear: "residual"}


def plan(graph: LoweredGraph) -> Tuple[Program, bytearray]:
    """Make a program of ops whose weights are packed.

    Returns:
        the program and its weights blob.
    """
    slots = assign_slots(graph)
    buffers: Dict[Buffer, int] = {}
    blob = _Blob()
    ops = [_place(op, slots, buffers, blob) for op in graph.ops]
    return Program(list(buffers), blob.consts, ops, graph.max_length), blob.data


def assign_slots(graph: LoweredGraph) -> Dict[Value, int]:
    """An arena slot for every value; values that live at the same time never share one."""
    last_read = {value: i for i, op in enumerate(graph.ops) for value in op.reads}
    slots: Dict[Value, int] = {}
    sizes: List[int] = []
    free: List[int] = []
    for i, op in enumerate(graph.ops):
        dying = [value for value in dict.fromkeys(op.reads) if last_read[value] == i]
        for value in op.writes:
            replaced = _replaced(op, value, dying)
            if replaced is not None:
                slots[value] = slots[replaced]
                dying.remove(replaced)
                continue
            slots[value] = _best_slot(value, free, sizes)
        unread = [value for value in op.writes if value not in last_read]
        free += [slots[value] for value in dying + unread]
    return slots


def _replaced(op: LoweredOp, value: Value, dying: List[Value]) -> Optional[Value]:
    candidate = op.values.get(_IN_PLACE.get(op.op_type, ""))
    if candidate is None or candidate not in dying or op.values.get("output") != value:
        return None
    same = dataclasses.replace(candidate, name=value.name) == value
    return candidate if same else None


def _best_slot(value: Value, free: List[int], sizes: List[int]) -> int:
    """Take the free slot that wastes or grows least, or a new one."""
    needed = value.bytes_per_column
    if not free:
        sizes.append(needed)
        return len(sizes) - 1
    slot = min(free, key=lambda index: (abs(sizes[index] - needed), index))
    free.remove(slot)
    sizes[slot] = max(sizes[slot], needed)
    return slot


class _Blob:
    """The weights blob while it grows."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.consts: List[Const] = []

    def add(self, array: npt.NDArray[Any]) -> int:
        self.data += bytes(-len(self.data) % ALIGNMENT)
        little_endian = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        self.consts.append(Const(len(self.data), little_endian.nbytes))
        self.data += little_endian.tobytes()
        return len(self.consts) - 1


def _place(op: LoweredOp, slots: Dict[Value, int], buffers: Dict[Buffer, int], blob: _Blob) -> Op:
    fields: Dict[str, Any] = {"name": op.name}
    for name in (*op.op_type.INPUTS, *op.op_type.OUTPUTS, *op.op_type.CONSTS):
        fields[name] = ABSENT
    for name, value in op.values.items():
        buffer = Buffer(value.dtype, value.domain, value.channels, slots[value])
        fields[name] = buffers.setdefault(buffer, len(buffers))
    for name in op.op_type.CONSTS:
        if name in op.arrays:
            fields[name] = blob.add(op.arrays[name])
    fields.update({name: op.numbers[name] for name in (*op.op_type.INTS, *op.op_type.FLOATS)})
    return op.op_type(**fields)
