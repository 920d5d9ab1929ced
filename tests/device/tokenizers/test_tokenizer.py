"""The pure-Python tokenizers give the ids, offsets and words of the ``tokenizers`` library."""

from __future__ import annotations

import json
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as LibraryTokenizer

from obert_edge.device.tokenizers.bpe import BytePair
from obert_edge.device.tokenizers.tokenizer import Tokenizer
from obert_edge.errors import BundleError, InputError, UnsupportedDeviceError
from tests.device.tokenizers.families import description_of

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


DESCRIPTIONS = {
    name: description_of(name) for name in ("bert-uncased", "bert-cased", "roberta", "roberta-prefix-space")
}
PAIRS = {
    name: (Tokenizer(text, backend="python"), Tokenizer(text, backend="tokenizers"))
    for name, text in DESCRIPTIONS.items()
}


@pytest.mark.parametrize("name", DESCRIPTIONS)
@pytest.mark.parametrize("text", TRICKY)
def test_python_equals_library_on_tricky_text(name, text):
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


@pytest.mark.parametrize("stride", [9, 128, 10**6])
def test_windows_share_at_most_two_thirds_of_themselves(stride):
    """A stride that leaves no room would give a window for each token."""
    tokenizer, context = PAIRS["bert-uncased"][0], " ".join(CORPUS)
    room = 16 - len(tokenizer.encode("the fox", ""))
    found = tokenizer.encode_windows("the fox", context, 16, stride)
    at_most = tokenizer.encode_windows("the fox", context, 16, 2 * room // 3)
    assert [window.ids for window in found] == [window.ids for window in at_most]
    assert sum(map(len, found)) < 7 * len(tokenizer.encode(context))


@pytest.mark.parametrize("direction", ["left", "right"])
@pytest.mark.parametrize("pair", [None, "the fox"])
@pytest.mark.parametrize(
    ("limit", "stride"), [(16, 0), (16, 3), (16, 15), (16, 10**6), (24, 8), (400, 10), (10, 1)]
)
def test_windows_know_their_tokens_before_they_are_made(direction, pair, limit, stride):
    reference = LibraryTokenizer.from_str(DESCRIPTIONS["bert-uncased"])
    reference.enable_truncation(1 << 20, direction=direction)
    tokenizer = Tokenizer(reference.to_str())
    for text in ("", "fox", " ".join(CORPUS[:2]), " ".join(CORPUS)):
        texts = (text, None) if pair is None else (pair, text)
        windows = tokenizer.encode_windows(*texts, limit, stride)
        made = list(windows)
        assert windows.tokens == sum(map(len, made))
        assert len(windows) == len(made) and windows[-1] == made[-1] and windows[1:3] == made[1:3]


def test_windows_are_made_when_they_are_asked_for():
    tokenizer = PAIRS["bert-uncased"][0]
    windows = tokenizer.encode_windows("fox " * 10**5, None, 512, 10**6)
    assert len(windows) > 500 and windows.tokens > 2 * 10**5
    assert len(windows[500]) == 512


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
    assert "".join(tokenizer.token(i) for i in ids) == "<s>the</s>"
    assert tokenizer.token_id("<mask>") == 4
    assert tokenizer.token_id("no such token") is None


def test_a_part_that_plain_python_does_not_run_needs_the_library():
    for part, kind in (("pre_tokenizer", "UnicodeScripts"), ("normalizer", "Unheard"), ("model", "Unheard")):
        description = json.loads(DESCRIPTIONS["bert-uncased"])
        description[part]["type"] = kind
        with pytest.raises(UnsupportedDeviceError, match="pip install tokenizers"):
            Tokenizer(description, backend="python")


@pytest.mark.parametrize(("limit", "stride"), [(6, 0), (16, 3), (24, 8), (400, 10)])
def test_a_tokenizer_that_cuts_the_beginning_does_so_as_the_library(limit, stride):
    reference = LibraryTokenizer.from_str(DESCRIPTIONS["bert-uncased"])
    reference.enable_truncation(1 << 20, direction="left")
    python = Tokenizer(reference.to_str(), backend="python")
    text = " ".join(CORPUS)
    reference.enable_truncation(limit, direction="left")
    assert python.encode(text, max_length=limit).ids == reference.encode(text).ids
    assert python.encode(text, "the fox", limit).ids == reference.encode(text, "the fox").ids
    reference.enable_truncation(limit, direction="left", stride=stride)
    first = reference.encode(text)
    found = python.encode_windows(text, None, limit, stride)
    assert [window.ids for window in found] == [window.ids for window in [first, *first.overflowing]]


def test_added_tokens_get_the_ids_that_the_library_gives_them():
    description = json.loads(DESCRIPTIONS["bert-uncased"])
    size = len(description["model"]["vocab"])
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    # Ids that the file states do not hold: a piece of the vocabulary keeps its own, others are counted on.
    description["added_tokens"] += [
        {"id": 9000, "content": "t", **flags},
        {"id": 9001, "content": "$E1", **flags},
        {"id": 9002, "content": "", **flags},
    ]
    python, library = (Tokenizer(json.dumps(description), backend=b) for b in ("python", "tokenizers"))
    text = "a $E1 the fox"
    assert python.encode(text) == library.encode(text)
    assert max(python.ids) == python.token_id("$E1") >= size
    assert python.token_id("t") < size


@pytest.mark.parametrize("backend", ["python", "tokenizers"])
@pytest.mark.parametrize(
    "text",
    [
        "not json",
        "{}",
        "[1, 2]",
        "[" * 100_000,
        '{"model": {"type": "WordPiece", "vocab": 3}}',
        '{"model": {"type": "WordPiece", "vocab": ["a", "b"]}}',
        '{"model": {"type": "WordPiece", "vocab": {"a": 0}, "unk_token": "[UNK]"}}',
        '{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]}}',
        '{"model": {"type": "BPE", "vocab": {"a": 0}}}',
        '{"model": {"type": "Unigram", "vocab": []}}',
        '{"model": {"type": "Unigram", "vocab": [["a", -1.0]], "unk_id": 4}}',
        '{"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "u"}, "post_processor": 3}',
        '{"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}, "added_tokens": [{"id": 1}]}',
        '{"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}, "normalizer": '
        '{"type": "Precompiled", "precompiled_charsmap": "AAAA"}}',
    ],
)
def test_a_file_that_is_no_tokenizer_is_refused(text, backend):
    with pytest.raises(BundleError, match=r"tokenizer\.json"):
        # The library is lenient with an unknown token that is missing: it fails at the first unknown word.
        Tokenizer(text, backend="python" if "unk" in text or "Unigram" in text else backend)


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
