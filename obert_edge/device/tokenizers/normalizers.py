"""The normalizers of a ``tokenizer.json``: from a stretch of text to another.

To add one, write what makes it of its description and give it a row in :data:`NORMALIZERS`.
"""

from __future__ import annotations

import unicodedata
from typing import Any, Callable, Dict, List, Mapping, Optional, Set

from obert_edge.device.tokenizers.byte_level import BYTE_SPELLING
from obert_edge.device.tokenizers.fields import flag_field, object_of, objects_field, text_field
from obert_edge.device.tokenizers.normalization_forms import NormalizationForm
from obert_edge.device.tokenizers.pieces import part_type, unknown_part
from obert_edge.device.tokenizers.precompiled import Precompiled
from obert_edge.device.tokenizers.regular_expressions import spans_of
from obert_edge.device.tokenizers.stretch import Stretch
from obert_edge.device.tokenizers.unicode_classes import (
    MARKS,
    NEW_CAPITALS,
    NONSPACING_MARKS,
    REMOVED,
    UNSETTLED,
    WHITESPACE,
)

#: What a normalizer does.
Normalizer = Callable[[Stretch], Stretch]

#: Blocks BERT sets apart as Chinese characters. The fifth starts at U+2B920 (not U+2B740) as in the library.
_CHINESE = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B920, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)
_SPACES = "".join(sorted(WHITESPACE))
_NMT_REMOVED = {*range(0x01, 0x09), 0x0B, *range(0x0E, 0x20), 0x7F, 0x8F, 0x9F}
_NMT_SPACES = {0x09, 0x0A, 0x0C, 0x0D, 0x1680, *range(0x200B, 0x2010), 0x2028, 0x2029, 0x2581, 0xFEFF, 0xFFFD}


class CharacterMap(Dict[str, str]):
    """A normalizer that looks at one character at a time: a dictionary that fills itself.

    Args:
        of: what becomes of a character.
    """

    def __init__(self, of: Callable[[str], str]) -> None:
        super().__init__()
        self._of = of

    def __missing__(self, character: str) -> str:
        self[character] = result = self._of(character)
        return result

    def __call__(self, stretch: Stretch) -> Stretch:
        """The stretch with every character mapped."""
        return stretch.mapped([self[character] for character in stretch.text])


class BertNormalizer(CharacterMap):
    """BERT's normalizer.

    Source: Devlin et al. 2019 (BERT), ``tokenization.py``.

    Args:
        clean_text: drop control characters, make all white space a space.
        handle_chinese_chars: set Chinese characters apart.
        strip_accents: drop accents; ``None`` follows ``lowercase``.
        lowercase: make lower case.
    """

    def __init__(
        self,
        clean_text: bool = True,
        handle_chinese_chars: bool = True,
        strip_accents: Optional[bool] = None,
        lowercase: bool = True,
    ) -> None:
        super().__init__(self._normalize)
        self._steps: List[Callable[[str], str]] = []
        if clean_text:
            self._steps.append(_clean)
        if handle_chinese_chars:
            self._steps.append(_set_chinese_apart)
        self._strips = lowercase if strip_accents is None else strip_accents
        self._before = CharacterMap(self._normalize_before_accents)
        self._decompose = NormalizationForm("NFD")
        self._after = CharacterMap(self._normalize_after)
        self._lowercase = lowercase
        #: Characters with a mark that is kept: NFD may put it before marks of other characters.
        self._movable: Set[str] = set()

    def __call__(self, stretch: Stretch) -> Stretch:
        """The stretch as BERT sees it."""
        mapped = super().__call__(stretch)
        if not self._movable or self._movable.isdisjoint(stretch.text):
            return mapped
        return self._after(self._decompose(self._before(stretch)))

    def _normalize_before_accents(self, character: str) -> str:
        text = character
        for step in self._steps:
            text = "".join(map(step, text))
        return text

    def _normalize_after(self, character: str) -> str:
        kept = _without_accents(character)
        return lower(kept) if self._lowercase else kept

    def _normalize(self, character: str) -> str:
        text = self._normalize_before_accents(character)
        if self._strips:
            parts = self._decompose(Stretch.of(text)).text
            text = "".join(map(_without_accents, parts))
            if any(unicodedata.combining(part) and part not in UNSETTLED for part in text):
                self._movable.add(character)
        return "".join(map(lower, text)) if self._lowercase else text


def _clean(character: str) -> str:
    if character in "\t\n\r":
        return " "
    if character in REMOVED:
        return ""
    return " " if character in WHITESPACE else character


def _set_chinese_apart(character: str) -> str:
    chinese = any(first <= ord(character) <= last for first, last in _CHINESE)
    return f" {character} " if chinese else character


