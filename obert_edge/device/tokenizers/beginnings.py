"""Beginnings of long texts: what is cut off anyway is not cut into tokens first.

A token takes some 300 bytes and 2 microseconds, and a text of megabytes has a million of them, of which a
model reads some hundred. Where a tokenizer lets no word reach over a space, the tokens of a text that ends
before a space are the first ones of the whole text, but perhaps for the last of them.
"""

from __future__ import annotations

from typing import Any, Iterator, Mapping, Sequence

from obert_edge.device.tokenizers.added_tokens import AddedToken
from obert_edge.device.tokenizers.fields import flag_field

#: Tokens at the end of a beginning that nobody relies on.
MARGIN = 16
#: Characters that are tried first for each token that is wanted, and how many times as many after that.
_CHARACTERS, _MORE = 8, 4
#: Normalizers that change a character by itself or by those of its cluster.
_LOCAL = frozenset(
    ("BertNormalizer", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "Nmt", "Precompiled", "Prepend", "Strip")
    + ("StripAccents", "Sequence")
)
#: Regular expressions of published tokenizers that match spaces alone.
_SPACES = frozenset((" {2,}", r"\s+", r"\s{2,}", "[\n\r\t]", r"[\n\r\t]", r"\s{2,}|[\n\r\t]"))
#: Pre-tokenizers that begin a new word at a space, and those that only divide words further.
_AT_SPACES = frozenset(("BertPreTokenizer", "ByteLevel", "Metaspace", "Whitespace", "WhitespaceSplit"))
_WITHIN_WORDS = frozenset(("Digits", "Punctuation", "Sequence"))


def ends_words_at_spaces(parts: Sequence[Mapping[str, Any]], added: Sequence[AddedToken]) -> bool:
    """Whether no word and no added token of a tokenizer reaches over a space, as far as its parts say.

    Args:
        parts: its normalizers and pre-tokenizers, those of sequences included.
        added: its added tokens.
    """
    splits = False
    for part in parts:
        kind = part.get("type")
        if kind in _AT_SPACES and flag_field(part, "use_regex" if kind == "ByteLevel" else "split", True):
            splits = True
        elif kind == "Replace":
            if not _is_local(part.get("pattern")):
                return False
        elif kind not in _LOCAL and kind not in _WITHIN_WORDS:
            return False
    return splits and all(_is_within(token.content) for token in added)


def beginnings(text: str, tokens: int) -> Iterator[str]:
    """Longer and longer beginnings of a text, up to half of it, each of which ends before a space.

    Args:
        text: the text.
        tokens: how many of its tokens are wanted.
    """
    length = _CHARACTERS * (tokens + MARGIN)
    while 2 * length < len(text):
        end = text.rfind(" ", length // 2, length)
        found = text[: max(end, 0)].rstrip()
        if found:
            yield found
        length *= _MORE


def _is_local(pattern: Any) -> bool:
    """Whether a pattern cannot match what begins before a space and ends behind it."""
    if not isinstance(pattern, Mapping):
        return False
    if pattern.get("Regex") in _SPACES:
        return True
    given = pattern.get("String")
    return isinstance(given, str) and _is_within(given)


def _is_within(text: str) -> bool:
    """Whether a text lies within one word, or between two."""
    return text.isspace() or not any(map(str.isspace, text))
