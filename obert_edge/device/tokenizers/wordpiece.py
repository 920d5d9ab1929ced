"""BERT's tokenizer in plain Python: normalizer, pre-tokenizer and WordPiece.

Ids and offsets equal those of the ``tokenizers`` library, which is used instead wherever it is installed.
Source: Devlin et al. 2019 (BERT), ``tokenization.py``; offsets as the Hugging Face library counts them,
in characters of the text that was given.
"""

from __future__ import annotations

import unicodedata
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from obert_edge.device.tokenizers.added_tokens import AddedToken, AddedTokens
from obert_edge.device.tokenizers.pieces import Pieces, PythonTokenizer, part_type
from obert_edge.device.tokenizers.unicode_classes import NONSPACING_MARKS, PUNCTUATION, REMOVED, WHITESPACE

#: Blocks BERT sets apart as Chinese characters. The fifth starts at U+2B920 (not U+2B740) as in the library.
_CHINESE = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B920, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)

_WORD, _SPACE, _PUNCTUATION = 0, 1, 2


class BertNormalizer(Dict[str, str]):
    """Maps a character to what the normalizer makes of it, and remembers it.

    Every step (cleaning, spaces around Chinese characters, NFD without non-spacing marks, lower case) looks
    at one character at a time, so the whole normalizer is a dictionary that fills itself.

    Args:
        clean_text: drop control characters, make all white space a space.
        handle_chinese_chars: set Chinese characters apart.
        strip_accents: drop accents; ``None`` follows ``lowercase``.
        lowercase: make lower case.
    """

    def __init__(
        self,
        clean_text: bool = True,
        handle_chinese_chars: bool = True,
        strip_accents: Optional[bool] = None,
        lowercase: bool = True,
    ) -> None:
        super().__init__()
        self._clean_text = clean_text
        self._chinese = handle_chinese_chars
        self._strip_accents = lowercase if strip_accents is None else strip_accents
        self._lowercase = lowercase

    def __missing__(self, character: str) -> str:
        result = self._normalize(character)
        self[character] = result
        return result

    def _normalize(self, character: str) -> str:
        text = character
        if self._clean_text:
            if text in "\t\n\r":
                text = " "
            elif text in REMOVED:
                return ""
            elif text in WHITESPACE:
                text = " "
        if self._chinese and any(first <= ord(text) <= last for first, last in _CHINESE):
            text = f" {text} "
        if self._strip_accents:
            text = "".join(c for c in unicodedata.normalize("NFD", text) if c not in NONSPACING_MARKS)
        if self._lowercase:
            text = "".join(c.lower() for c in text)
        return text

    def apply(self, text: str) -> Tuple[str, List[int]]:
        """Normalize ``text``; the second result is the index in ``text`` each character came from."""
        parts = [self[character] for character in text]
        origins = [index for index, part in enumerate(parts) for _ in part]
        return "".join(parts), origins


class _CharacterKinds(Dict[str, int]):
    """Whether a character is a word's, white space or punctuation; a dictionary that fills itself."""

    def __missing__(self, character: str) -> int:
        kind = _SPACE if character in WHITESPACE else _PUNCTUATION if character in PUNCTUATION else _WORD
        self[character] = kind
        return kind


