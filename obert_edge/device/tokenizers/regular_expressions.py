r"""Regular expressions of a ``tokenizer.json`` (Oniguruma's) as Python's ``re`` knows them.

``re`` has no Unicode categories, and its ``\s`` and ``\w`` are other sets, so classes are written out from
the frozen tables. What is translated is what tokenizers use; the rest is refused, never guessed.
"""

from __future__ import annotations

import re
from typing import Callable, Dict, List, Mapping, Sequence, Tuple

from obert_edge.device.tokenizers.fields import text_field
from obert_edge.device.tokenizers.unicode_classes import (
    LETTERS,
    NUMBERS,
    NUMERIC,
    PUNCTUATION,
    WHITESPACE,
    WORD,
)
from obert_edge.errors import UnsupportedDeviceError

Ranges = Sequence[Tuple[int, int]]

#: Code points of the first plane, which is all that most texts use.
_FIRST_PLANE = 0xFFFF
_LAST = 0x10FFFF
_CONTROLS = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "v": "\v"}
_GROUPS = ("(?:", "(?i:", "(?=", "(?!", "(?<=", "(?<!")
_QUANTIFIER = re.compile(r"\{\d+(?:,\d*)?\}|[*+?]")


def spelled(ranges: Ranges) -> str:
    """The inside of a ``[...]`` of ``re`` for ranges of code points."""
    return "".join(
        re.escape(chr(first)) if first == last else f"{re.escape(chr(first))}-{re.escape(chr(last))}"
        for first, last in ranges
    )


def _first_plane(ranges: Ranges) -> Ranges:
    return [(first, min(last, _FIRST_PLANE)) for first, last in ranges if first <= _FIRST_PLANE]


def _others(ranges: Ranges) -> Ranges:
    """The complement of ascending ranges."""
    result: List[Tuple[int, int]] = []
    at = 0
    for first, last in ranges:
        if first > at:
            result.append((at, first - 1))
        at = last + 1
    return [*result, (at, _LAST)] if at <= _LAST else result


_SPACE_RANGES = [(code, code) for code in sorted(map(ord, WHITESPACE))]
#: Escapes of a class -> its ranges.
_CLASSES: Dict[str, Callable[[], Ranges]] = {
    r"\s": lambda: _SPACE_RANGES,
    r"\S": lambda: _others(_SPACE_RANGES),
    r"\p{L}": lambda: LETTERS.ranges,
    r"\P{L}": lambda: _others(LETTERS.ranges),
    r"\p{N}": lambda: NUMBERS.ranges,
    r"\P{N}": lambda: _others(NUMBERS.ranges),
    # Sets of the library's own pre-tokenizers; Oniguruma knows no such names, so no file can use them.
    r"\p{=Numeric}": lambda: NUMERIC.ranges,
    r"\p{=Punctuation}": lambda: PUNCTUATION.ranges,
    r"\p{=Word}": lambda: WORD.ranges,
}
_OTHER_PLANES = re.compile("[\U00010000-\U0010ffff]")


class RegularExpression:
    """A pattern of a ``tokenizer.json``.

    Args:
        pattern: as the file writes it.

    Raises:
        UnsupportedDeviceError: it uses what is not translated.
    """

    def __init__(self, pattern: str) -> None:
        self._source = pattern
        try:
            # A class with code points of other planes is searched range by range, so texts without such
            # characters, nearly all, get a pattern without them.
            self._usual = re.compile(_translate(pattern, _first_plane))
            self._whole = re.compile(_translate(pattern, lambda ranges: ranges))
        except re.error as error:
            raise _unknown(pattern, str(error)) from error

    def spans(self, text: str) -> List[Tuple[int, int]]:
        """Where it matches, from left to right."""
        rare = not text.isascii() and _OTHER_PLANES.search(text) is not None
        pattern = self._whole if rare else self._usual
        found = [match.span() for match in pattern.finditer(text)]
        if any(start == end for start, end in found):
            raise _unknown(self._source, "it matches nothing at all")
        return found