def _without_accents(character: str) -> str:
    return "" if character in NONSPACING_MARKS else character


def lower(character: str) -> str:
    """The small letter of a character, as Unicode 17 has it."""
    return NEW_CAPITALS.get(character) or character.lower()


def _nmt(character: str) -> str:
    code = ord(character)
    return "" if code in _NMT_REMOVED else " " if code in _NMT_SPACES else character


class Replace:
    """Puts ``content`` in place of every match of a string or a regular expression."""

    def __init__(self, pattern: Mapping[str, str], content: str) -> None:
        self._content = content
        self._literal = pattern.get("String")
        self._spans = spans_of(pattern)

    def __call__(self, stretch: Stretch) -> Stretch:
        """The stretch with everything replaced; what is new stands for the last character it replaced."""
        if self._literal is not None and len(self._literal) == len(self._content) == 1:
            return stretch._replace(text=stretch.text.replace(self._literal, self._content))
        spans = self._spans(stretch.text)
        if not spans:
            return stretch
        parts: List[str] = []
        starts: List[int] = []
        ends: List[int] = []
        at = 0
        for start, end in [*spans, (len(stretch.text), -1)]:
            parts.append(stretch.text[at:start])
            starts += stretch.starts[at:start]
            ends += stretch.ends[at:start]
            if end >= 0:
                parts.append(self._content)
                starts += [stretch.starts[end - 1]] * len(self._content)
                ends += [stretch.ends[end - 1]] * len(self._content)
            at = end
        return Stretch("".join(parts), starts, ends)


def prepended(stretch: Stretch, content: str) -> Stretch:
    """The stretch with ``content`` before it, which stands for the first character; an empty one stays so."""
    if not stretch.text:
        return stretch
    count = len(content)
    starts = [*[stretch.starts[0]] * count, *stretch.starts]
    return Stretch(content + stretch.text, starts, [*[stretch.ends[0]] * count, *stretch.ends])


def _strip(stretch: Stretch, left: bool, right: bool) -> Stretch:
    start = len(stretch.text) - len(stretch.text.lstrip(_SPACES)) if left else 0
    end = len(stretch.text.rstrip(_SPACES)) if right else len(stretch.text)
    return stretch if (start, end) == (0, len(stretch.text)) else stretch.cut(start, max(start, end))


def _bert(description: Mapping[str, Any]) -> Normalizer:
    return BertNormalizer(
        flag_field(description, "clean_text", True),
        flag_field(description, "handle_chinese_chars", True),
        flag_field(description, "strip_accents", None),
        flag_field(description, "lowercase", True),
    )


def _sequence(description: Mapping[str, Any]) -> Normalizer:
    steps = [create_normalizer(step) for step in objects_field(description, "normalizers")]

    def apply(stretch: Stretch) -> Stretch:
        for step in steps:
            stretch = step(stretch)
        return stretch

    return apply


def _stripping(description: Mapping[str, Any]) -> Normalizer:
    left, right = flag_field(description, "strip_left"), flag_field(description, "strip_right")
    return lambda stretch: _strip(stretch, left, right)


def _prepending(description: Mapping[str, Any]) -> Normalizer:
    content = text_field(description, "prepend")
    return lambda stretch: prepended(stretch, content)


#: The type of a normalizer -> what makes it of its description.
NORMALIZERS: Dict[str, Callable[[Mapping[str, Any]], Normalizer]] = {
    "BertNormalizer": _bert,
    "ByteLevel": lambda _: lambda stretch: stretch.mapped([BYTE_SPELLING[c] for c in stretch.text]),
    "Lowercase": lambda _: CharacterMap(lower),
    "NFC": lambda _: NormalizationForm("NFC"),
    "NFD": lambda _: NormalizationForm("NFD"),
    "NFKC": lambda _: NormalizationForm("NFKC"),
    "NFKD": lambda _: NormalizationForm("NFKD"),
    "Nmt": lambda _: CharacterMap(_nmt),
    "Precompiled": lambda d: Precompiled(text_field(d, "precompiled_charsmap")),
    "Prepend": _prepending,
    "Replace": lambda d: Replace(object_of(d["pattern"], "pattern"), text_field(d, "content")),
    "Sequence": _sequence,
    "Strip": _stripping,
    "StripAccents": lambda _: CharacterMap(lambda character: "" if character in MARKS else character),
}


def create_normalizer(description: Optional[Mapping[str, Any]]) -> Normalizer:
    """The normalizer of a description; without one, text stays as it is.

    Raises:
        UnsupportedDeviceError: there is none of that type in plain Python.
    """
    if description is None:
        return lambda stretch: stretch
    make = NORMALIZERS.get(part_type({"normalizer": description}, "normalizer"))
    if make is None:
        raise unknown_part("normalizer", description)
    return make(description)
