"""Token classification: entities from BIO labels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from obert_edge.device.pipelines.base import Pipeline, Prediction, batches, label_names, softmax
from obert_edge.device.tokenizers.tokenizer import Encoding


@dataclass(frozen=True)
class Entity:
    """A named piece of a text.

    Args:
        label: what kind of thing it is, such as ``PER``.
        text: the piece.
        score: mean over its words of the probability of their class, 0..1.
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
class _Word:
    """A word with the class of its first token."""

    start: int
    end: int
    label: str
    score: float


@dataclass(frozen=True)
class EntityFinder(Pipeline):
    """Texts to entities: a word takes the label of its first token, as in training; BIO labels are joined.

    Args:
        stride: tokens that neighboring windows of a long text share.
        outside: the label of words that are no entity.
    """

    stride: int = field(default=64, metadata={"minimum": 0})
    outside: str = "O"

    PAIR: ClassVar[Optional[bool]] = False

    def predict(self, texts: Sequence[Tuple[str, Optional[str]]]) -> List[Prediction]:
        """The entities of each text."""
        return [self._find(text) for text, _ in texts]

    def _find(self, text: str) -> Entities:
        limit = self.manifest.model.max_length
        windows = self.tokenizer.encode_windows(text, None, limit, self.stride)
        words: Dict[int, Tuple[int, _Word]] = {}
        for batch in batches(windows):
            logits = self.model.run_encodings(batch)["logits"]
            for window, rows in zip(batch, logits):
                for number, margin, word in self._words(window, rows):
                    # A word two windows saw is taken from the one that saw more around it.
                    if number not in words or margin > words[number][0]:
                        words[number] = (margin, word)
        return Entities(self._join(text, [words[number][1] for number in sorted(words)]))

    def _words(self, window: Encoding, logits: np.ndarray) -> List[Tuple[int, int, _Word]]:
        """``(number, tokens to the nearer edge of the window, word)`` of each word."""
        names = label_names(self.manifest, logits.shape[-1])
        positions: Dict[int, List[int]] = {}
        for position, number in enumerate(window.words):
            if number is not None:
                positions.setdefault(number, []).append(position)
        found: List[Tuple[int, int, _Word]] = []
        for number, own in positions.items():
            probabilities = softmax(logits[own[0]])
            best = int(probabilities.argmax())
            start, end = window.offsets[own[0]][0], window.offsets[own[-1]][1]
            margin = min(own[0], len(window) - 1 - own[-1])
            found.append((number, margin, _Word(start, end, names[best], float(probabilities[best]))))
        return found

    def _join(self, text: str, words: Sequence[_Word]) -> List[Entity]:
        groups: List[Tuple[str, List[_Word]]] = []
        open_kind: Optional[str] = None
        for word in words:
            prefix, kind = _split_label(word.label)
            if word.label == self.outside:
                open_kind = None
            elif kind == open_kind and prefix != "B":
                groups[-1][1].append(word)
            else:
                groups.append((kind, [word]))
                open_kind = kind
        return [
            Entity(
                label=kind,
                text=text[members[0].start : members[-1].end],
                score=float(np.mean([member.score for member in members])),
                start=members[0].start,
                end=members[-1].end,
            )
            for kind, members in groups
        ]


def _split_label(label: str) -> Tuple[str, str]:
    """``B-PER`` is ``("B", "PER")``; a label without a prefix is one that continues itself."""
    return (label[0], label[2:]) if label[:2] in ("B-", "I-") else ("I", label)