def spans_of(pattern: Mapping[str, str]) -> Callable[[str], List[Tuple[int, int]]]:
    """What finds a ``{"String": ...}`` or a ``{"Regex": ...}`` of a ``tokenizer.json`` in a text.

    Raises:
        UnsupportedDeviceError: it is a regular expression that is not translated, or nothing at all.
    """
    if "Regex" in pattern:
        return RegularExpression(text_field(pattern, "Regex")).spans
    literal = text_field(pattern, "String")
    if not literal:
        raise _unknown(literal, "it matches nothing at all")
    found = re.compile(re.escape(literal))
    return lambda text: [match.span() for match in found.finditer(text)]


def _unknown(pattern: str, why: str) -> UnsupportedDeviceError:
    return UnsupportedDeviceError(
        f"this bundle's tokenizer has the regular expression {pattern[:200]!r}, which plain Python does not "
        f"run: {why}",
        hint="run `pip install tokenizers` on this device, or give token ids to `Session.run`",
    )


def _translate(pattern: str, narrowed: Callable[[Ranges], Ranges]) -> str:
    result: List[str] = []
    at = 0
    repeated = False
    while at < len(pattern):
        start = at
        quantifier = _QUANTIFIER.match(pattern, at)
        if quantifier is not None:
            if repeated and quantifier.group() != "?":
                raise _unknown(pattern, f"a quantifier behind another at {at}")
            at = quantifier.end()
        elif pattern[at] == "\\":
            at, piece = _escape(pattern, at, narrowed)
            result.append(piece)
        elif pattern[at] == "[":
            at, piece = _bracket(pattern, at, narrowed)
            result.append(piece)
        elif pattern.startswith("(?", at):
            group = next((group for group in _GROUPS if pattern.startswith(group, at)), None)
            if group is None:
                raise _unknown(pattern, f"{pattern[at : at + 3]!r} at {at}")
            at += len(group)
        elif pattern[at] in "^${}]":
            raise _unknown(pattern, f"{pattern[at]!r} at {at}")
        else:
            at += 1
        if pattern[start] not in "\\[":
            result.append(pattern[start:at])
        repeated = quantifier is not None and not repeated
    return "".join(result)


def _class_at(pattern: str, at: int) -> str:
    """The escape of a class that begins here, or nothing."""
    return next((name for name in _CLASSES if pattern.startswith(name, at)), "")


def _escape(pattern: str, at: int, narrowed: Callable[[Ranges], Ranges]) -> Tuple[int, str]:
    """Where an escape ends, and what it is in ``re``."""
    name = _class_at(pattern, at)
    if name:
        return at + len(name), f"[{spelled(narrowed(_CLASSES[name]()))}]"
    if pattern.startswith((r"\A", r"\z"), at):
        return at + 2, r"\A" if pattern[at + 1] == "A" else r"\Z"
    return at + 2, re.escape(_escaped(pattern, at))


def _escaped(pattern: str, at: int) -> str:
    """The one character that an escape stands for."""
    character = pattern[at + 1 : at + 2]
    if character in _CONTROLS:
        return _CONTROLS[character]
    if not character or character.isalnum():
        raise _unknown(pattern, f"{pattern[at : at + 2]!r} at {at}")
    return character


def _bracket(pattern: str, at: int, narrowed: Callable[[Ranges], Ranges]) -> Tuple[int, str]:
    """Where a ``[...]`` ends, and what it is in ``re``."""
    inside: List[str] = []
    opening = at
    at += 1
    negated = pattern.startswith("^", at)
    at += negated
    first = at
    while at < len(pattern) and (pattern[at] != "]" or at == first):
        name = _class_at(pattern, at)
        if name:
            inside.append(spelled(narrowed(_CLASSES[name]())))
            at += len(name)
        elif pattern[at] == "\\":
            inside.append(re.escape(_escaped(pattern, at)))
            at += 2
        elif pattern[at] == "[" or pattern.startswith("&&", at):
            raise _unknown(pattern, f"{pattern[at : at + 2]!r} inside of [...]")
        else:
            inside.append("-" if pattern[at] == "-" else re.escape(pattern[at]))
            at += 1
    if at >= len(pattern):
        raise _unknown(pattern, f"the [ at {opening} is not closed")
    return at + 1, f"[{'^' if negated else ''}{''.join(inside)}]"
