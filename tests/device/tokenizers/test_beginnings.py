"""Of a text that is far too long only a beginning is cut into tokens, to the same tokens."""

from __future__ import annotations

import json
import random

import pytest

from obert_edge.device.tokenizers.beginnings import beginnings
from obert_edge.device.tokenizers.tokenizer import Tokenizer
from obert_edge.errors import InputError
from tests.device.tokenizers.corpus import hard_lines
from tests.device.tokenizers.families import FAMILIES, description_of

LENGTHS = (8, 33, 128)
#: Families whose words do not end at every space, as far as the parts of their tokenizers say.
WHOLE = {"llama3", "gemma", "byte-unigram"}


class Counting:
    """A splitter that counts the characters it is given."""

    def __init__(self, splitter) -> None:
        self._splitter = splitter
        self.characters = 0

    def tokenize(self, text):
        self.characters += len(text)
        return self._splitter.tokenize(text)


def counted(tokenizer) -> Counting:
    tokenizer._splitter = Counting(tokenizer._splitter)
    return tokenizer._splitter


def long_texts():
    lines = list(hard_lines())
    for seed in range(12):
        chance = random.Random(seed)
        chance.shuffle(lines)
        yield chance.choice(["", " ", "\n", "  "]).join(lines[:400])


def whole(tokenizer, text, max_length, pair=None):
    """What `encode` gives where no beginning will do."""
    tokenizer._has_beginnings, before = False, tokenizer._has_beginnings
    try:
        return tokenizer.encode(text, pair, max_length=max_length)
    finally:
        tokenizer._has_beginnings = before


@pytest.mark.parametrize("backend", ["python", "tokenizers"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_tokens_are_those_of_the_whole_text(family, backend):
    tokenizer = Tokenizer(description_of(family), backend=backend)
    for text in long_texts():
        for max_length in LENGTHS:
            assert tokenizer.encode(text, max_length=max_length) == whole(tokenizer, text, max_length)


@pytest.mark.parametrize("family", FAMILIES)
def test_few_characters_of_a_long_text_are_looked_at(family):
    tokenizer = Tokenizer(description_of(family), backend="tokenizers")
    splitter = counted(tokenizer)
    text = "the quick fox " * 20000
    assert len(tokenizer.encode(text, max_length=128)) == 128
    if family in WHOLE:
        assert splitter.characters == len(text)
    else:
        assert splitter.characters < 6000


@pytest.mark.parametrize(
    "texts", [("a fox", "the quick fox " * 5000), ("the quick fox " * 5000, "a fox " * 4000)]
)
@pytest.mark.parametrize("max_length", [*LENGTHS, 129])
def test_pairs_lose_the_end_of_the_longer_text(texts, max_length):
    tokenizer = Tokenizer(description_of("bert-uncased"))
    for text, pair in (texts, texts[::-1]):
        assert tokenizer.encode(text, pair, max_length=max_length) == whole(tokenizer, text, max_length, pair)


def test_a_beginning_ends_before_a_space_and_is_at_most_half_of_the_text():
    text = "some words  and more " * 1000
    found = list(beginnings(text, 1))
    assert len(found) > 2
    for one in found:
        assert text.startswith(one + " ") and not one[-1].isspace() and 2 * len(one) <= len(text)
    assert list(beginnings("x" * 10**5, 1)) == []  # one word
    assert list(beginnings(" " * 10**5, 1)) == []


def test_blanks_have_no_tokens_and_what_follows_them_is_found():
    tokenizer = Tokenizer(description_of("bert-uncased"))
    text = " " * 10**5 + "fox " * 10**4
    assert tokenizer.encode(text, max_length=8) == whole(tokenizer, text, 8)


def test_half_a_character_is_found_wherever_it_is():
    tokenizer = Tokenizer(description_of("bert-uncased"))
    with pytest.raises(InputError, match="lone surrogate"):
        tokenizer.encode("fox " * 10**5 + "\ud800", max_length=8)


@pytest.mark.parametrize(
    "change",
    [
        {"added_tokens": [{"id": 0, "content": "quick fox", "special": False}]},
        {"normalizer": {"type": "Replace", "pattern": {"String": "quick fox"}, "content": "x"}},
        {"normalizer": {"type": "Replace", "pattern": {"Regex": "quick.fox"}, "content": "x"}},
        {"pre_tokenizer": None},
        {"truncation": {"direction": "Left", "max_length": 8, "strategy": "LongestFirst", "stride": 0}},
    ],
    ids=["added", "replaced", "regex", "unsplit", "left"],
)
def test_where_a_word_may_reach_over_a_space_the_whole_text_is_looked_at(change):
    tokenizer = Tokenizer({**json.loads(description_of("bert-uncased")), **change}, backend="python")
    splitter = counted(tokenizer)
    tokenizer.encode("the quick fox " * 5000, max_length=8)
    assert splitter.characters == 14 * 5000
