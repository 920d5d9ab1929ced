"""What ``predict`` returns: small typed records that turn into JSON."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Tuple

import numpy as np


@dataclass(frozen=True)
class Prediction:
    """Base of all answers."""

    def to_dict(self) -> Dict[str, Any]:
        """The answer as plain Python values, ready for ``json.dumps``."""
        plain = _plain(dataclasses.asdict(self))
        assert isinstance(plain, dict)
        return plain


@dataclass(frozen=True)
class Classification(Prediction):
    """One class out of several.

    Args:
        label: the likeliest class.
        score: its probability.
        scores: the probability of every class.
    """

    label: str
    score: float
    scores: Dict[str, float]


@dataclass(frozen=True)
class MultiLabel(Prediction):
    """Any number of classes.

    Args:
        labels: the classes above the threshold, the likeliest first.
        scores: the probability of every class, each on its own.
    """

    labels: List[str]
    scores: Dict[str, float]


@dataclass(frozen=True)
class Regression(Prediction):
    """A number (or several) instead of a class."""

    values: Dict[str, float]

    @property
    def value(self) -> float:
        """The first, usually the only, value."""
        return next(iter(self.values.values()))


@dataclass(frozen=True)
class Answer(Prediction):
    """A span of a context.

    Args:
        text: the span; empty when the model says there is no answer.
        score: probability of its start times that of its end, within its window.
        start: its first character in the context.
        end: one past its last character.
        alternatives: the next best spans.
    """

    text: str
    score: float
    start: int
    end: int
    alternatives: Tuple[Answer, ...] = ()


@dataclass(frozen=True)
class Entity:
    """A named piece of a text: characters ``start`` to ``end``; ``score`` is the mean over its words."""

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
class Candidate:
    """A token for a masked place, its probability, and the text with it put there."""

    token: str
    id: int
    score: float
    text: str


@dataclass(frozen=True)
class Fillings(Prediction):
    """For each masked place of a text, its likeliest tokens, the best first."""

    masks: List[List[Candidate]]


@dataclass(frozen=True)
class Embedding(Prediction):
    """A vector, float32 ``[channels]``, that stands for a text."""

    vector: np.ndarray


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
