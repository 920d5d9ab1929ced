"""WordLevel: a word is a token, or unknown."""

from __future__ import annotations

from typing import Any, List, Mapping, Tuple

from obert_edge.device.tokenizers.fields import numbered_words, text_field
from obert_edge.device.tokenizers.pieces import PieceModel


class WordLevel(PieceModel):
    """Whole words.

    Args:
        vocabulary: word to id.
        unknown_token: stands for all other words.
    """

    def __init__(self, vocabulary: Mapping[str, int], unknown_token: str) -> None:
        self.vocabulary = vocabulary
        self._unknown = vocabulary[unknown_token]

    @classmethod
    def from_json(cls, model: Mapping[str, Any]) -> WordLevel:
        """See :meth:`PieceModel.from_json`."""
        return cls(numbered_words(model["vocab"]), text_field(model, "unk_token"))

    def cut(self, word: str) -> List[Tuple[int, int, int]]:
        """See :meth:`PieceModel.cut`."""
        return [(self.vocabulary.get(word, self._unknown), 0, len(word))]
