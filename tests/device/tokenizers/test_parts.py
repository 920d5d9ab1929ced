"""Normalizers, pre-tokenizers and their tables are those of the ``tokenizers`` library, part by part."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from obert_edge.device.tokenizers import unicode_classes as classes
from obert_edge.device.tokenizers.normalizers import NORMALIZERS, create_normalizer
from obert_edge.device.tokenizers.pre_tokenizers import PRE_TOKENIZERS, create_pre_tokenizers
from obert_edge.device.tokenizers.precompiled import Precompiled
from obert_edge.device.tokenizers.regular_expressions import RegularExpression
from obert_edge.device.tokenizers.stretch import Stretch
from obert_edge.errors import UnsupportedDeviceError
from tests.device.tokenizers.corpus import MARKS, ODD, hard_lines
from tests.device.tokenizers.families import CHARSMAP, LLAMA3

LINES = hard_lines()[:400]
LIBRARY_NORMALIZERS: dict[str, normalizers.Normalizer] = {
    "BertNormalizer": normalizers.BertNormalizer(),
    "ByteLevel": normalizers.ByteLevel(),
    "Lowercase": normalizers.Lowercase(),
    "NFC": normalizers.NFC(),
    "NFD": normalizers.NFD(),
    "NFKC": normalizers.NFKC(),
    "NFKD": normalizers.NFKD(),
    "Nmt": normalizers.Nmt(),
    "Precompiled": normalizers.Precompiled(CHARSMAP),
    "Prepend": normalizers.Prepend("▁▁"),
    "Replace": normalizers.Replace(Regex(r"\s{2,}|[\n\r\t]"), "--"),
    "Sequence": normalizers.Sequence([normalizers.NFKD(), normalizers.StripAccents()]),
    "Strip": normalizers.Strip(left=True, right=True),
    "StripAccents": normalizers.StripAccents(),
}
LIBRARY_PRE_TOKENIZERS: dict[str, pre_tokenizers.PreTokenizer] = {
    "BertPreTokenizer": pre_tokenizers.BertPreTokenizer(),
    "ByteLevel": pre_tokenizers.ByteLevel(add_prefix_space=True),
    "CharDelimiterSplit": pre_tokenizers.CharDelimiterSplit("a"),
    "Digits": pre_tokenizers.Digits(individual_digits=True),
    "FixedLength": pre_tokenizers.FixedLength(3),
    "Metaspace": pre_tokenizers.Metaspace(prepend_scheme="first"),
    "Punctuation": pre_tokenizers.Punctuation("merged_with_next"),
    "Split": pre_tokenizers.Split(Regex(LLAMA3), "isolated"),
    "Whitespace": pre_tokenizers.Whitespace(),
    "WhitespaceSplit": pre_tokenizers.WhitespaceSplit(),
}


def described(part: str, of: object) -> dict[str, object]:
    """What a ``tokenizer.json`` says of a part."""
    tokenizer = Tokenizer(models.BPE())
    setattr(tokenizer, part, of)
    found: dict[str, object] = json.loads(tokenizer.to_str())[part]
    return found


def python_words(of: pre_tokenizers.PreTokenizer, text: str) -> list[tuple[str, tuple[int, int]]]:
    steps = create_pre_tokenizers(described("pre_tokenizer", of))
    words = []
    for stretch, spans in steps.words(Stretch.of(text)):
        for start, end in spans:
            word = stretch.cut(start, end)
            shown = "".join(steps.spell[c] for c in word.text) if steps.spell else word.text
            words.append((shown, (word.starts[0], word.ends[-1])))
    return words


def test_every_row_of_both_tables_is_compared_here() -> None:
    assert set(NORMALIZERS) == set(LIBRARY_NORMALIZERS)
    assert set(PRE_TOKENIZERS) == set(LIBRARY_PRE_TOKENIZERS)


@pytest.mark.parametrize("name", LIBRARY_NORMALIZERS)
def test_a_normalizer_makes_the_text_that_the_library_makes(name: str) -> None:
    library = LIBRARY_NORMALIZERS[name]
    python = create_normalizer(described("normalizer", library))
    for line in LINES:
        assert python(Stretch.of(line)).text == library.normalize_str(line), ascii(line)


@pytest.mark.parametrize("name", LIBRARY_PRE_TOKENIZERS)
def test_a_pre_tokenizer_finds_the_words_that_the_library_finds(name: str) -> None:
    library = LIBRARY_PRE_TOKENIZERS[name]
    for line in filter(None, LINES):
        assert python_words(library, line) == library.pre_tokenize_str(line), ascii(line)


@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize(
    "behavior", ["removed", "isolated", "contiguous", "merged_with_previous", "merged_with_next"]
)
def test_delimiters_go_where_the_library_puts_them(behavior: str, invert: bool) -> None:
    library = pre_tokenizers.Split("-", behavior, invert=invert)
    for text in ("the-final--countdown", "-a-", "--", "a", "---b", "a--"):
        assert python_words(library, text) == library.pre_tokenize_str(text), text


CLASSES: dict[str, tuple[classes.CharacterClass, Callable[[str], bool]]] = {
    "REMOVED": (
        classes.REMOVED,
        lambda c: normalizers.BertNormalizer(True, False, False, False).normalize_str(c) == "",
    ),
    "NONSPACING_MARKS": (
        classes.NONSPACING_MARKS,
        lambda c: normalizers.BertNormalizer(False, False, True, False).normalize_str("a" + c) == "a",
    ),
    "MARKS": (classes.MARKS, lambda c: normalizers.StripAccents().normalize_str(c) == ""),
    "PUNCTUATION": (
        classes.PUNCTUATION,
        lambda c: len(pre_tokenizers.BertPreTokenizer().pre_tokenize_str(f"a{c}a")) == 3,
    ),
    "LETTERS": (
        classes.LETTERS,
        lambda c: len(pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str("a" + c)) == 1,
    ),
    "NUMBERS": (
        classes.NUMBERS,
        lambda c: len(pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str("1" + c)) == 1,
    ),
    "NUMERIC": (classes.NUMERIC, lambda c: len(pre_tokenizers.Digits().pre_tokenize_str(f"a{c}a")) == 3),
    "WORD": (classes.WORD, lambda c: len(pre_tokenizers.Whitespace().pre_tokenize_str(f"a{c}a")) == 1),
}


@pytest.mark.parametrize("name", CLASSES)
def test_a_character_class_is_that_of_the_library(name: str) -> None:
    """All of the scripts most texts use, and above them both sides of every boundary of the class."""
    frozen, asked = CLASSES[name]
    edges = {code + step for first, last in frozen.ranges for code in (first, last) for step in (-1, 0, 1)}
    codes = {
        code for code in {*range(0x1000), *edges} if 0 <= code < 0x110000 and not 0xD800 <= code < 0xE000
    }
    assert [hex(code) for code in sorted(codes) if (chr(code) in frozen) != asked(chr(code))] == []


def charsmap(replacements: dict[str, str]) -> bytes:
    """A table of single ASCII characters, in the format of SentencePiece: a trie of one level."""
    texts = b""
    units = [0] * 512
    units[0] = 256 << 10  # children of the root are at 256 ^ byte
    for index, (character, new) in enumerate(sorted(replacements.items())):
        node = 256 ^ ord(character)
        leaf = 64 + index
        units[node] = ord(character) | 1 << 8 | (node ^ leaf) << 10
        units[leaf] = 1 << 31 | len(texts)
        texts += new.encode() + b"\0"
    return struct.pack("<I", 4 * len(units)) + struct.pack(f"<{len(units)}I", *units) + texts


def test_clusters_end_where_the_library_ends_them() -> None:
    """A replaced letter takes the rest of its cluster with it, so clusters can be seen."""
    table = charsmap({"a": "X", "\r": "Y"})
    library = normalizers.Precompiled(table)
    python = Precompiled(base64.b64encode(table).decode())
    for ranges in (
        classes.EXTEND.ranges,
        classes.SPACING_MARKS.ranges,
        classes.PREPENDED.ranges,
        classes.CONTROLS.ranges,
        classes.PICTOGRAPHS.ranges[:60],
        classes.CONJUNCT_CONSONANTS.ranges,
    ):
        for code in {code + step for pair in ranges for code in pair for step in (-1, 0, 1)}:
            if not 0 < code < 0x110000 or 0xD800 <= code < 0xE000:
                continue
            for text in (f"a{chr(code)}", f"{chr(code)}a", f"a{chr(code)}a\u0301"):
                assert python(Stretch.of(text)).text == library.normalize_str(text), ascii(text)


@settings(max_examples=400, deadline=None)
@given(
    st.text(
        st.sampled_from("a\r\n\u0301\u200d\u0e33" + "क\u094dष\u1100\u1161\u11a8가각🇩🇪👍🏽©\u0600" + MARKS)
    )
)
def test_sequences_of_clusters_are_those_of_the_library(text: str) -> None:
    table = charsmap({"a": "X", "\r": "Y"})
    python = Precompiled(base64.b64encode(table).decode())
    assert python(Stretch.of(text)).text == normalizers.Precompiled(table).normalize_str(text)


@settings(max_examples=300, deadline=None)
@given(
    name=st.sampled_from(["NFC", "NFD", "NFKC", "NFKD", "Lowercase", "BertNormalizer", "Precompiled"]),
    text=st.text(
        st.one_of(st.characters(exclude_categories=("Cs",)), st.sampled_from("aeo" + MARKS + ODD)),
        max_size=12,
    ),
)
def test_normalizers_agree_with_the_library_on_any_text(name: str, text: str) -> None:
    library = LIBRARY_NORMALIZERS[name]
    assert create_normalizer(described("normalizer", library))(
        Stretch.of(text)
    ).text == library.normalize_str(text)


@pytest.mark.parametrize("content", ["", "AAAA", "////", "!"])
def test_a_damaged_table_is_refused(content: str) -> None:
    with pytest.raises(ValueError):
        Precompiled(content)


@pytest.mark.parametrize(
    "pattern",
    [
        LLAMA3,
        " {2,}",
        r"\s+",
        r"[\n\r\t]",
        r"[^\s\p{L}]+",
        r"\A▁",
        r" +\z",
        r"\.|\-",
        "(?i:'s)",
        r"[a-z\p{N}_]+",
    ],
)
def test_a_regular_expression_matches_as_in_the_library(pattern: str) -> None:
    library = pre_tokenizers.Split(Regex(pattern), "removed", invert=True)
    for line in LINES[:200]:
        expected = [span for _, span in library.pre_tokenize_str(line)] if line else []
        assert RegularExpression(pattern).spans(line) == expected, ascii(line)


@pytest.mark.parametrize(
    "pattern",
    [
        r"\w+",
        r"\p{Lu}",
        r"(?>a)",
        "a++",
        "^a",
        "a$",
        "[[:alpha:]]",
        "[a&&b]",
        r"\1",
        "(?<n>a)",
        "[a",
        "(",
        r"a\b",
    ],
)
def test_a_regular_expression_that_is_not_translated_is_refused(pattern: str) -> None:
    with pytest.raises(UnsupportedDeviceError, match="regular expression"):
        RegularExpression(pattern)


def test_one_that_matches_nothing_at_all_is_refused() -> None:
    with pytest.raises(UnsupportedDeviceError, match="nothing at all"):
        RegularExpression("a*").spans("b")
