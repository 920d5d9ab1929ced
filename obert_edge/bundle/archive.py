"""The one shape of ZIP a bundle has: stored, aligned, and the same bytes every time.

Any ZIP reader (and ``python3 model.oeb``) can read what :func:`write_archive` writes. :func:`read_archive`
accepts nothing else: from the few facts of each entry it writes the headers anew and compares, so a member
that is compressed, a link, named twice, hidden between others or has one flipped header bit is refused
without a rule of its own.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import BinaryIO, Dict, List, NoReturn, Tuple

from obert_edge.errors import BundleError, UsageError

#: First line of the file: a bundle is also a program.
PREFIX = b"#!/usr/bin/env python3\n"
#: What a packed bundle starts with.
_GZIP = b"\x1f\x8b"
#: Data of members that are mapped starts at multiples of this many bytes.
ALIGNMENT = 64
MAX_MEMBERS = 256
#: What a ZIP holds without its 64-bit extension, which some readers lack; 1 MiB is left for headers.
MAX_BYTES = 2**32 - 2**20

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_VERSION = 20  # of ZIP: 2.0, which stored members need at most
_UTF8 = 0x800  # the flag for names in UTF-8
_DATE, _TIME = (1 << 5) | 1, 0  # 1980-01-01 00:00, the earliest a ZIP can say
_UNIX_FILE = 0o100644 << 16  # a regular file, rw-r--r--
_ALIGNED_SUFFIXES = (".bin", ".so")
_PADDING_ID = 0xD935  # the extra field that Android's zipalign uses for the same purpose


@dataclass(frozen=True)
class Entry:
    """One stored member: its data is ``size`` bytes long and starts at ``data_offset`` of the file."""

    name: str
    crc: int
    size: int
    header_offset: int

    @cached_property
    def data_offset(self) -> int:
        """Where the data starts, in bytes from the start of the file."""
        return self.header_offset + len(self.local_header())

    def local_header(self) -> bytes:
        """The header in front of the data, padded so that mapped members are aligned."""
        name = self.name.encode()
        extra = b""
        if self.name.endswith(_ALIGNED_SUFFIXES):
            unpadded = self.header_offset + _LOCAL.size + len(name) + 6
            padding = -unpadded % ALIGNMENT
            extra = struct.pack("<3H", _PADDING_ID, 2 + padding, ALIGNMENT) + bytes(padding)
        fixed = (_VERSION, _UTF8, 0, _TIME, _DATE, self.crc, self.size, self.size)
        return _LOCAL.pack(b"PK\x03\x04", *fixed, len(name), len(extra)) + name + extra

    def central_header(self) -> bytes:
        """The member's record in the directory at the end of the file."""
        name = self.name.encode()
        made_by_unix = 3 << 8 | _VERSION
        fixed = (_VERSION, _UTF8, 0, _TIME, _DATE, self.crc, self.size, self.size)
        attributes = (0, 0, 0, 0, _UNIX_FILE)
        record = _CENTRAL.pack(
            b"PK\x01\x02", made_by_unix, *fixed, len(name), *attributes, self.header_offset
        )
        return record + name


def write_archive(stream: BinaryIO, members: Dict[str, bytes | memoryview]) -> None:
    """Write the members in the order given.

    Args:
        stream: an empty binary file.
        members: name -> data.

    Raises:
        UsageError: more members or bytes than the format holds.
    """
    total = sum(len(data) for data in members.values())
    if len(members) > MAX_MEMBERS or total > MAX_BYTES:
        raise UsageError(
            f"{len(members)} members of {total} bytes do not fit a bundle (at most {MAX_MEMBERS} members "
            f"and {MAX_BYTES} bytes)",
            hint="choose a smaller model",
        )
    stream.write(PREFIX)
    offset = len(PREFIX)
    entries: List[Entry] = []
    for name, data in members.items():
        entry = Entry(name, zlib.crc32(data), len(data), offset)
        header = entry.local_header()
        stream.write(header)
        stream.write(data)
        offset += len(header) + len(data)
        entries.append(entry)
    stream.write(_directory(entries, offset))


def read_archive(data: memoryview, source: str) -> Tuple[Entry, ...]:
    """The members of a bundle file, in order; checks all but the members' own bytes.

    Args:
        data: the whole file.
        source: what to call the file in errors.

    Raises:
        BundleError: empty, truncated, altered, or not what :func:`write_archive` writes.
    """
    if len(data) == 0:
        _refuse(source, "is empty", "copy the bundle again")
    if bytes(data[: len(PREFIX)]) != PREFIX:
        found = bytes(data[:8])
        if found.startswith(_GZIP):
            _refuse(source, "is packed, as gzip packs", f"run `obert-edge unpack {source}`, or `gunzip -k`")
        _refuse(
            source,
            f"is not an obert-edge bundle (it starts with {found!r})",
            "give the .oeb file that `obert-edge build` wrote",
        )
    if len(data) < len(PREFIX) + _END.size or bytes(data[-_END.size : -_END.size + 4]) != b"PK\x05\x06":
        _refuse(
            source, f"is cut short: its {len(data)} bytes do not end in a directory", "copy the bundle again"
        )
    _, _, _, _, count, size, start, _ = _END.unpack(data[-_END.size :])
    if count > MAX_MEMBERS or start + size + _END.size != len(data):
        _refuse(
            source,
            f"has a directory that does not fit its {len(data)} bytes: it was cut, altered or repacked",
            "copy the bundle again",
        )
    entries = _parse_directory(data[start : start + size], count, source)
    offset = len(PREFIX)
    for entry in entries:
        header = entry.local_header()
        if entry.header_offset != offset or bytes(data[offset : offset + len(header)]) != header:
            _refuse(source, f"has an altered header at member {entry.name!r}", "copy the bundle again")
        offset += len(header) + entry.size
    if bytes(data[start:]) != _directory(entries, offset) or offset != start:
        _refuse(
            source, "has an altered directory (or was repacked by another program)", "copy the bundle again"
        )
    names = [entry.name for entry in entries]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        _refuse(source, f"holds member {twice!r} twice", "do not use it: rebuild it with `obert-edge build`")
    return tuple(entries)


def _directory(entries: List[Entry] | Tuple[Entry, ...], start: int) -> bytes:
    records = b"".join(entry.central_header() for entry in entries)
    end = _END.pack(b"PK\x05\x06", 0, 0, len(entries), len(entries), len(records), start, 0)
    return records + end


def _parse_directory(records: memoryview, count: int, source: str) -> List[Entry]:
    entries: List[Entry] = []
    at = 0
    for _ in range(count):
        if at + _CENTRAL.size > len(records):
            _refuse(source, "has a directory that ends inside a record", "copy the bundle again")
        fields = _CENTRAL.unpack(records[at : at + _CENTRAL.size])
        name_length, header_offset = fields[10], fields[-1]
        name = bytes(records[at + _CENTRAL.size : at + _CENTRAL.size + name_length])
        try:
            text = name.decode("ascii")
        except UnicodeDecodeError:
            _refuse(source, f"has a member with the name {name!r}", "copy the bundle again")
        entries.append(Entry(text, crc=fields[7], size=fields[8], header_offset=header_offset))
        at += _CENTRAL.size + name_length
    return entries


def _refuse(source: str, found: str, hint: str) -> NoReturn:
    raise BundleError(f"{source} {found}", hint=hint)
