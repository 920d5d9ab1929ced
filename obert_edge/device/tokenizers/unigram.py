"""Unigram: the pieces of a word whose probabilities have the largest product.

Source: Kudo 2018 (subword regularization); Kudo and Richardson 2018 (SentencePiece), ``unigram_model.cc``.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence, Set, Tuple

from obert_edge.device.tokenizers.fields import flag_field, number_field, scored_pieces
from obert_edge.device.tokenizers.pieces import PieceModel, byte_pieces
from obert_edge.errors import BundleError

#: A character without a piece costs so much more than the rarest piece.
_UNKNOWN_PENALTY = 10.0


class Unigram(PieceModel):
    """SentencePiece's model.

    Args:
        pieces: each with the logarithm of its probability, by id.
        unknown: the id of the unknown token.
        byte_fallback: spell what is unknown in bytes, where the vocabulary has them.

    Raises:
        BundleError: there is no unknown token.
    """

    def __init__(
        self, pieces: Sequence[Tuple[str, float]], unknown: Optional[int], byte_fallback: bool = False
    ) -> None:
        if unknown is None or not 0 <= unknown < len(pieces):
            raise BundleError(
                f"the unknown token of tokenizer.json is {unknown!r}; expected one of {len(pieces)} pieces",
                hint="save the tokenizer with a `unk_token`, and build again",
            )
        self.vocabulary = {piece: id_ for id_, (piece, _) in enumerate(pieces)}
        self._scores = {piece: float(score) for piece, score in pieces}
        self._unknown = unknown
        self._unknown_score = min(float(score) for _, score in pieces) - _UNKNOWN_PENALTY
        self._lengths = _lengths(self._scores)
        self._bytes = byte_pieces(self.vocabulary) if byte_fallback else None

    @classmethod
    def from_json(cls, model: Mapping[str, Any]) -> Unigram:
        """See :meth:`PieceModel.from_json`."""
        return cls(
            scored_pieces(model["vocab"]),
            number_field(model, "unk_id", None),
            flag_field(model, "byte_fallback", False),
        )

    def cut(self, word: str) -> List[Tuple[int, int, int]]:
        """See :meth:`PieceModel.cut`; what is unknown side by side is one piece."""
        pieces: List[Tuple[int, int, int]] = []
        for start, end in self._best_path(word):
            text = word[start:end]
            id_ = self.vocabulary.get(text)
            if id_ is not None:
                pieces.append((id_, start, end))
                continue
            spelled = [] if self._bytes is None else [self._bytes[byte] for byte in text.encode()]
            if spelled and None not in spelled:
                pieces += [(byte, start, end) for byte in spelled if byte is not None]
            else:
                pieces.append((self._unknown, start, end))
        return pieces

    def _best_path(self, word: str) -> List[Tuple[int, int]]:
        """Spans of the best pieces: Viterbi's algorithm, from the left."""
        size = len(word)
        scores = self._scores
        best: List[float] = [0.0] * (size + 1)
        begins = [-1] * (size + 1)
        for start in range(size):
            here = best[start]
            end = start + 1
            score = here + scores.get(word[start], self._unknown_score)
            if begins[end] < 0 or score > best[end]:
                best[end], begins[end] = score, start
            for length in self._lengths.get(word[start : start + 2], ()):
                end = start + length
                if end > size:
                    break
                found = scores.get(word[start:end])
                if found is not None and (begins[end] < 0 or here + found > best[end]):
                    best[end], begins[end] = here + found, start
        return self._path(word, begins)

    def _path(self, word: str, begins: Sequence[int]) -> List[Tuple[int, int]]:
        """The best pieces from the end to the beginning, turned round; unknown neighbors are one."""
        spans: List[Tuple[int, int]] = []
        fused = False
        end = len(word)
        while end > 0:
            start = begins[end]
            unknown = self.vocabulary.get(word[start:end], self._unknown) == self._unknown
            if unknown and fused:
                spans[-1] = start, spans[-1][1]
            else:
                spans.append((start, end))
            fused = unknown
            end = start
        return spans[::-1]


def _lengths(pieces: Mapping[str, float]) -> Dict[str, Tuple[int, ...]]:
    """The lengths of the pieces that begin with two characters, ascending: a trie of one level."""
    found: Dict[str, Set[int]] = {}
    for piece in pieces:
        if len(piece) > 1:
            found.setdefault(piece[:2], set()).add(len(piece))
    shared: Dict[Tuple[int, ...], Tuple[int, ...]] = {}
    result: Dict[str, Tuple[int, ...]] = {}
    for beginning, lengths in found.items():
        ordered = tuple(sorted(lengths))
        result[beginning] = shared.setdefault(ordered, ordered)
    return result
