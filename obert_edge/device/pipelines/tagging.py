"""What the labels of words mean: where entities begin and end, by the schemes of the field.

=========  ==========================  =======================================================
scheme     prefixes                    an entity
=========  ==========================  =======================================================
IOB2       B, I                        begins with B ("BIO")
IOB1       B, I                        begins with I, and with B only right behind one of its kind
BIOES      B, I, E, S                  ends with E, or is one word, S; also called IOBES
BILOU      B, I, L, U                  the same with L for E and U for S
BMES       B, M, E, S                  the same with M for I
plain      none                        is a run of words with one label
=========  ==========================  =======================================================

Labels are read leniently, as conlleval and seqeval do by default: an entity begins with B or S, and with any
other prefix where none of its kind is open; it ends with E or S, or where its kind ends. The same rule joins
words on the device and scores them on the host.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import List, Optional, Pattern, Sequence, Tuple

#: The label of words that are in no entity.
OUTSIDE = "O"

#: Prefixes by what they mean: begin, inside, end, single.
_MEANINGS = {"B": "B", "I": "I", "M": "I", "E": "E", "L": "E", "S": "S", "U": "S", "W": "S"}
#: How a set of labels may mark all its entities. The groups are the prefix and the kind.
_UPPER = re.compile(r"(?P<prefix>[BIMELSUW])-(?P<kind>.+)", re.DOTALL)
#: Other spellings of the same, believed where a label begins an entity: b-per, B_PER, PER-B, and B alone.
_SPELLINGS = (
    re.compile(r"(?P<prefix>[bimelsuw])-(?P<kind>.+)", re.DOTALL),
    re.compile(r"(?P<prefix>[BIMELSUW])_(?P<kind>.+)", re.DOTALL),
    re.compile(r"(?P<kind>.+)[-_](?P<prefix>[BIMELSUW])", re.DOTALL),
    re.compile(r"(?P<kind>)(?P<prefix>[BIES])"),
)
#: In a set where other labels have no prefix, only these are taken for one.
_MIXED = re.compile(r"(?P<prefix>[BI])-(?P<kind>.+)", re.DOTALL)
#: The kind of an entity whose labels are B, I and so on alone, as seqeval calls it.
_UNNAMED = "_"


@dataclass(frozen=True)
class Tag:
    """What one label says of its word.

    Attributes:
        prefix: ``B`` begins an entity, ``I`` is inside, ``E`` ends one, ``S`` is one; ``O`` is in none.
        kind: of the entity; empty for ``O``.
    """

    prefix: str
    kind: str


@dataclass(frozen=True)
class Tagging:
    """How the labels of one data set or model are read.

    Attributes:
        outside: the label of words that are in no entity; ``None``: every word is in one.
        pattern: finds prefix and kind in a label; ``None``: labels are kinds, and continue themselves.
        prefixes: those that occur, as they are written.
    """

    outside: Optional[str]
    pattern: Optional[Pattern[str]]
    prefixes: str = ""

    @classmethod
    def of(cls, labels: Sequence[str]) -> Tagging:
        """Find out from all labels of a set how they are meant.

        Where ``O`` is not among them and all others but one have a prefix, that one is outside.
        """
        distinct = list(dict.fromkeys(labels))
        outside = OUTSIDE if OUTSIDE in distinct else None
        inside = [label for label in distinct if label != outside]
        candidates: List[Tuple[Optional[str], List[str]]] = [(outside, inside)]
        if outside is None:
            candidates += [(one, [other for other in inside if other != one]) for one in _odd_ones(inside)]
        for left_out, others in candidates:
            pattern = _common_pattern(others)
            if pattern is not None:
                return cls(left_out, pattern, _prefixes(pattern, others))
        mixed = [label for label in inside if _MIXED.fullmatch(label)]
        return cls(outside, _MIXED, _prefixes(_MIXED, mixed)) if mixed else cls(outside, None)

    @property
    def scheme(self) -> str:
        """The scheme by the prefixes that occur; ``IOB`` stands for IOB1 and IOB2, which share theirs."""
        if self.pattern is None:
            return "plain"
        used = set(self.prefixes.upper())
        for scheme, own in (("BILOU", "LU"), ("BMES", "MW"), ("BIOES", "ES")):
            if used & set(own):
                return scheme
        return "IOB"

    def respelled(self, name: str, labels: Sequence[str]) -> str:
        """The tag of another set as these labels would spell it: ``I-PER`` beside ``b-per`` is ``i-per``.

        Args:
            name: a tag that is not among the labels.
            labels: those that this was made of.
        """
        spellings = (_UPPER, *_SPELLINGS[:3])
        theirs = next((found for one in spellings if (found := one.fullmatch(name))), None)
        if self.pattern is None or theirs is None:
            return name
        ours = [found for found in map(self.pattern.fullmatch, labels) if found and found["kind"]]
        same = [found for found in ours if found["kind"].casefold() == theirs["kind"].casefold()]
        if not ours:
            return name
        sample = (same or ours)[0]
        kind = sample["kind"] if same else theirs["kind"]
        prefix = theirs["prefix"].lower() if sample["prefix"].islower() else theirs["prefix"].upper()
        text = sample.string
        ends = sorted([(sample.span("prefix"), prefix), (sample.span("kind"), kind)])
        return ends[0][1] + text[ends[0][0][1] : ends[1][0][0]] + ends[1][1]

    def read(self, label: str) -> Tag:
        """What a label says; one without a prefix continues its kind."""
        if label == self.outside:
            return Tag("O", "")
        match = self.pattern.fullmatch(label) if self.pattern is not None else None
        if match is None:
            return Tag("I", label)
        return Tag(_MEANINGS[match["prefix"].upper()], match["kind"] or _UNNAMED)


def begins(before: Tag, tag: Tag) -> bool:
    """Whether an entity begins with a word.

    Args:
        before: of the word before it; ``O`` at the start.
        tag: of the word.
    """
    if tag.prefix == "O":
        return False
    return tag.prefix in "BS" or before.prefix in "OES" or before.kind != tag.kind


def spans(tags: Sequence[Tag]) -> List[Tuple[str, int, int]]:
    """``(kind, first, last + 1)`` of every entity of a sequence of words, in order."""
    found: List[Tuple[str, int, int]] = []
    before = Tag("O", "")
    for place, tag in enumerate(tags):
        if begins(before, tag):
            found.append((tag.kind, place, place + 1))
        elif tag.prefix != "O":
            kind, first, _ = found[-1]
            found[-1] = (kind, first, place + 1)
        before = tag
    return found


def _odd_ones(labels: Sequence[str]) -> List[str]:
    """The labels that alone keep a spelling from being that of all, in their order."""
    odd = set()
    for pattern in (_UPPER, *_SPELLINGS):
        others = [label for label in labels if not pattern.fullmatch(label)]
        if len(others) == 1:
            odd.add(others[0])
    return [label for label in labels if label in odd]


def _common_pattern(labels: Sequence[str]) -> Optional[Pattern[str]]:
    """The spelling of prefixes that all labels have."""
    for pattern, telling in ((_UPPER, "BISU"), *((spelling, "Bb") for spelling in _SPELLINGS)):
        everywhere = bool(labels) and all(pattern.fullmatch(label) for label in labels)
        if everywhere and set(_prefixes(pattern, labels)) & set(telling):
            return pattern
    return None


def _prefixes(pattern: Pattern[str], labels: Sequence[str]) -> str:
    found = (pattern.fullmatch(label) for label in labels)
    return "".join(sorted({match["prefix"] for match in found if match is not None}))
