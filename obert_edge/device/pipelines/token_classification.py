"""Token classification: entities, or the labels of tokens, as transformers' pipeline gives them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from obert_edge.device.pipelines.base import Prediction, WindowedPipeline, batches, label_names, softmax
from obert_edge.device.pipelines.tagging import OUTSIDE, Tag, Tagging, begins
from obert_edge.device.tokenizers.tokenizer import Encoding, Windows

#: How the labels of tokens become entities.
NONE, SIMPLE, FIRST, AVERAGE, MAX = "none", "simple", "first", "average", "max"
AGGREGATIONS = (NONE, SIMPLE, FIRST, AVERAGE, MAX)


@dataclass(frozen=True)
class Entity:
    """A named piece of a text.

    Args:
        label: what kind of thing it is, such as ``PER``; with ``aggregation="none"`` the label of a token as
            the model has it, such as ``B-PER``.
        text: the piece.
        score: mean over its words (or tokens) of the probability of their class, 0..1.
        start: its first character in the text.
        end: one past its last character.
    """

    label: str
    text: str
    score: float
    start: int
    end: int


@dataclass(frozen=True)
class Entities(Prediction):
    """The entities of one text, in order."""

    entities: List[Entity]

    def __iter__(self) -> Iterator[Entity]:
        return iter(self.entities)

    def __len__(self) -> int:
        return len(self.entities)


@dataclass(frozen=True)
class _Token:
    """A token of the whole text with the probabilities of its classes, float64[classes]."""

    id: int
    start: int
    end: int
    word: int
    probabilities: np.ndarray


@dataclass(frozen=True)
class _Labeled:
    """A word, or a token where words are not joined, with its class."""

    start: int
    end: int
    label: str
    score: float


@dataclass(frozen=True)
class EntityFinder(WindowedPipeline):
    """Texts to entities, by the rules of transformers' pipeline of this name.

    Args:
        aggregation: ``none`` gives every token with its label; ``simple`` joins tokens by their labels; the
            others join words, which have the label of their ``first`` token (what is trained), that of the
            ``average`` of their tokens' probabilities, or that of the token with the highest (``max``).
        ignore_labels: what is left out: kinds of entities, or with ``none`` labels of tokens.
        stride: tokens that neighboring windows of a long text share, at most two thirds of one.
    """

    aggregation: str = field(default=FIRST, metadata={"choices": AGGREGATIONS})
    ignore_labels: Tuple[str, ...] = (OUTSIDE,)
    stride: int = field(default=64, metadata={"minimum": 0})

    PAIR: ClassVar[Optional[bool]] = False

    def windows(self, text: str, pair: Optional[str] = None) -> Windows:
        """The windows of a text."""
        return self.tokenizer.encode_windows(text, None, self.window_length, self.stride)

    def predict(self, texts: Sequence[Tuple[str, Optional[str]]]) -> List[Prediction]:
        """The entities of each text."""
        return [self._find(text) for text, _ in texts]

    def _find(self, text: str) -> Entities:
        tokens = self._tokens(text)
        names = label_names(self.manifest, len(tokens[0].probabilities) if tokens else 0)
        units = [[token] for token in tokens]
        if self.aggregation not in (NONE, SIMPLE):
            units = self._words(text, tokens)
        labeled = [self._label(unit, names) for unit in units]
        if self.aggregation == NONE:
            found = [_entity(text, one.label, [one]) for one in labeled]
        else:
            found = _join(text, labeled, Tagging.of(names))
        return Entities([entity for entity in found if entity.label not in self.ignore_labels])

    def _tokens(self, text: str) -> List[_Token]:
        """The tokens of the text; one that two windows saw is taken from the one that saw more around it."""
        windows = self.windows(text)
        best: Dict[int, Tuple[int, _Token]] = {}
        first = 0
        for batch in batches(windows):
            logits = self.model.run_encodings(batch)["logits"]
            for window, rows in zip(batch, logits):
                for place, (margin, token) in enumerate(_window_tokens(window, rows), start=first):
                    if place not in best or margin > best[place][0]:
                        best[place] = (margin, token)
                first += windows.step
        return [best[place][1] for place in sorted(best)]

    def _words(self, text: str, tokens: Sequence[_Token]) -> List[List[_Token]]:
        """The tokens of each word.

        A WordPiece tokenizer cuts words at spaces and punctuation. Others cut more finely than words: theirs
        are what stands between spaces, as in transformers' pipeline.
        """
        marked, unknown = self.tokenizer.marks_continuations, self.tokenizer.unknown_id
        words: List[List[_Token]] = []
        for token in tokens:
            if marked:
                continues = bool(words) and words[-1][-1].word == token.word
            else:
                spaced = token.start == 0 or " " in text[token.start - 1 : token.start + 1]
                continues = not spaced and token.id != unknown
            if words and continues:
                words[-1].append(token)
            else:
                words.append([token])
        return words

    def _label(self, unit: Sequence[_Token], names: Sequence[str]) -> _Labeled:
        """The class of a word (or token) by :attr:`aggregation`."""
        probabilities = unit[0].probabilities
        if self.aggregation == AVERAGE:
            probabilities = np.mean([token.probabilities for token in unit], axis=0)
        elif self.aggregation == MAX:
            probabilities = max((token.probabilities for token in unit), key=np.max)
        best = int(probabilities.argmax())
        return _Labeled(unit[0].start, unit[-1].end, names[best], float(probabilities[best]))


def _window_tokens(window: Encoding, logits: np.ndarray) -> List[Tuple[int, _Token]]:
    """The tokens of a window, each with how many lie between it and the nearer edge."""
    found: List[Tuple[int, _Token]] = []
    for place, word in enumerate(window.words):
        if word is not None:
            margin = min(place, len(window) - 1 - place)
            start, end = window.offsets[place]
            found.append((margin, _Token(window.ids[place], start, end, word, softmax(logits[place]))))
    return found


def _join(text: str, labeled: Sequence[_Labeled], tagging: Tagging) -> List[Entity]:
    """Words joined to entities by their labels; those outside are joined too, under their label's name."""
    groups: List[Tuple[str, List[_Labeled]]] = []
    before = Tag("O", "")
    for one in labeled:
        # What is outside is a kind of its own here, so that ``ignore_labels`` decides what is left out.
        tag = Tag("I", one.label) if one.label == tagging.outside else tagging.read(one.label)
        if begins(before, tag):
            groups.append((tag.kind, [one]))
        else:
            groups[-1][1].append(one)
        before = tag
    return [_entity(text, kind, members) for kind, members in groups]


def _entity(text: str, label: str, members: Sequence[_Labeled]) -> Entity:
    start, end = members[0].start, members[-1].end
    return Entity(label, text[start:end], float(np.mean([member.score for member in members])), start, end)
