"""A tokenizer in plain Python: added tokens, normalizer, pre-tokenizers, model.

Ids, offsets and words equal those of the ``tokenizers`` library, which is used instead wherever it is
installed.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Sequence, Tuple

from obert_edge.device.tokenizers.added_tokens import AddedToken, AddedTokens
from obert_edge.device.tokenizers.byte_level import SPACES
from obert_edge.device.tokenizers.normalizers import create_normalizer
from obert_edge.device.tokenizers.pieces import PieceModel, Pieces
from obert_edge.device.tokenizers.pre_tokenizers import create_pre_tokenizers
from obert_edge.device.tokenizers.special_tokens import trimmings
from obert_edge.device.tokenizers.stretch import Stretch

#: Id, start and end in the word's characters, and how many spaces the token begins and ends with.
_Cut = Tuple[int, int, int, int, int]

#: So many words are remembered with their pieces, of so many characters at most.
_REMEMBERED = 10_000
_LONGEST_REMEMBERED = 64


class PythonTokenizer:
    """Text to ids, offsets and word numbers; a :class:`~.pieces.TextSplitter`.

    Args:
        description: a parsed ``tokenizer.json``.
        model: its model.
        added_tokens: its added tokens.

    Raises:
        UnsupportedDeviceError: it has a part that plain Python does not run.
    """

    def __init__(
        self, description: Mapping[str, Any], model: PieceModel, added_tokens: Sequence[AddedToken]
    ) -> None:
        self._model = model
        self._normalize = create_normalizer(description.get("normalizer"))
        self._pre_tokenize = create_pre_tokenizers(description.get("pre_tokenizer"))
        self._spell = self._pre_tokenize.spell
        self._trimmings = trimmings(description.get("post_processor"))
        self._raw_tokens = AddedTokens([token for token in added_tokens if not token.normalized])
        self._normalized_tokens = AddedTokens(
            [token for token in added_tokens if token.normalized],
            lambda content: self._normalize(Stretch.of(content)).text,
        )
        self._words: Dict[str, List[_Cut]] = {}

    def tokenize(self, text: str) -> Pieces:
        """Cut ``text`` into pieces, without special tokens around them."""
        result = Pieces()
        word = 0
        for start, end, raw in self._raw_tokens.split(text):
            stretch = Stretch.of(text[start:end], start)
            if raw is not None:
                self._append_token(result, raw, stretch, word)
                word += 1
                continue
            normalized = self._normalize(stretch)
            for first, last, inner in self._normalized_tokens.split(normalized.text):
                part = normalized if last - first == len(normalized.text) else normalized.cut(first, last)
                if inner is not None:
                    self._append_token(result, inner, part, word)
                    word += 1
                else:
                    word = self._append_words(result, part, word)
        return result

    def _append_token(self, result: Pieces, identifier: int, stretch: Stretch, word: int) -> None:
        leading, trailing = _spaces(stretch.text) if self._trimmings else (0, 0)
        start, end = stretch.starts[0], stretch.ends[-1]
        if leading or trailing:
            start, end = self._trimmed(not result.ids, start, end, leading, trailing)
        result.append(identifier, start, end, word)

    def _append_words(self, result: Pieces, stretch: Stretch, word: int) -> int:
        """Append the pieces of a stretch without added tokens; the number of the next word."""
        known = self._words
        ids, offsets, words = result.ids, result.offsets, result.words
        for (text, starts, ends), spans in self._pre_tokenize.words(stretch):
            for a, b in spans:
                characters = text[a:b]
                pieces = known.get(characters)
                if pieces is None:
                    pieces = self._cut(characters)
                for identifier, first, last, leading, trailing in pieces:
                    start, end = starts[a + first], ends[a + last - 1]
                    if leading or trailing:
                        start, end = self._trimmed(not ids, start, end, leading, trailing)
                    ids.append(identifier)
                    offsets.append((start, end))
                    words.append(word)
                word += 1
        return word

    def _cut(self, word: str) -> List[_Cut]:
        """The pieces of a word, with what has to be trimmed of their offsets."""
        spelled = word
        places: Sequence[int] = range(len(word))
        if self._spell is not None and word:
            parts = [self._spell[character] for character in word]
            spelled = "".join(parts)
            places = [index for index, part in enumerate(parts) for _ in part]
        pieces: List[_Cut] = []
        for identifier, start, end in self._model.cut(spelled) if spelled else ():
            leading = trailing = 0
            if self._trimmings:
                token = self._model.spelling(identifier, spelled[start:end])
                leading, trailing = _spaces(spelled[start:end] if token is None else token)
            pieces.append((identifier, places[start], places[end - 1] + 1, leading, trailing))
        if len(word) <= _LONGEST_REMEMBERED and len(self._words) < _REMEMBERED:
            self._words[word] = pieces
        return pieces

    def _trimmed(self, first: bool, start: int, end: int, leading: int, trailing: int) -> Tuple[int, int]:
        """Offsets without the spaces at the ends of a token, as the library counts them."""
        for keeps_added_space in self._trimmings:
            if leading:
                added = keeps_added_space and leading == 1 and (first or start == 0)
                start = min(start + (0 if added else leading), end)
            if trailing and end >= trailing:
                end = max(end - trailing, start)
        return start, end


def _spaces(token: str) -> Tuple[int, int]:
    """How many spaces a token begins and ends with."""
    return len(token) - len(token.lstrip(SPACES)), len(token) - len(token.rstrip(SPACES))
