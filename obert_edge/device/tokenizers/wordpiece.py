"""WordPiece: the longest pieces of a word, from the left.

Source: Devlin et al. 2019 (BERT), ``tokenization.py``.
"""

from __future__ import annotations

from typing import Any, List, Mapping, Tuple

from obert_edge.device.tokenizers.fields import number_field, numbered_words, text_field
from obert_edge.device.tokenizers.pieces import PieceModel


class WordPiece(PieceModel):
    """BERT's model.

    Args:
        vocabulary: token to id.
        unknown_token: stands for a word that no pieces make up.
        prefix: what pieces inside a word begin with.
        longest_word: words of more characters are unknown.
    """

    def __init__(
        self,
        vocabulary: Mapping[str, int],
        unknown_token: str = "[UNK]",
        prefix: str = "##",
        longest_word: int = 100,
    ) -> None:
        self.vocabulary = vocabulary
        self._unknown = vocabulary[unknown_token]
        self._prefix = prefix
        self._longest_word = longest_word
        self._longest_token = max(map(len, vocabulary), default=0)

    @classmethod
    def from_json(cls, model: Mapping[str, Any]) -> WordPiece:
        """See :meth:`PieceModel.from_json`."""
        return cls(
            numbered_words(model["vocab"]),
            text_field(model, "unk_token", "[UNK]"),
            text_field(model, "continuing_subword_prefix", "##"),
            number_field(model, "max_input_chars_per_word", 100),
        )

    def cut(self, word: str) -> List[Tuple[int, int, int]]:
        """See :meth:`PieceModel.cut`."""
        unknown = [(self._unknown, 0, len(word))]
        if len(word) > self._longest_word:
            return unknown
        pieces: List[Tuple[int, int, int]] = []
        start = 0
        while start < len(word):
            prefix = self._prefix if start else ""
            for end in range(min(len(word), start + self._longest_token), start, -1):
                identifier = self.vocabulary.get(prefix + word[start:end])
                if identifier is not None:
                    pieces.append((identifier, start, end))
                    start = end
                    break
            else:
                return unknown
        return pieces
