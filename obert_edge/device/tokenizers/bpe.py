"""RoBERTa's tokenizer in plain Python: byte-level byte-pair encoding.

Ids and offsets equal those of the ``tokenizers`` library, which is used instead wherever it is installed.
Source: Radford et al. 2019 (GPT-2), ``encoder.py``; Sennrich et al. 2016 for the merges.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from obert_edge.device.tokenizers.added_tokens import AddedToken, AddedTokens
from obert_edge.device.tokenizers.pieces import Pieces, PythonTokenizer, part_type
from obert_edge.device.tokenizers.unicode_classes import LETTERS, NUMBERS, WHITESPACE

_CONTRACTIONS = ("'s", "'t", "'d", "'m", "'re", "'ve", "'ll")


def byte_characters() -> Dict[int, str]:
    """The printable character that stands for each byte (``bytes_to_unicode`` of GPT-2)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {byte: chr(byte) for byte in printable}
    for byte in range(256):
        if byte not in table:
            table[byte] = chr(256 + len(table) - len(printable))
    return table


_BYTE_CHARACTERS = byte_characters()
_SPACE = _BYTE_CHARACTERS[0x20]


class _CharacterKinds(Dict[str, str]):
    """What a character is: ``L`` letter, ``N`` number, ``S`` white space, ``O`` other.

    A dictionary that fills itself.
    """

    def __missing__(self, character: str) -> str:
        kind = (
            "S"
            if character in WHITESPACE
            else "L"
            if character in LETTERS
            else "N"
            if character in NUMBERS
            else "O"
        )
        self[character] = kind
        return kind


