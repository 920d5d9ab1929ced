"""Reading what we put into a ``.tflite``: metadata, and an op of our own.

By hand: neither LiteRT nor tflite-runtime has a reader for it, and a device has no package of the schema.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Dict, Iterator, Tuple

from obert_edge.errors import BundleError, UsageError

#: Field numbers of tensorflow/lite/schema/schema.fbs.
_MODEL_OPERATOR_CODES, _MODEL_SUBGRAPHS, _MODEL_BUFFERS, _MODEL_METADATA = 1, 2, 4, 6
_CODE_CUSTOM = 1
_SUBGRAPH_OPERATORS = 3
_OPERATOR_CODE, _OPERATOR_CUSTOM_OPTIONS = 0, 5
_METADATA_NAME, _METADATA_BUFFER = 0, 1
_BUFFER_DATA = 0

#: Tables of a file that are read at most; ours have some dozen.
_MOST_TABLES = 1 << 20


class TfliteReader:
    """A ``.tflite`` in memory of its own: what is checked of it cannot change any more.

    Args:
        path: the file.

    Attributes:
        content: the whole file.
        metadata: name -> data.
        custom_ops: name of an op that is not LiteRT's own -> options of the last op of that name.

    Raises:
        UsageError: there is no such file.
        BundleError: it is no ``.tflite``, or damaged.
    """

    def __init__(self, path: Path) -> None:
        self.content = _read(path)
        self._data = memoryview(self.content)
        self._tables_left = _MOST_TABLES
        self.metadata: Dict[str, memoryview] = {}
        self.custom_ops: Dict[str, memoryview] = {}
        try:
            if bytes(self._data[4:8]) != b"TFL3":
                raise ValueError("it does not begin with the mark TFL3")
            model = self._follow(0)
            self._read_metadata(model)
            self._read_custom_ops(model)
        except (struct.error, ValueError) as error:
            raise BundleError(
                f"{path} is damaged, or no .tflite: {error}", hint="copy or build it again"
            ) from error

    def _read_metadata(self, model: int) -> None:
        buffers, _ = self._vector(self._field(model, _MODEL_BUFFERS))
        for entry in self._tables(self._field(model, _MODEL_METADATA)):
            name = self._bytes(self._field(entry, _METADATA_NAME))
            buffer = self._follow(buffers + 4 * self._number(self._field(entry, _METADATA_BUFFER)))
            self.metadata[str(name, "utf-8")] = self._bytes(self._field(buffer, _BUFFER_DATA))

    def _read_custom_ops(self, model: int) -> None:
        names = [
            str(self._bytes(self._field(code, _CODE_CUSTOM)), "utf-8")
            for code in self._tables(self._field(model, _MODEL_OPERATOR_CODES))
        ]
        for subgraph in self._tables(self._field(model, _MODEL_SUBGRAPHS)):
            for operator in self._tables(self._field(subgraph, _SUBGRAPH_OPERATORS)):
                code = self._number(self._field(operator, _OPERATOR_CODE))
                if code >= len(names):
                    raise ValueError(f"it has {len(names)} kinds of ops, and an op of kind {code}")
                if names[code]:
                    options = self._bytes(self._field(operator, _OPERATOR_CUSTOM_OPTIONS))
                    self.custom_ops[names[code]] = options

    # What follows reads flatbuffers: vectors and tables through offsets, and a table's fields through its
    # vtable.

    def _read(self, layout: str, position: int) -> int:
        value: int = struct.unpack_from(layout, self._data, position)[0]
        return value

    def _follow(self, position: int) -> int:
        return position + self._read("<I", position)

    def _field(self, table: int, number: int) -> int:
        """Where a field of a table lies; 0: it is absent."""
        vtable = table - self._read("<i", table)
        if 4 + 2 * number >= self._read("<H", vtable):
            return 0
        offset = self._read("<H", vtable + 4 + 2 * number)
        return table + offset if offset else 0

    def _number(self, field: int) -> int:
        return self._read("<I", field) if field else 0

    def _vector(self, field: int) -> Tuple[int, int]:
        """First element and length of the vector (or string) a field points to; 0, 0 where it is absent."""
        if not field:
            return 0, 0
        start = self._follow(field)
        return start + 4, self._read("<I", start)

    def _bytes(self, field: int) -> memoryview:
        begin, length = self._vector(field)
        if begin + length > len(self._data):
            raise ValueError(f"it points at {length} bytes from {begin} on, but has {len(self._data)} bytes")
        return self._data[begin : begin + length]

    def _tables(self, field: int) -> Iterator[int]:
        begin, count = self._vector(field)
        # Vectors of vectors may share their elements, so that a small file could name them for hours.
        self._tables_left -= count
        if self._tables_left < 0:
            raise ValueError(f"it names more than {_MOST_TABLES} tables")
        return (self._follow(begin + 4 * number) for number in range(count))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}", hint="check the path") from error
