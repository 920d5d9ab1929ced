"""NFC, NFD, NFKC and NFKD with the origin of every character, as the ``tokenizers`` library has them.

That library knows Unicode 9, whatever the interpreter knows: code points that came later stay as they are.
Source: Unicode Standard Annex 15.
"""

from __future__ import annotations

import unicodedata
from operator import itemgetter
from typing import Dict, Iterator, List, Literal, Optional, Tuple

from obert_edge.device.tokenizers.stretch import Stretch
from obert_edge.device.tokenizers.unicode_classes import UNSETTLED

#: A character, and how many characters it takes the place of; see :meth:`Stretch.rewritten`.
Change = Tuple[str, int]
#: What the forms are called.
Form = Literal["NFC", "NFD", "NFKC", "NFKD"]


class NormalizationForm:
    """One of the four forms.

    Args:
        name: ``NFC``, ``NFD``, ``NFKC`` or ``NFKD``.
    """

    def __init__(self, name: Form) -> None:
        self._name: Form = name
        self._decomposed = _Decompositions("NFKD" if "K" in name else "NFD")
        self._composes = name.endswith("C")

    def __call__(self, stretch: Stretch) -> Stretch:
        """The stretch in this form."""
        if stretch.text.isascii() or unicodedata.is_normalized(self._name, stretch.text):
            return stretch
        changes = self._decompose(stretch.text)
        return stretch.rewritten(_compose(changes) if self._composes else (change[1:] for change in changes))

    def _decompose(self, text: str) -> Iterator[Tuple[int, str, int]]:
        """Combining class, character and change of all parts, in canonical order."""
        marks: List[Tuple[int, str, int]] = []
        for character in text:
            change = 0
            for combining, part in self._decomposed[character]:
                if combining == 0 and marks:
                    yield from sorted(marks, key=itemgetter(0))
                    marks.clear()
                if combining == 0:
                    yield combining, part, change
                else:
                    marks.append((combining, part, change))
                change = 1
        yield from sorted(marks, key=itemgetter(0))


class _Decompositions(Dict[str, List[Tuple[int, str]]]):
    """The parts of a character with their combining classes; a dictionary that fills itself."""

    def __init__(self, form: Form) -> None:
        super().__init__()
        self._form: Form = form

    def __missing__(self, character: str) -> List[Tuple[int, str]]:
        if character in UNSETTLED:
            found = [(0, character)]
        else:
            parts = unicodedata.normalize(self._form, character)
            found = [(unicodedata.combining(part), part) for part in parts]
        self[character] = found
        return found


class _Compositions(Dict[Tuple[str, str], Optional[str]]):
    """What two characters compose to, if anything; a dictionary that fills itself."""

    def __missing__(self, pair: Tuple[str, str]) -> Optional[str]:
        composed = unicodedata.normalize("NFC", pair[0] + pair[1])
        known = len(composed) == 1 and not any(character in UNSETTLED for character in (*pair, composed))
        self[pair] = composed if known else None
        return self[pair]


_COMPOSITIONS = _Compositions()


def _compose(parts: Iterator[Tuple[int, str, int]]) -> Iterator[Change]:
    """Put together what composes; a mark is blocked by one of its class or a higher one before it."""
    starter: Optional[Change] = None
    marks: List[Change] = []
    last = 0
    for combining, part, change in parts:
        if starter is None:
            if combining:
                yield part, change
            else:
                starter = part, change
            continue
        if not marks or last < combining:
            composed = _COMPOSITIONS[starter[0], part]
            if composed is not None:
                starter = composed, starter[1] + change - 1
                continue
        if combining:
            marks.append((part, change))
            last = combining
        else:
            yield starter
            yield from marks
            marks.clear()
            starter = part, change
    if starter is not None:
        yield starter
    yield from marks
