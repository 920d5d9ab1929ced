"""Tokens that are matched as whole strings before any other rule: ``[MASK]``, ``<s>`` and the user's own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

from obert_edge.device.tokenizers.fields import flag_field, object_of, text_field
from obert_edge.device.tokenizers.unicode_classes import WHITESPACE, WORD

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
        special: it marks something, such as the end of a text, and is no text.
    """

    id: int
    content: str
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = False
    special: bool = False

    @classmethod
    def from_json(cls, entry: Mapping[str, Any], identifier: int) -> AddedToken:
        """Read one entry; flags that are missing are false."""
        return cls(
            id=identifier,
            content=text_field(entry, "content"),
            single_word=flag_field(entry, "single_word", False),
            lstrip=flag_field(entry, "lstrip", False),
            rstrip=flag_field(entry, "rstrip", False),
            normalized=flag_field(entry, "normalized", False),
            special=flag_field(entry, "special", False),
        )


def read_added_tokens(
    entries: Sequence[Mapping[str, Any]], vocabulary: Mapping[str, int], size: int
) -> List[AddedToken]:
    """The added tokens with the ids that the ``tokenizers`` library gives them.

    It takes the id of the vocabulary for a token that is there, and counts on for the others, whatever
    ``id`` the file states.

    Args:
        entries: ``added_tokens`` of a ``tokenizer.json``.
        vocabulary: of the model; token to id.
        size: how many pieces the model has, those that occur twice counted twice.
    """
    known: Dict[str, int] = {}
    following = size
    for entry in entries:
        content = text_field(object_of(entry, "added_tokens"), "content")
        if content and content not in known:
            known[content] = vocabulary.get(content, following)
            following += content not in vocabulary
    # Of several entries of one token the last one holds.
    last = {entry["content"]: entry for entry in entries if entry["content"]}
    return [AddedToken.from_json(entry, known[content]) for content, entry in last.items()]


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
        lengths: Dict[str, Set[int]] = {}
        for token in tokens:
            content = normalize(token.content)
            if content:
                self._by_content[content] = token
                lengths.setdefault(content[0], set()).add(len(content))
        #: First characters of tokens -> the lengths of those tokens, longest first.
        self._lengths = {first: sorted(found, reverse=True) for first, found in lengths.items()}
        self._firsts = re.compile(f"[{''.join(map(re.escape, lengths))}]") if lengths else None

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
        taken = 0
        for token, start, end in self._contents(text):
            if token.single_word and (_in_word(text, start - 1) or _in_word(text, end)):
                continue
            if token.lstrip:
                while start > taken and text[start - 1] in WHITESPACE:
                    start -= 1
            if token.rstrip:
                while end < len(text) and text[end] in WHITESPACE:
                    end += 1
            taken = end
            yield start, end, token.id

    def _contents(self, text: str) -> Iterator[Tuple[AddedToken, int, int]]:
        """Where the tokens stand, whatever is around them."""
        if self._firsts is None:
            return
        at = 0
        while True:
            match = self._firsts.search(text, at)
            if match is None:
                return
            start = match.start()
            at = start + 1
            for length in self._lengths[match.group()]:
                token = self._by_content.get(text[start : start + length])
                if token is not None:
                    at = start + length
                    yield token, start, at
                    break


def _in_word(text: str, at: int) -> bool:
    return 0 <= at < len(text) and text[at] in WORD
