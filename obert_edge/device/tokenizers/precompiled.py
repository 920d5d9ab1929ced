"""SentencePiece's normalizer: a table of replacements compiled into a double-array trie.

Source: Kudo and Richardson 2018 (SentencePiece), ``normalizer.cc``; Yata's Darts-clone for the trie; what is
looked up (clusters, then characters, the shortest match first) is what the ``tokenizers`` library looks up.
"""

from __future__ import annotations

import base64
import struct
from array import array
from collections.abc import Mapping
from typing import Any, Dict, List, Optional, Tuple

from obert_edge.device.tokenizers.grapheme_clusters import clusters
from obert_edge.device.tokenizers.normalization_forms import Change
from obert_edge.device.tokenizers.stretch import Stretch
from obert_edge.errors import BundleError

#: A cluster of more bytes is looked up character by character.
_LARGEST_CLUSTER = 5


def check_table(content: bytes) -> int:
    """How many bytes of a ``precompiled_charsmap``, after the first four, are the trie.

    The ``tokenizers`` library takes memory for a trie of any size that the table claims, and where there is
    not as much it ends the process.

    Raises:
        ValueError: it is not such a table.
    """
    if len(content) < 4:
        raise ValueError("precompiled_charsmap is empty")
    (size,) = struct.unpack_from("<I", content)
    if size % 4 or size < 4 or 4 + size > len(content):
        raise ValueError(f"precompiled_charsmap has a trie of {size} bytes in {len(content)} bytes")
    return int(size)


def check_charsmaps(description: Mapping[str, Any]) -> None:
    """Look at every table of a parsed ``tokenizer.json``, before the ``tokenizers`` library reads it.

    The library takes a part for a table by the name of its field, so the part's type is not asked for.

    Raises:
        ValueError: one is no such table; see :func:`check_table`.
    """
    todo = [description.get("normalizer")]
    while todo:
        part = todo.pop()
        if isinstance(part, Mapping):
            if isinstance(charsmap := part.get("precompiled_charsmap"), str):
                check_table(base64.b64decode(charsmap, validate=True))
            todo += part.values()
        elif isinstance(part, list):
            todo += part


class Precompiled:
    """The ``Precompiled`` normalizer.

    Args:
        charsmap: ``precompiled_charsmap`` of a ``tokenizer.json``: base64 of the size of the trie in bytes
            (uint32, little endian), the trie, and the replacements with a zero byte behind each.

    Raises:
        ValueError: it is not such a table.
    """

    def __init__(self, charsmap: str) -> None:
        content = base64.b64decode(charsmap, validate=True)
        size = check_table(content)
        self._units = array("I", struct.unpack_from(f"<{size // 4}I", content, 4))
        self._replacements = content[4 + size :]
        self._replacements.decode()  # they are text, as the library checks, too
        self._known: Dict[str, Optional[str]] = {}

    def __call__(self, stretch: Stretch) -> Stretch:
        """The stretch with everything replaced that the table replaces."""
        text = stretch.text
        whole = self._whole_clusters(text)
        if not whole:
            parts = [text[i] if new is None else new for i, new in enumerate(map(self._replaced, text))]
            if all(parts):
                return stretch.mapped(parts)
        changes: List[Change] = []
        at = 0
        for start, end, new in [*whole, (len(text), len(text), None)]:
            for character in text[at:start]:
                _replace(changes, 1, character, self._replaced(character))
            if new is not None:
                _replace(changes, end - start, "", new)
            at = end
        return stretch.rewritten(changes)

    def _whole_clusters(self, text: str) -> List[Tuple[int, int, Optional[str]]]:
        """Start, end and replacement of the clusters that are replaced as one."""
        if text.isascii() and "\r\n" not in text:
            return []
        found = [(match.span(), self._cluster(match.group())) for match in clusters().finditer(text)]
        return [(start, end, new) for (start, end), new in found if new is not None]

    def _cluster(self, cluster: str) -> Optional[str]:
        if len(cluster) == 1 or len(cluster.encode()) > _LARGEST_CLUSTER:
            return None
        return self._replaced(cluster)

    def _replaced(self, chunk: str) -> Optional[str]:
        """What the table has for a chunk, or for as little of its beginning as it knows."""
        try:
            return self._known[chunk]
        except KeyError:
            self._known[chunk] = found = self._look_up(chunk.encode())
            return found

    def _look_up(self, chunk: bytes) -> Optional[str]:
        units = self._units
        node = _offset(units[0])
        for byte in chunk:
            if byte == 0:
                return None
            node ^= byte
            if node >= len(units) or units[node] & 0x800000FF != byte:
                return None
            unit = units[node]
            node ^= _offset(unit)
            if unit >> 8 & 1:
                start = units[node] & 0x7FFFFFFF
                end = self._replacements.find(b"\0", start)
                try:
                    return self._replacements[start : end if end >= 0 else None].decode()
                except UnicodeDecodeError as error:
                    raise BundleError(
                        f"precompiled_charsmap of tokenizer.json replaces {chunk!r} by half a character",
                        hint="download or save the tokenizer again, and build again",
                    ) from error
        return None


def _offset(unit: int) -> int:
    """Where the children of a unit are, relative to it."""
    return unit >> 10 << ((unit & 1 << 9) >> 6)


def _replace(changes: List[Change], count: int, character: str, new: Optional[str]) -> None:
    """Append what takes the place of ``count`` characters; a removal is told to the character before it."""
    if new is None:
        changes.append((character, 0))
        return
    extra = len(new) - count
    changes += [(part, int(index >= count)) for index, part in enumerate(new)]
    if extra < 0 and changes:
        part, change = changes[-1]
        changes[-1] = part, change + extra
