"""The pure-Python tokenizers give the ids, offsets and words of the ``tokenizers`` library."""

from __future__ import annotations

import json
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as LibraryTokenizer

from obert_edge.device.tokenizers.bpe import BytePair
from obert_edge.device.tokenizers.normalizers import BertNormalizer
from obert_edge.device.tokenizers.tokenizer import Tokenizer
from obert_edge.device.tokenizers.unicode_classes import (
    LETTERS,
    NONSPACING_MARKS,
    NUMBERS,
    PUNCTUATION,
    REMOVED,
    WHITESPACE,
)
from obert_edge.errors import BundleError, InputError, UnsupportedDeviceError

CORPUS = [
    "The quick brown fox jumps over the lazy dog, doesn't it? We'll see: they've been told so.",
    "Un café à Zürich coûte 4,50 francs; İstanbul'da çay ΣΊΣΥΦΟΣ ниже 東京 タワー 한국어",
    "unbelievable unaffable reruns embeddings 1234 567 x² ½ ① don't I'd can't",
]
TRICKY = [
    "",
    " ",
    "hello",
    "  two  spaces \t tab\nnewline\r\n ",
    "café cafe\u0301 CAFÉ ÀÉÎÕÜ ǅ ẞ ﬁ Å",
    "İstanbul ΣΊΣΥΦΟΣ Σ",
    "東京タワー 漢字kana混じり \U00020000 \u8c48 \U0002b921 \U0002b740",
    "한국어 텍스트 가각",
    "a\u0000b\ufffdc\u200dd\u200be\u00adf\x7fg\x85h\x0bi\x1cj",
    "\u00a0nbsp\u3000ideographic\u2003em\u2028line\u1680",
    "[CLS] hi [MASK] there[SEP] [mask] [UNK]",
    "<s> hi <mask>there </s>  <mask>  x<mask><mask>",
    "don't DON'T we'll they've I'd 's'll'' '",
    "emoji 👩‍👩‍👧‍👦 🇩🇪 👍🏽 ☃\ufe0f",
    "नमस्ते दुनिया ไทยภาษา עברית العربية",
    "x" * 120 + " y",
    "a.b,c;d!e?f(g)h[i]j{k}l—m–n…o«p»q¿r",
    "3.14159 1,000 ½ Ⅷ ² ٣",
    "a\u0301\u0323 q\u0323\u0307 \u0344 \u0958",
    "trailing space ",
    "new tok newtok xnewtok newtok1 a newtok.",
]


def bert(lowercase: bool = True, strip_accents: bool | None = None) -> str:
    tokenizer = LibraryTokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=strip_accents, lowercase=lowercase
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=260, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.add_tokens([AddedToken("newtok", single_word=True, normalized=True)])
    return str(tokenizer.to_str())


def roberta(add_prefix_space: bool = False, trim_offsets: bool = True) -> str:
    tokenizer = LibraryTokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    trainer = trainers.BpeTrainer(
        vocab_size=360,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=False)])
    tokenizer.add_tokens([AddedToken("newtok", rstrip=True, normalized=True)])
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), trim_offsets=trim_offsets, add_prefix_space=add_prefix_space
    )
    return str(tokenizer.to_str())


DESCRIPTIONS = {
    "bert-uncased": bert(),
    "bert-cased": bert(lowercase=False),
    "bert-lower-with-accents": bert(strip_accents=False),
    "roberta": roberta(),
    "roberta-prefix-space": roberta(add_prefix_space=True),
    "roberta-untrimmed": roberta(trim_offsets=False),
}
PAIRS = {
    name: (Tokenizer(text, backend="python"), Tokenizer(text, backend="tokenizers"))
    for name, text in DESCRIPTIONS.items()
}
ANY_TEXT = st.text(
    st.one_of(
        st.characters(exclude_categories=("Cs",), max_codepoint=0x2FFF),
        st.characters(exclude_categories=("Cs", "Cn")),
        st.sampled_from(" \t'.,aeste\u0301\u00a0的<[]>ΣİÉ"),
    )
)


@pytest.mark.parametrize("name", DESCRIPTIONS)
@pytest.mark.parametrize("text", TRICKY)
def test_python_equals_library_on_tricky_text(name, text):
    python, library = PAIRS[name]
    assert python.encode(text) == library.encode(text)


@pytest.mark.parametrize("name", DESCRIPTIONS)
@settings(max_examples=150, deadline=None)
@given(text=ANY_TEXT)
def test_python_equals_library_on_any_text(name, text):
    python, library = PAIRS[name]
    assert python.encode(text) == library.encode(text)


@pytest.mark.parametrize("name", ["bert-uncased", "roberta"])
@settings(max_examples=60, deadline=None)
@given(first=st.text("ab cé", max_size=40), second=st.text("xy zn't", max_size=40), limit=st.integers(5, 40))
def test_truncation_of_pairs_is_that_of_the_library(name, first, second, limit):
    reference = LibraryTokenizer.from_str(DESCRIPTIONS[name])
    reference.enable_truncation(limit, strategy="longest_first")
    expected = reference.encode(first, second)
    found = PAIRS[name][0].encode(first, second, max_length=limit)
    assert found.ids == expected.ids
    assert found.type_ids == expected.type_ids
    assert found.offsets == expected.offsets
    assert found.words == expected.word_ids
    assert found.sequences == expected.sequence_ids


