"""Tokens that are matched as whole strings before any other rule: ``[MASK]``, ``<s>`` and the user's own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from obert_edge.device.tokenizers.unicode_classes import WHITESPACE

#: ``(start, end, id)`` of a piece of text; the id is ``None`` for ordinary text.
Piece = Tuple[int, int, Optional[int]]


@dataclass(frozen=True)
class AddedToken:
    """One entry of ``added_tokens`` in ``tokenizer.json``.

    Args:
        id: the token's id.
        content: the string that stands for it.
        single_word: match only when no word character touches it.
        lstrip: swallow the white space to its left.
        rstrip: swallow the white space to its right.
        normalized: match on the normalized text instead of the raw one.
    """

    id: int
    content: str
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = False

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> AddedToken:
        """Read one entry; flags that are missing are false."""
        return cls(
            id=int(entry["id"]),
            content=str(entry["content"]),
            single_word=bool(entry.get("single_word", False)),
            lstrip=bool(entry.get("lstrip", False)),
            rstrip=bool(entry.get("rstrip", False)),
            normalized=bool(entry.get("normalized", False)),
        )


class AddedTokens:
    """Finds added tokens in a text, longest first at every position.

    Args:
        tokens: the tokens to find.
        normalize: applied to the tokens' contents, when they are to be found in normalized text.
    """

    def __init__(
        self, tokens: Sequence[AddedToken], normalize: Callable[[str], str] = lambda content: content
    ) -> None:
        self._by_content: Dict[str, AddedToken] = {}
        for token in tokens:
            content = normalize(token.content)
            if content:
                self._by_content[content] = token
        longest_first = sorted(self._by_content, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def split(self, text: str) -> List[Piece]:
        """Cut ``text`` into added tokens and what is between them; empty pieces are left out."""
        pieces: List[Piece] = []
        at = 0
        for start, end, identifier in self._matches(text):
            if start > at:
                pieces.append((at, start, None))
            pieces.append((start, end, identifier))
            at = end
        if at < len(text):
            pieces.append((at, len(text), None))
        return pieces

    def _matches(self, text: str) -> Iterator[Tuple[int, int, int]]:
        if self._pattern is None:
            return
        taken = 0
        for match in self._pattern.finditer(text):
            token = self._by_content[match.group()]
            start, end = match.span()
            if start < taken:
                continue
            if token.single_word and (_is_word(text[start - 1 : start]) or _is_word(text[end : end + 1])):
                continue
            if token.lstrip:
                while start > taken and text[start - 1] in WHITESPACE:
                    start -= 1
            if token.rstrip:
                while end < len(text) and text[end] in WHITESPACE:
                    end += 1
            taken = end
            yield start, end, token.id


def _is_word(character: str) -> bool:
    return bool(re.match(r"\w", character))
