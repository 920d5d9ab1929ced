"""What a tokenizer makes of one text before special tokens are put around it, and what makes it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, List, Mapping, Protocol, Tuple


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


class PythonTokenizer(ABC):
    """A tokenizer model in plain Python; a :class:`TextSplitter`."""

    @classmethod
    @abstractmethod
    def fits(cls, description: Mapping[str, Any]) -> bool:
        """Whether this class runs all parts of a parsed ``tokenizer.json`` whose model is of its type."""

    @classmethod
    @abstractmethod
    def from_json(cls, description: Mapping[str, Any]) -> PythonTokenizer:
        """Build from a parsed ``tokenizer.json`` that :meth:`fits`."""

    @abstractmethod
    def tokenize(self, text: str) -> Pieces:
        """Cut ``text`` into tokens, without special tokens around them."""

    @staticmethod
    def readable(token: str, description: Mapping[str, Any]) -> str:
        """A token of the vocabulary as people read it."""
        return token


def part_type(description: Mapping[str, Any], part: str) -> str:
    """The type of a part of a parsed ``tokenizer.json``, or ``none``."""
    return str((description.get(part) or {}).get("type", "none"))