@pytest.mark.parametrize("name", ["bert-uncased", "roberta"])
@pytest.mark.parametrize(("limit", "stride"), [(16, 0), (16, 3), (24, 8), (400, 10)])
def test_windows_over_a_long_context_are_those_of_the_library(name, limit, stride):
    context = " ".join(CORPUS)
    reference = LibraryTokenizer.from_str(DESCRIPTIONS[name])
    reference.enable_truncation(limit, strategy="only_second", stride=stride)
    first = reference.encode("the fox", context)
    expected = [first, *first.overflowing]
    found = PAIRS[name][0].encode_windows("the fox", context, limit, stride)
    assert [w.ids for w in found] == [w.ids for w in expected]
    assert [w.offsets for w in found] == [w.offsets for w in expected]


def code_points_to_check() -> list[int]:
    """All of the scripts most texts use, and above them both sides of every boundary of every class."""
    classes = (LETTERS, NONSPACING_MARKS, NUMBERS, PUNCTUATION, REMOVED)
    edges = {code + step for c in classes for code in (*c._starts, *c._ends) for step in (-1, 0, 1)}
    return sorted(
        code for code in {*range(0x3100), *edges} if 0 <= code < 0x110000 and not 0xD800 <= code < 0xE000
    )


def test_character_classes_are_those_of_the_library():
    cleaner = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=False, strip_accents=False, lowercase=False
    )
    stripper = normalizers.BertNormalizer(
        clean_text=False, handle_chinese_chars=False, strip_accents=True, lowercase=False
    )
    splitter = pre_tokenizers.BertPreTokenizer()
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    for code in code_points_to_check():
        character = chr(code)
        cleaned = cleaner.normalize_str(character)
        assert (cleaned == "") == (character in REMOVED), hex(code)
        assert (stripper.normalize_str("a" + character) == "a") == (character in NONSPACING_MARKS), hex(code)
        parts = len(splitter.pre_tokenize_str(f"a{character}a"))
        assert parts == (2 if character in WHITESPACE else 3 if character in PUNCTUATION else 1), hex(code)
        assert (len(byte_level.pre_tokenize_str("a" + character)) == 1) == (character in LETTERS), hex(code)
        assert (len(byte_level.pre_tokenize_str("1" + character)) == 1) == (character in NUMBERS), hex(code)


@settings(max_examples=300, deadline=None)
@given(character=st.characters(exclude_categories=("Cs", "Cn")), lower=st.booleans(), strip=st.booleans())
def test_normalizer_is_that_of_the_library_for_one_character(character, lower, strip):
    library = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=strip, lowercase=lower
    )
    ours = BertNormalizer(strip_accents=strip, lowercase=lower)
    assert ours[character] == library.normalize_str(character)


def test_merges_may_be_strings_or_pairs():
    description = json.loads(DESCRIPTIONS["roberta"])
    as_pairs = BytePair.from_json(description["model"])
    description["model"]["merges"] = [" ".join(merge) for merge in description["model"]["merges"]]
    as_strings = BytePair.from_json(description["model"])
    assert as_pairs.merges == as_strings.merges


def test_without_the_library_the_python_tokenizer_serves(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    tokenizer = Tokenizer(DESCRIPTIONS["bert-uncased"])
    assert tokenizer.backend == "python"
    assert tokenizer.encode("the fox").ids == PAIRS["bert-uncased"][1].encode("the fox").ids


def test_tokens_are_spelled_for_people():
    tokenizer = PAIRS["roberta"][0]
    ids = tokenizer.encode(" the").ids
    assert [tokenizer.token(i) for i in ids] == ["<s>", "the", "</s>"]
    assert tokenizer.token_id("<mask>") == 4
    assert tokenizer.token_id("no such token") is None


def test_a_tokenizer_of_another_kind_needs_the_library():
    unigram = LibraryTokenizer(models.Unigram([("<unk>", 0.0), ("a", -1.0)], 0))
    description = json.loads(unigram.to_str())
    description["model"]["vocab"] = {"<unk>": 0, "a": 1}
    with pytest.raises(UnsupportedDeviceError, match="pip install tokenizers"):
        Tokenizer(description, backend="python")


@pytest.mark.parametrize("text", ["not json", "{}", '{"model": {"vocab": 3}}', "[1, 2]"])
def test_a_file_that_is_no_tokenizer_is_refused(text):
    with pytest.raises(BundleError, match=r"tokenizer\.json"):
        Tokenizer(text)


def test_bad_texts_and_limits_are_input_errors():
    tokenizer = PAIRS["bert-uncased"][0]
    with pytest.raises(InputError, match="expected str"):
        tokenizer.encode(7)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="lone surrogate"):
        tokenizer.encode("half \ud83d")
    with pytest.raises(InputError, match="max_length is 2"):
        tokenizer.encode("text", max_length=2)
    with pytest.raises(InputError, match="no room"):
        tokenizer.encode_windows("quick " * 40, "context", max_length=16, stride=0)
