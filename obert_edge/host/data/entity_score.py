"""Scores of entities: precision, recall and F1 over whole entities, with the numbers of seqeval.

An entity is found when its kind and both its ends are right. *Lenient* reading, which is that of conlleval
and seqeval's default, takes the labels of a model as they come (:mod:`obert_edge.device.pipelines.tagging`).
*Strict* reading, seqeval's ``mode="strict"``, counts only entities that are written as the scheme wants.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Dict, Iterable, List, Optional, Sequence, Set, Tuple

from obert_edge.device.pipelines.tagging import Tag, Tagging, spans

#: (kind, first word, last word + 1).
EntitySpan = Tuple[str, int, int]

_OUTSIDE = Tag("O", "")


@dataclass(frozen=True)
class Strict:
    """How a scheme writes an entity: each rule looks at a word and the one before it.

    Attributes:
        starts: whether an entity starts with the second.
        continues: whether the second belongs to the entity of the first.
        ends: whether an entity whose last word is the first is whole, when the second does not continue it.
    """

    starts: Callable[[Tag, Tag], bool]
    continues: Callable[[Tag, Tag], bool]
    ends: Callable[[Tag, Tag], bool]


def _same(before: Tag, tag: Tag) -> bool:
    return before.kind == tag.kind


#: By the name of the scheme; BILOU and BMES are BIOES with other letters.
STRICT: Dict[str, Strict] = {
    "IOB2": Strict(
        starts=lambda before, tag: tag.prefix == "B",
        continues=lambda before, tag: tag.prefix == "I" and _same(before, tag),
        ends=lambda before, tag: True,
    ),
    # B is only for an entity right behind another of its kind, and nowhere else.
    "IOB1": Strict(
        starts=lambda before, tag: (
            (before.prefix != "O" and _same(before, tag))
            if tag.prefix == "B"
            else tag.prefix == "I" and (before.prefix != "I" or not _same(before, tag))
        ),
        continues=lambda before, tag: tag.prefix == "I" and _same(before, tag),
        ends=lambda before, tag: not (before.prefix == tag.prefix == "B" and not _same(before, tag)),
    ),
    "BIOES": Strict(
        starts=lambda before, tag: tag.prefix in ("B", "S"),
        continues=lambda before, tag: (
            before.prefix in ("B", "I") and tag.prefix in ("I", "E") and _same(before, tag)
        ),
        ends=lambda before, tag: before.prefix in ("E", "S"),
    ),
}
STRICT["BILOU"] = STRICT["BMES"] = STRICT["BIOES"]


def scheme_of(tagging: Tagging, sequences: Iterable[Sequence[str]]) -> str:
    """The scheme of a data set; ``IOB`` where it keeps neither the rules of IOB1 nor those of IOB2.

    Args:
        tagging: how its labels are read.
        sequences: the labels of its sentences.
    """
    if tagging.scheme != "IOB":
        return tagging.scheme
    one = two = True
    for labels in sequences:
        before = _OUTSIDE
        for tag in map(tagging.read, labels):
            open_kind = before.prefix != "O" and _same(before, tag)
            if tag.prefix == "B" and not open_kind:
                one = False
            if tag.prefix == "I" and not open_kind:
                two = False
            before = tag
    return "IOB2" if two else "IOB1" if one else "IOB"


def strict_spans(tags: Sequence[Tag], rules: Strict) -> List[EntitySpan]:
    """The entities that are written as a scheme wants them."""
    found: List[EntitySpan] = []
    place = 0
    while place < len(tags):
        before = tags[place - 1] if place else _OUTSIDE
        if not rules.starts(before, tags[place]):
            place += 1
            continue
        end = place + 1
        while end < len(tags) and rules.continues(tags[end - 1], tags[end]):
            end += 1
        if rules.ends(tags[end - 1], tags[end] if end < len(tags) else _OUTSIDE):
            found.append((tags[place].kind, place, end))
        place = end
    return found


def score_entities(
    predicted: Sequence[Sequence[str]],
    expected: Sequence[Sequence[str]],
    tagging: Tagging,
    strict: Optional[Strict] = None,
) -> Dict[str, float]:
    """``f1``, ``precision`` and ``recall`` over the entities of all sentences together, in percent.

    Args:
        predicted: labels of the words of each sentence.
        expected: the right ones.
        tagging: how labels are read.
        strict: count only entities that keep these rules; default: read leniently.
    """
    found = true = hits = 0
    for ours, theirs in zip(predicted, expected):
        a, b = (_entities(labels, tagging, strict) for labels in (ours, theirs))
        found, true, hits = found + len(a), true + len(b), hits + len(a & b)
    return {
        "f1": 100.0 * 2 * hits / (found + true) if found + true else 0.0,
        "precision": 100.0 * hits / found if found else 0.0,
        "recall": 100.0 * hits / true if true else 0.0,
    }


def _entities(labels: Sequence[str], tagging: Tagging, strict: Optional[Strict]) -> Set[EntitySpan]:
    tags = [tagging.read(label) for label in labels]
    return set(spans(tags) if strict is None else strict_spans(tags, strict))