class WordPieceTokenizer(PythonTokenizer):
    """Text to WordPiece ids, offsets and word numbers.

    Args:
        vocabulary: token to id.
        normalizer: the character map, or ``None`` for text taken as it is.
        added_tokens: tokens matched as whole strings.
        unknown_token: stands for a word that no pieces make up.
        prefix: what pieces inside a word begin with.
        longest_word: words of more characters are unknown.
    """

    def __init__(
        self,
        vocabulary: Mapping[str, int],
        normalizer: Optional[BertNormalizer],
        added_tokens: Sequence[AddedToken] = (),
        unknown_token: str = "[UNK]",
        prefix: str = "##",
        longest_word: int = 100,
    ) -> None:
        self._vocabulary = vocabulary
        self._normalizer = normalizer
        self._unknown = vocabulary[unknown_token]
        self._prefix = prefix
        self._longest_word = longest_word
        self._longest_token = max(map(len, vocabulary), default=0)
        self._raw_tokens = AddedTokens([t for t in added_tokens if not t.normalized])
        self._normalized_tokens = AddedTokens(
            [t for t in added_tokens if t.normalized], lambda content: self._normalize(content)[0]
        )
        self._kinds = _CharacterKinds()
        self._words: Dict[str, List[Tuple[int, int, int]]] = {}

    @classmethod
    def fits(cls, description: Mapping[str, Any]) -> bool:
        """Whether the normalizer, if there is one, and the pre-tokenizer are BERT's."""
        normalizer = part_type(description, "normalizer")
        pre_tokenizer = part_type(description, "pre_tokenizer")
        return normalizer in ("BertNormalizer", "none") and pre_tokenizer == "BertPreTokenizer"

    @classmethod
    def from_json(cls, description: Mapping[str, Any]) -> WordPieceTokenizer:
        """Build from a parsed ``tokenizer.json`` that :meth:`fits`."""
        model = description["model"]
        normalizer = description.get("normalizer")
        options = {key: value for key, value in (normalizer or {}).items() if key != "type"}
        return cls(
            vocabulary=model["vocab"],
            normalizer=BertNormalizer(**options) if normalizer else None,
            added_tokens=[AddedToken.from_json(entry) for entry in description.get("added_tokens", [])],
            unknown_token=model.get("unk_token", "[UNK]"),
            prefix=model.get("continuing_subword_prefix", "##"),
            longest_word=model.get("max_input_chars_per_word", 100),
        )

    def tokenize(self, text: str) -> Pieces:
        """Cut ``text`` into pieces, without special tokens around them."""
        result = Pieces()
        word = 0
        for start, end, added in self._raw_tokens.split(text):
            if added is not None:
                result.append(added, start, end, word)
                word += 1
                continue
            normalized, origins = self._normalize(text[start:end])
            for first, last, inner in self._normalized_tokens.split(normalized):
                if inner is not None:
                    result.append(inner, start + origins[first], start + origins[last - 1] + 1, word)
                    word += 1
                    continue
                for a, b in self._split_words(normalized, first, last):
                    for piece, c, d in self._pieces(normalized[a:b]):
                        result.append(piece, start + origins[a + c], start + origins[a + d - 1] + 1, word)
                    word += 1
        return result

    def _normalize(self, text: str) -> Tuple[str, List[int]]:
        return (
            self._normalizer.apply(text) if self._normalizer is not None else (text, list(range(len(text))))
        )

    def _split_words(self, text: str, first: int, last: int) -> List[Tuple[int, int]]:
        """Spans of the words of ``text[first:last]``: white space parts them, punctuation stands alone."""
        words: List[Tuple[int, int]] = []
        start = first
        for index in range(first, last):
            kind = self._kinds[text[index]]
            if kind == _WORD:
                continue
            if start < index:
                words.append((start, index))
            if kind == _PUNCTUATION:
                words.append((index, index + 1))
            start = index + 1
        if start < last:
            words.append((start, last))
        return words

    def _pieces(self, word: str) -> List[Tuple[int, int, int]]:
        """``(id, start, end)`` of the longest pieces from the left, or one unknown token for all of it."""
        known = self._words.get(word)
        if known is None:
            known = self._find_pieces(word)
            if len(self._words) < 10_000:
                self._words[word] = known
        return known

    def _find_pieces(self, word: str) -> List[Tuple[int, int, int]]:
        unknown = [(self._unknown, 0, len(word))]
        if len(word) > self._longest_word:
            return unknown
        pieces: List[Tuple[int, int, int]] = []
        start = 0
        while start < len(word):
            prefix = self._prefix if start else ""
            for end in range(min(len(word), start + self._longest_token), start, -1):
                identifier = self._vocabulary.get(prefix + word[start:end])
                if identifier is not None:
                    pieces.append((identifier, start, end))
                    start = end
                    break
            else:
                return unknown
        return pieces
