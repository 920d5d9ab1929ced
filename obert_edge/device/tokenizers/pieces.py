"""What a tokenizer makes of one text before special tokens are put around it, and what makes it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, List, Mapping, Optional, Protocol, Tuple

from obert_edge.errors import UnsupportedDeviceError


@dataclass
class Pieces:
    """Tokens of one text.

    Args:
        ids: one per token.
        offsets: ``(start, end)`` of each token, in characters of the text.
        words: the number of the word each token belongs to, from 0.
    """

    ids: List[int] = field(default_factory=list)
    offsets: List[Tuple[int, int]] = field(default_factory=list)
    words: List[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids)

    def append(self, identifier: int, start: int, end: int, word: int) -> None:
        """Add one token."""
        self.ids.append(identifier)
        self.offsets.append((start, end))
        self.words.append(word)

    def cut(self, start: int, end: int) -> Pieces:
        """The tokens from ``start`` up to, but without, ``end``."""
        return Pieces(self.ids[start:end], self.offsets[start:end], self.words[start:end])


class TextSplitter(Protocol):
    """Anything that cuts a text into tokens."""

    def tokenize(self, text: str) -> Pieces:
        """Cut ``text`` into tokens, without special tokens around them."""
        ...


class PieceModel(ABC):
    """The algorithm of a tokenizer that cuts words into pieces of its vocabulary, in plain Python."""

    #: Token to id.
    vocabulary: Mapping[str, int]

    @classmethod
    @abstractmethod
    def from_json(cls, model: Mapping[str, Any]) -> PieceModel:
        """Build from ``model`` of a parsed ``tokenizer.json``.

        Raises:
            UnsupportedDeviceError: it has an option that plain Python does not know.
        """

    @abstractmethod
    def cut(self, word: str) -> List[Tuple[int, int, int]]:
        """Id, start and end (in characters of the word) of the pieces of a word, which is not empty."""

    def spelling(self, identifier: int, text: str) -> Optional[str]:
        """How the vocabulary spells a piece that was cut of ``text``; ``None``: just so."""
        return None


def byte_pieces(vocabulary: Mapping[str, int]) -> List[Optional[int]]:
    """The ids of the pieces ``<0x00>`` to ``<0xFF>``, which spell what a vocabulary lacks."""
    return [vocabulary.get(f"<0x{byte:02X}>") for byte in range(256)]


def part_type(description: Mapping[str, Any], part: str) -> str:
    """The type of a part of a parsed ``tokenizer.json``, or ``none``."""
    return str((description.get(part) or {}).get("type", "none"))


def unknown_part(part: str, description: Mapping[str, Any]) -> UnsupportedDeviceError:
    """The error for a part of a ``tokenizer.json`` that plain Python does not run."""
    found = str(description.get("type", "without a type"))[:60]
    return UnsupportedDeviceError(
        f"this bundle's tokenizer has the {part} {found}, which plain Python does not run",
        hint="run `pip install tokenizers` on this device, or give token ids to `Session.run`",
    )
