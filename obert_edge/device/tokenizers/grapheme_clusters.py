"""Extended grapheme clusters: what people call a character, such as a letter with its accents.

Source: Unicode Standard Annex 29, Unicode 17, rules GB3 to GB13 as one regular expression.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Pattern, Sequence, Tuple

from obert_edge.device.tokenizers.regular_expressions import spelled
from obert_edge.device.tokenizers.unicode_classes import (
    CONJUNCT_CONSONANTS,
    CONTROLS,
    EXTEND,
    PICTOGRAPHS,
    PREPENDED,
    SPACING_MARKS,
)

#: Indic_Conjunct_Break=Linker: they bind the consonant before to the one behind.
_LINKERS = (
    "\u094d\u09cd\u0acd\u0b4d\u0c4d\u0d4d\u1039\u17d2\u1a60\u1b44\u1bab\ua9c0\uaaf6\U00010a3f\U00011133"
    "\U000113d0\U0001193e\U00011a47\U00011a99\U00011f42"
)
_LEADING = ((0x1100, 0x115F), (0xA960, 0xA97C))
_VOWELS = ((0x1160, 0x11A7), (0xD7B0, 0xD7C6), (0x16D63, 0x16D63), (0x16D67, 0x16D6A))
_TRAILING = ((0x11A8, 0x11FF), (0xD7CB, 0xD7FB))
_SYLLABLES = (0xAC00, 0xD7A3)
_REGIONAL = ((0x1F1E6, 0x1F1FF),)
#: Every so-manieth Hangul syllable has no trailing consonant.
_TRAILING_COUNT = 28


def _set(ranges: Sequence[Tuple[int, int]], more: str = "") -> str:
    return f"[{spelled(ranges)}{more}]"


@cache
def clusters() -> Pattern[str]:
    """Finds the clusters of two characters and more (and some of one); made when first needed."""
    extend, joiner = _set(EXTEND.ranges), "\u200d"
    after = _set([*EXTEND.ranges, *SPACING_MARKS.ranges], joiner)
    linker = f"[{_LINKERS}]"
    # Indic_Conjunct_Break=Extend is Extend and the joiner, without linkers and the non-joiner.
    bound = f"(?![{_LINKERS}\u200c]){_set(EXTEND.ranges, joiner)}"
    consonant = _set(CONJUNCT_CONSONANTS.ranges)
    pictograph = _set(PICTOGRAPHS.ranges)
    regional = _set(_REGIONAL)
    lead, vowel, trail = _set(_LEADING), _set(_VOWELS), _set(_TRAILING)
    open_codes = range(_SYLLABLES[0], _SYLLABLES[1] + 1, _TRAILING_COUNT)
    open_syllable = _set([(code, code) for code in open_codes])
    closed_syllable = _set([(code + 1, code + _TRAILING_COUNT - 1) for code in open_codes])
    syllable = f"(?:(?:{vowel}+|{open_syllable}{vowel}*){trail}*|{closed_syllable}{trail}*)"
    hangul = f"{lead}+{syllable}?|{open_syllable}(?:{vowel}+{trail}*|{trail}+)|{vowel}+{trail}*|{trail}+"
    hangul += f"|{closed_syllable}{trail}+"
    core = (
        f"{hangul}|{regional}{regional}|{pictograph}(?:{extend}*{joiner}{pictograph})+"
        f"|{consonant}(?:(?:{bound})*{linker}(?:{bound}|{linker})*{consonant})+"
    )
    plain = _set(CONTROLS.ranges).replace("[", "[^", 1)
    prepended = _set(PREPENDED.ranges)
    return re.compile(f"\r\n|{prepended}+(?:(?:{core}|{plain}){after}*)?|(?:{core}){after}*|{plain}{after}+")
