"""Byte-pair encoding: neighbors are merged, the most wanted pair first.

Source: Sennrich et al. 2016; Radford et al. 2019 (GPT-2), ``encoder.py``; the queue of pairs as in Kudo and
Richardson 2018 (SentencePiece), ``bpe_model.cc``.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from obert_edge.device.tokenizers.fields import flag_field, numbered_words, text_field, text_pairs
from obert_edge.device.tokenizers.pieces import PieceModel, byte_pieces, unknown_part
from obert_edge.errors import BundleError

#: A pair of ids -> its rank, and the id it becomes.
Merges = Mapping[Tuple[int, int], Tuple[int, int]]
_NOTHING = (-1, -1)


class BytePair(PieceModel):
    """The model of GPT-2, RoBERTa (on byte characters) and Gemma (on characters, bytes for unknown ones).

    Args:
        vocabulary: token to id.
        merges: pairs to merge, the most wanted first.
        unknown_token: stands for a character that the vocabulary lacks; without it, that character is lost.
        fuse_unknown: unknown characters side by side are one token.
        byte_fallback: spell an unknown character in bytes, where the vocabulary has them.
        ignore_merges: take a word that is in the vocabulary as it is.
        prefix: what the characters inside a word begin with in the vocabulary.
        suffix: what the last character of a word ends with in the vocabulary.

    Raises:
        BundleError: a merge or the unknown token is not in the vocabulary.
    """

    def __init__(
        self,
        vocabulary: Mapping[str, int],
        merges: Sequence[Tuple[str, str]],
        *,
        unknown_token: Optional[str] = None,
        fuse_unknown: bool = False,
        byte_fallback: bool = False,
        ignore_merges: bool = False,
        prefix: str = "",
        suffix: str = "",
    ) -> None:
        self.vocabulary = vocabulary
        self.merges = _numbered(vocabulary, merges, len(prefix))
        self._tokens = {id_: token for token, id_ in vocabulary.items()}
        self._unknown = None if unknown_token is None else _id_of(vocabulary, unknown_token)
        self._fuse = fuse_unknown
        self._bytes = byte_pieces(vocabulary) if byte_fallback else None
        self._ignore_merges = ignore_merges
        self._prefix = prefix
        self._suffix = suffix

    @classmethod
    def from_json(cls, model: Mapping[str, Any]) -> BytePair:
        """See :meth:`PieceModel.from_json`."""
        prefix = text_field(model, "continuing_subword_prefix", None) or ""
        suffix = text_field(model, "end_of_word_suffix", None) or ""
        byte_fallback = flag_field(model, "byte_fallback", False)
        if model.get("dropout"):
            raise unknown_part("model", {"type": f"BPE with a dropout of {model['dropout']}"})
        if byte_fallback and (prefix or suffix):
            raise unknown_part("model", {"type": "BPE with byte_fallback and a prefix or suffix"})
        return cls(
            numbered_words(model["vocab"]),
            text_pairs(model["merges"], "merges"),
            unknown_token=text_field(model, "unk_token", None),
            fuse_unknown=flag_field(model, "fuse_unk", False),
            byte_fallback=byte_fallback,
            ignore_merges=flag_field(model, "ignore_merges", False),
            prefix=prefix,
            suffix=suffix,
        )

    def spelling(self, identifier: int, text: str) -> Optional[str]:
        """See :meth:`PieceModel.spelling`."""
        return self._tokens.get(identifier)

    def cut(self, word: str) -> List[Tuple[int, int, int]]:
        """See :meth:`PieceModel.cut`."""
        if self._ignore_merges and word in self.vocabulary:
            return [(self.vocabulary[word], 0, len(word))]
        symbols, sizes = self._symbols(word)
        if sizes is None:
            ends = merge(symbols, self.merges)
            return [(symbols[start], start, end) for start, end in ends]
        # Some characters are gone or spelled in bytes: the library counts what is left in bytes.
        places = [index for index, character in enumerate(word) for _ in character.encode()]
        begins = [0]
        for size in sizes:
            begins.append(begins[-1] + size)
        return [
            (symbols[start], places[begins[start]], places[begins[end] - 1] + 1)
            for start, end in merge(symbols, self.merges)
        ]

    def _symbols(self, word: str) -> Tuple[List[int], Optional[List[int]]]:
        """Ids of the characters; and how many bytes each stands for, unless each is one character."""
        spelled = self._spelled(word)
        symbols = [self.vocabulary.get(text) for text in spelled]
        known = [symbol for symbol in symbols if symbol is not None]
        if len(known) == len(symbols):
            return known, None
        return self._with_unknown(word, symbols)

    def _spelled(self, word: str) -> List[str]:
        if not self._prefix and not self._suffix:
            return list(word)
        spelled = [word[0], *(self._prefix + character for character in word[1:])]
        spelled[-1] += self._suffix
        return spelled

    def _with_unknown(self, word: str, symbols: Sequence[Optional[int]]) -> Tuple[List[int], List[int]]:
        """The same where characters are unknown; an unknown token comes when the next known one does."""
        result: List[int] = []
        sizes: List[int] = []
        waiting = 0  # bytes that an unknown token stands for
        for character, symbol in zip(word, symbols):
            encoded = character.encode()
            if symbol is not None:
                if waiting and self._unknown is not None:
                    result.append(self._unknown)
                    sizes.append(waiting)
                    waiting = 0
                result.append(symbol)
                sizes.append(len(encoded))
                continue
            in_bytes = [] if self._bytes is None else [self._bytes[byte] for byte in encoded]
            if in_bytes and None not in in_bytes:
                result += [byte for byte in in_bytes if byte is not None]
                sizes += [1] * len(in_bytes)
            elif self._unknown is not None:
                if waiting and not self._fuse:
                    result.append(self._unknown)
                    sizes.append(waiting)
                    waiting = 0
                waiting += len(encoded)
        if waiting and self._unknown is not None:
            result.append(self._unknown)
            sizes.append(waiting)
        return result, sizes


def merge(symbols: List[int], merges: Merges) -> List[Tuple[int, int]]:
    """Merge neighbors, the lowest rank first and of equals the leftmost: O(n log n) in the symbols.

    Args:
        symbols: ids; in place, the first symbol of every span becomes the id of the span.
        merges: what to merge.

    Returns:
        The spans of what is left: start and end, in symbols.
    """
    size = len(symbols)
    following = list(range(1, size + 1))
    before = list(range(-1, size - 1))
    queue = _queue(symbols, merges)
    while queue:
        _, at, new = heappop(queue)
        right = following[at]
        if right < 0 or right >= size:
            continue  # it was merged into the symbol before, or is the last one
        if merges.get((symbols[at], symbols[right]), _NOTHING)[1] != new:
            continue  # one of both has become another symbol since
        symbols[at] = new
        after = following[at] = following[right]
        following[right] = -1
        if after < size:
            before[after] = at
            found = merges.get((new, symbols[after]))
            if found is not None:
                heappush(queue, (found[0], at, found[1]))
        if before[at] >= 0:
            found = merges.get((symbols[before[at]], new))
            if found is not None:
                heappush(queue, (found[0], before[at], found[1]))
    spans: List[Tuple[int, int]] = []
    at = 0
    while at < size:
        spans.append((at, following[at]))
        at = following[at]
    return spans


def _queue(symbols: Sequence[int], merges: Merges) -> List[Tuple[int, int, int]]:
    """A heap of the pairs that merge: rank, place, and what they become."""
    pairs = enumerate(map(merges.get, zip(symbols, symbols[1:])))
    queue = [(found[0], at, found[1]) for at, found in pairs if found is not None]
    heapify(queue)
    return queue


def _numbered(vocabulary: Mapping[str, int], merges: Sequence[Tuple[str, str]], prefix: int) -> Merges:
    numbered: Dict[Tuple[int, int], Tuple[int, int]] = {}
    for rank, (first, second) in enumerate(merges):
        pair = _id_of(vocabulary, first), _id_of(vocabulary, second)
        numbered[pair] = rank, _id_of(vocabulary, first + second[prefix:])
    return numbered


def _id_of(vocabulary: Mapping[str, int], token: str) -> int:
    try:
        return vocabulary[token]
    except KeyError:
        raise BundleError(
            f"tokenizer.json merges or names {token!r}, which its vocabulary lacks",
            hint="download or save the tokenizer again, and build again",
        ) from None
