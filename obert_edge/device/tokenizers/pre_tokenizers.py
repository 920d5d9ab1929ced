"""The pre-tokenizers of a ``tokenizer.json``: from a stretch of text to the words that the model cuts.

To add one, write what makes it of its description and give it a row in :data:`PRE_TOKENIZERS`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from obert_edge.device.tokenizers.byte_level import BYTE_SPELLING
from obert_edge.device.tokenizers.fields import (
    flag_field,
    number_field,
    object_of,
    objects_field,
    one_character,
    text_field,
)
from obert_edge.device.tokenizers.normalizers import prepended
from obert_edge.device.tokenizers.pieces import part_type, unknown_part
from obert_edge.device.tokenizers.regular_expressions import RegularExpression, spans_of
from obert_edge.device.tokenizers.stretch import Stretch

#: Start and end of a word, in characters of its stretch.
Span = Tuple[int, int]
#: Finds words in a text.
Splitter = Callable[[str], List[Span]]

#: Where Metaspace puts a mark before a text.
_SCHEMES = ("always", "first", "never")
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


@dataclass(frozen=True)
class PreTokenizer:
    """One step from text to words.

    Args:
        split: finds the words; ``None``: all of the text is one.
        prepare: changes the stretch before it is split; ``None``: it stays.
        spell: what becomes of every character once the words are found, as ``ByteLevel`` spells bytes;
            ``None``: it stays.
    """

    split: Optional[Splitter] = None
    prepare: Optional[Callable[[Stretch], Stretch]] = None
    spell: Optional[Mapping[str, str]] = None

    def words(self, stretch: Stretch) -> Tuple[Stretch, Sequence[Span]]:
        """The prepared stretch, and where its words are."""
        if self.prepare is not None:
            stretch = self.prepare(stretch)
        if self.split is None:
            return stretch, [(0, len(stretch.text))]
        return stretch, self.split(stretch.text)

    def pieces(self, stretch: Stretch) -> Iterator[Stretch]:
        """Each word as a stretch of its own, spelled."""
        prepared, spans = self.words(stretch)
        for start, end in spans:
            piece = prepared.cut(start, end)
            yield piece if self.spell is None else piece.mapped([self.spell[c] for c in piece.text])


class PreTokenizers:
    """All steps, one after the other.

    Args:
        steps: in their order; without any, all of the text is one word.
    """

    def __init__(self, steps: Sequence[PreTokenizer]) -> None:
        *self._first, self._last = steps or [PreTokenizer()]
        #: How the model reads the characters of a word; the last step leaves that to the model.
        self.spell = self._last.spell

    def words(self, stretch: Stretch) -> Iterator[Tuple[Stretch, Sequence[Span]]]:
        """Stretches, and where the words of each are."""
        stretches = [stretch]
        for step in self._first:
            stretches = [piece for one in stretches for piece in step.pieces(one) if piece.text]
        for one in stretches:
            yield self._last.words(one)


def create_pre_tokenizers(description: Optional[Mapping[str, Any]]) -> PreTokenizers:
    """The pre-tokenizers of a description.

    Raises:
        UnsupportedDeviceError: there is none of that type in plain Python.
    """
    return PreTokenizers(_steps(description))


def _steps(description: Optional[Mapping[str, Any]]) -> List[PreTokenizer]:
    if description is None:
        return []
    kind = part_type({"pre_tokenizer": description}, "pre_tokenizer")
    if kind == "Sequence":
        return [step for inner in objects_field(description, "pretokenizers") for step in _steps(inner)]
    make = PRE_TOKENIZERS.get(kind)
    if make is None:
        raise unknown_part("pre-tokenizer", description)
    return [make(description)]


def _matching(pattern: str) -> PreTokenizer:
    """The words are what matches."""
    return PreTokenizer(RegularExpression(pattern).spans)


def _byte_level(description: Mapping[str, Any]) -> PreTokenizer:
    def with_space(stretch: Stretch) -> Stretch:
        return stretch if stretch.text.startswith(" ") else prepended(stretch, " ")

    return PreTokenizer(
        RegularExpression(_GPT2).spans if flag_field(description, "use_regex", True) else None,
        with_space if flag_field(description, "add_prefix_space") else None,
        BYTE_SPELLING,
    )


def _metaspace(description: Mapping[str, Any]) -> PreTokenizer:
    mark = one_character(description, "replacement")
    scheme = text_field(description, "prepend_scheme", "always")
    if scheme not in _SCHEMES:
        raise unknown_part("pre-tokenizer", {"type": f"Metaspace with the prepend_scheme {scheme}"})
    if flag_field(description, "add_prefix_space", None) is False:
        scheme = "never"

    def prepare(stretch: Stretch) -> Stretch:
        marked = stretch._replace(text=stretch.text.replace(" ", mark))
        if scheme == "never" or marked.text.startswith(mark):
            return marked
        return marked if scheme == "first" and marked.starts[0] != 0 else prepended(marked, mark)

    words = re.compile(f"{re.escape(mark)}[^{re.escape(mark)}]*|[^{re.escape(mark)}]+")
    split = flag_field(description, "split", None)
    return PreTokenizer(
        None if split is False else lambda text: [match.span() for match in words.finditer(text)], prepare
    )


def _split(description: Mapping[str, Any]) -> PreTokenizer:
    return _delimited(
        spans_of(object_of(description["pattern"], "pattern")),
        text_field(description, "behavior"),
        flag_field(description, "invert"),
    )


def _punctuation(description: Mapping[str, Any]) -> PreTokenizer:
    return _delimited(
        RegularExpression(r"\p{=Punctuation}").spans, text_field(description, "behavior", "Isolated")
    )


def _digits(description: Mapping[str, Any]) -> PreTokenizer:
    several = "" if flag_field(description, "individual_digits") else "+"
    return _matching(rf"\p{{=Numeric}}{several}|[^\p{{=Numeric}}]+")


def _fixed_length(description: Mapping[str, Any]) -> PreTokenizer:
    length = number_field(description, "length", 5)
    if not length:
        raise ValueError("FixedLength has length 0; expected 1 or more")
    return PreTokenizer(
        lambda text: [(at, min(at + length, len(text))) for at in range(0, len(text), length)]
    )


def _delimited(find: Splitter, behavior: str, invert: bool = False) -> PreTokenizer:
    """Words between delimiters, with the delimiters as ``behavior`` says."""
    if behavior not in _BEHAVIORS:
        raise unknown_part("pre-tokenizer", {"type": f"Split with the behavior {behavior}"})
    arrange = _BEHAVIORS[behavior]

    def split(text: str) -> List[Span]:
        parts: List[Tuple[int, int, bool]] = []
        at = 0
        for start, end in find(text):
            if start > at:
                parts.append((at, start, invert))
            parts.append((start, end, not invert))
            at = end
        if at < len(text):
            parts.append((at, len(text), invert))
        return arrange(parts)

    return PreTokenizer(split)


def _contiguous(parts: Sequence[Tuple[int, int, bool]]) -> List[Span]:
    """Neighbors that are delimiters, or are none, are one word."""
    result: List[Span] = []
    previous = False
    for start, end, delimiter in parts:
        if result and delimiter == previous:
            result[-1] = result[-1][0], end
        else:
            result.append((start, end))
        previous = delimiter
    return result


def _merged_with_previous(parts: Sequence[Tuple[int, int, bool]]) -> List[Span]:
    """The first of several delimiters belongs to the word before."""
    result: List[Span] = []
    previous = False
    for start, end, delimiter in parts:
        if result and delimiter and not previous:
            result[-1] = result[-1][0], end
        else:
            result.append((start, end))
        previous = delimiter
    return result


def _merged_with_next(parts: Sequence[Tuple[int, int, bool]]) -> List[Span]:
    """The last of several delimiters belongs to the word behind."""
    mirrored = [(-end, -start, delimiter) for start, end, delimiter in reversed(parts)]
    return [(-end, -start) for start, end in reversed(_merged_with_previous(mirrored))]


_BEHAVIORS: Dict[str, Callable[[Sequence[Tuple[int, int, bool]]], List[Span]]] = {
    "Removed": lambda parts: [(start, end) for start, end, delimiter in parts if not delimiter],
    "Isolated": lambda parts: [(start, end) for start, end, _ in parts],
    "Contiguous": _contiguous,
    "MergedWithPrevious": _merged_with_previous,
    "MergedWithNext": _merged_with_next,
}

#: The type of a pre-tokenizer -> what makes it of its description.
PRE_TOKENIZERS: Dict[str, Callable[[Mapping[str, Any]], PreTokenizer]] = {
    "BertPreTokenizer": lambda _: _matching(r"\p{=Punctuation}|[^\s\p{=Punctuation}]+"),
    "ByteLevel": _byte_level,
    "CharDelimiterSplit": lambda d: _delimited(
        spans_of({"String": one_character(d, "delimiter")}), "Removed"
    ),
    "Digits": _digits,
    "FixedLength": _fixed_length,
    "Metaspace": _metaspace,
    "Punctuation": _punctuation,
    "Split": _split,
    "Whitespace": lambda _: _matching(r"\p{=Word}+|[^\p{=Word}\s]+"),
    "WhitespaceSplit": lambda _: _matching(r"[^\s]+"),
}