class BytePairTokenizer(PythonTokenizer):
    """Text to byte-level BPE ids, offsets and word numbers.

    Args:
        vocabulary: token (in byte characters) to id.
        merges: pairs to merge, the most wanted first.
        added_tokens: tokens matched as whole strings.
        add_prefix_space: put a space before each stretch of text that has none.
        trim_offsets: leave the spaces out of the offsets.
        ignore_merges: take a word that is in the vocabulary as it is.
        unknown_token: stands for characters outside the vocabulary (byte-level vocabularies need none).
    """

    def __init__(
        self,
        vocabulary: Mapping[str, int],
        merges: Sequence[Tuple[str, str]],
        added_tokens: Sequence[AddedToken] = (),
        add_prefix_space: bool = False,
        trim_offsets: bool = True,
        ignore_merges: bool = False,
        unknown_token: Optional[str] = None,
    ) -> None:
        self._vocabulary = vocabulary
        self._ranks = {pair: rank for rank, pair in enumerate(merges)}
        # The text is not normalized, so both kinds of added token are looked for in one go, raw ones first.
        self._raw_tokens = AddedTokens([t for t in added_tokens if not t.normalized])
        self._normalized_tokens = AddedTokens([t for t in added_tokens if t.normalized])
        self._add_prefix_space = add_prefix_space
        self._trim_offsets = trim_offsets
        self._ignore_merges = ignore_merges
        self._unknown = None if unknown_token is None else vocabulary.get(unknown_token)
        self._kinds = _CharacterKinds()
        self._words: Dict[str, List[Tuple[Optional[int], str]]] = {}

    @classmethod
    def fits(cls, description: Mapping[str, Any]) -> bool:
        """Whether text is split into bytes as RoBERTa's is, and not normalized before."""
        return part_type(description, "normalizer") == "none" and _is_byte_level(description)

    @classmethod
    def from_json(cls, description: Mapping[str, Any]) -> BytePairTokenizer:
        """Build from a parsed ``tokenizer.json`` that :meth:`fits`."""
        model = description["model"]
        post = description.get("post_processor") or {}
        split = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
        return cls(
            vocabulary=model["vocab"],
            merges=[(first, second) for first, second in split],
            added_tokens=[AddedToken.from_json(entry) for entry in description.get("added_tokens", [])],
            add_prefix_space=bool(description["pre_tokenizer"].get("add_prefix_space", False)),
            trim_offsets=bool(post.get("trim_offsets", False)),
            ignore_merges=bool(model.get("ignore_merges", False)),
            unknown_token=model.get("unk_token"),
        )

    @staticmethod
    def readable(token: str, description: Mapping[str, Any]) -> str:
        """The text that the byte characters of a token stand for, without spaces around it."""
        if not _is_byte_level(description):
            return token
        values = {character: byte for byte, character in _BYTE_CHARACTERS.items()}
        bytes_ = bytes(values[character] for character in token if character in values)
        return bytes_.decode("utf-8", "replace").strip()

    def tokenize(self, text: str) -> Pieces:
        """Cut ``text`` into pieces, without special tokens around them."""
        result = Pieces()
        word = 0
        for outer, outer_end, raw in self._raw_tokens.split(text):
            inner = (
                [(0, outer_end - outer, raw)]
                if raw is not None
                else self._normalized_tokens.split(text[outer:outer_end])
            )
            for first, last, added in inner:
                start, end = outer + first, outer + last
                if added is not None:
                    self._append(result, added, text[start:end], start, end, word)
                    word += 1
                else:
                    word = self._tokenize_stretch(result, text, start, end, word)
        return result

    def _tokenize_stretch(self, result: Pieces, text: str, start: int, end: int, word: int) -> int:
        """Append the tokens of ``text[start:end]``, which holds no added token; the next word's number."""
        stretch = text[start:end]
        origins = list(range(start, end))
        if self._add_prefix_space and not stretch.startswith(" "):
            # The library lets the space it adds share the place of the first character.
            stretch, origins = " " + stretch, [start, *origins]
        for a, b in self._split_words(stretch):
            characters = ""
            places: List[int] = []
            for index in range(a, b):
                encoded = stretch[index].encode()
                characters += "".join(_BYTE_CHARACTERS[byte] for byte in encoded)
                places += [origins[index]] * len(encoded)
            at = 0
            for identifier, token in self._merge(characters):
                if identifier is not None:
                    self._append(result, identifier, token, places[at], places[at + len(token) - 1] + 1, word)
                at += len(token)
            word += 1
        return word

    def _append(self, result: Pieces, identifier: int, token: str, start: int, end: int, word: int) -> None:
        """Append a token, its offsets without spaces where the tokenizer says so."""
        if self._trim_offsets:
            leading = len(token) - len(token.lstrip(_SPACES))
            trailing = len(token) - len(token.rstrip(_SPACES))
            if leading:
                if self._add_prefix_space and (not result.ids or start == 0):
                    leading -= 1  # that space was not in the text
                start = min(start + leading, end)
            if trailing and end >= trailing:
                end = max(end - trailing, start)
        result.append(identifier, start, end, word)

    def _split_words(self, text: str) -> List[Tuple[int, int]]:
        r"""Spans of GPT-2's pattern.

        ``'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+``, which ``re`` cannot
        express: it has no Unicode categories.
        """
        kinds = [self._kinds[character] for character in text]
        words: List[Tuple[int, int]] = []
        at = 0
        while at < len(text):
            end = self._word_end(text, kinds, at)
            words.append((at, end))
            at = end
        return words

    @staticmethod
    def _word_end(text: str, kinds: Sequence[str], at: int) -> int:
        for contraction in _CONTRACTIONS:
            if text.startswith(contraction, at):
                return at + len(contraction)
        body = at + 1 if text[at] == " " and at + 1 < len(text) and kinds[at + 1] != "S" else at
        kind = kinds[body]
        end = body + 1
        while end < len(text) and kinds[end] == kind:
            end += 1
        # A run of white space leaves its last character to the word that follows it.
        if kind == "S" and end < len(text) and end - at > 1:
            end -= 1
        return end

    def _merge(self, word: str) -> List[Tuple[Optional[int], str]]:
        """Merge the byte characters of a word, the most wanted pair first; ``(id, token)`` each."""
        known = self._words.get(word)
        if known is not None:
            return known
        symbols = [word] if self._ignore_merges and word in self._vocabulary else list(word)
        while len(symbols) > 1:
            ranked = [
                (self._ranks[pair], index)
                for index, pair in enumerate(zip(symbols, symbols[1:]))
                if pair in self._ranks
            ]
            if not ranked:
                break
            _, index = min(ranked)
            symbols[index : index + 2] = [symbols[index] + symbols[index + 1]]
        tokens = [(self._vocabulary.get(symbol, self._unknown), symbol) for symbol in symbols]
        if len(self._words) < 10_000:
            self._words[word] = tokens
        return tokens


_SPACES = _SPACE + "".join(WHITESPACE)


def _is_byte_level(description: Mapping[str, Any]) -> bool:
    return part_type(description, "pre_tokenizer") == "ByteLevel"
