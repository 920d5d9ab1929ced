"""Gives values their places in memory: buffers, arena slots, and offsets in the weights blob.

A slot is as big as its biggest buffer, so the arena is small when values that do not live at the same time
share slots. Values are placed in the order they are written: where an op may overwrite one of its inputs
(``LoweredOp.overwrites``), in that input's slot, else in the free slot that fits best.
"""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any, Dict, List, Optional, Tuple

import numpy as np
import numpy.typing as npt

from obert_edge.bundle.program import ABSENT, Buffer, Const, Op, Program
from obert_edge.host.compiler.lowered import LoweredGraph, LoweredOp
from obert_edge.host.compiler.values import Value

#: Constants start at multiples of this many bytes of ``weights.bin``.
ALIGNMENT = 64
#: Constants of so many bytes and more are stored once, however many ops have them.
_SHARED_FROM = 256


def plan(graph: LoweredGraph) -> Tuple[Program, bytearray]:
    """A program of ops whose weights are packed.

    Returns:
        The program and its weights blob, whose constants start at multiples of :data:`ALIGNMENT` bytes.
    """
    slots = assign_slots(graph)
    buffers: Dict[Buffer, int] = {}
    blob = _Blob()
    ops = [_place(op, slots, buffers, blob) for op in graph.ops]
    return Program(list(buffers), blob.consts, ops, graph.max_length), blob.data


def assign_slots(graph: LoweredGraph) -> Dict[Value, int]:
    """The index of an arena slot for every value; values that live at the same time never share one."""
    last_read = {value: i for i, op in enumerate(graph.ops) for value in op.reads}
    slots: Dict[Value, int] = {}
    sizes: List[int] = []
    free: List[int] = []
    for i, op in enumerate(graph.ops):
        dying = [value for value in dict.fromkeys(op.reads) if last_read[value] == i]
        for value in op.writes:
            overwritten = _overwritten(op, value, dying)
            if overwritten is not None:
                slots[value] = slots[overwritten]
                dying.remove(overwritten)
                continue
            slots[value] = _best_slot(value, free, sizes)
        unread = [value for value in op.writes if value not in last_read]
        free += [slots[value] for value in dying + unread]
    return slots


def _overwritten(op: LoweredOp, value: Value, dying: List[Value]) -> Optional[Value]:
    """The input whose slot the op's float output takes over; None: it may not, or the input is read again."""
    candidate = op.values.get(op.overwrites)
    if candidate is None or candidate not in dying or op.values.get("output") != value:
        return None
    same = dataclasses.replace(candidate, name=value.name) == value
    return candidate if same else None


def _best_slot(value: Value, free: List[int], sizes: List[int]) -> int:
    """The free slot whose size (in bytes per token) is nearest to what the value needs, or a new one."""
    needed = value.bytes_per_token
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
        # id of an array -> index of its constant, and the array, which keeps its id from being given again.
        self._added: Dict[int, Tuple[int, npt.NDArray[Any]]] = {}
        self._by_content: Dict[bytes, int] = {}  # digest of a large constant -> its index

    def add(self, array: npt.NDArray[Any]) -> int:
        """Append a constant, little endian, unless its bytes are there already; returns its index."""
        if id(array) in self._added:
            return self._added[id(array)][0]
        data = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
        index = len(self.consts)
        if len(data) >= _SHARED_FROM:  # layers that share weights
            index = self._by_content.setdefault(hashlib.sha256(data).digest(), index)
        self._added[id(array)] = (index, array)
        if index == len(self.consts):
            self.data += bytes(-len(self.data) % ALIGNMENT)
            self.consts.append(Const(len(self.data), len(data)))
            self.data += data
        return index


def _place(op: LoweredOp, slots: Dict[Value, int], buffers: Dict[Buffer, int], blob: _Blob) -> Op:
    """The op with indices in place of values and constants; adds what is new to ``buffers`` and ``blob``."""
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
