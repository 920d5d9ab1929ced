"""The models cut words as their papers say, in time that grows with the word and not with its square."""

from __future__ import annotations

import json

import pytest
from tokenizers import Tokenizer as LibraryTokenizer
from tokenizers import models

from obert_edge.device.tokenizers.bpe import BytePair, merge
from obert_edge.device.tokenizers.numbers import parse_float, parse_json
from obert_edge.device.tokenizers.unigram import Unigram
from obert_edge.device.tokenizers.wordlevel import WordLevel
from obert_edge.device.tokenizers.wordpiece import WordPiece
from obert_edge.errors import BundleError, UnsupportedDeviceError

LETTERS = "abcdefgh"


class Counted(dict):  # type: ignore[type-arg]
    """Counts how often it is asked."""

    asked = 0

    def get(self, *arguments):  # type: ignore[no-untyped-def]
        """See ``dict.get``."""
        self.asked += 1
        return super().get(*arguments)


def doubling(count: int) -> BytePair:
    """Merges of one letter: aa, aaaa, and so on."""
    pieces = ["a" * (1 << power) for power in range(count)]
    return BytePair({piece: id_ for id_, piece in enumerate(pieces)}, [(p, p) for p in pieces[:-1]])


@pytest.mark.parametrize("length", [1000, 2000, 4000, 8000, 100_000])
def test_bpe_looks_up_a_few_pairs_for_each_letter_however_long_the_word(length: int) -> None:
    merges = Counted(doubling(8).merges)
    spans = merge([0] * length, merges)
    assert [end - start for start, end in spans][: length // 128] == [128] * (length // 128)
    assert merges.asked <= 5 * length


def test_bpe_cuts_a_word_of_very_many_letters() -> None:
    length = 1 << 17
    pieces = doubling(8).cut("a" * length)
    assert len(pieces) == length // 128
    assert pieces[-1] == (7, length - 128, length)


def test_bpe_merges_the_lowest_rank_first_and_of_equals_the_leftmost() -> None:
    vocabulary = {piece: id_ for id_, piece in enumerate(["a", "b", "ab", "ba", "aba", "bab"])}
    model = BytePair(vocabulary, [("b", "a"), ("a", "b"), ("a", "ba"), ("ab", "a")])
    assert [piece[0] for piece in model.cut("abab")] == [4, 1]
    assert model.cut("aab") == [(0, 0, 1), (2, 1, 3)]


@pytest.mark.parametrize("length", [1000, 10_000])
def test_unigram_tries_only_lengths_that_some_piece_has(length: int) -> None:
    pieces = [("<unk>", 0.0), *((letter, -5.0) for letter in LETTERS), ("abc", -6.0), ("abcdefgh", -7.0)]
    model = Unigram(pieces, 0)
    model._scores = Counted(model._scores)
    word = (LETTERS * length)[:length]
    assert [end - start for _, start, end in model.cut(word)][0] == 8
    assert model._scores.asked <= 2 * length


def test_unigram_joins_unknown_neighbors_and_spells_them_in_bytes_if_it_can() -> None:
    pieces = [("<unk>", 0.0), ("a", -1.0)]
    assert Unigram(pieces, 0).cut("a的中a") == [(1, 0, 1), (0, 1, 3), (1, 3, 4)]
    spelled = Unigram([*pieces, *((f"<0x{byte:02X}>", -9.0) for byte in range(256))], 0, byte_fallback=True)
    assert spelled.cut("aé") == [(1, 0, 1), (2 + 0xC3, 1, 2), (2 + 0xA9, 1, 2)]


def test_unigram_takes_the_best_product_not_the_longest_piece() -> None:
    model = Unigram([("<unk>", 0.0), ("ab", -1.0), ("c", -1.0), ("abc", -3.0), ("a", -9.0), ("b", -9.0)], 0)
    assert [id_ for id_, _, _ in model.cut("abc")] == [1, 2]


def test_a_unigram_without_an_unknown_token_is_refused() -> None:
    with pytest.raises(BundleError, match="unknown token"):
        Unigram([("a", -1.0)], None)


def test_word_models_know_their_unknown_token() -> None:
    assert WordLevel({"u": 0, "the": 1}, "u").cut("the") == [(1, 0, 3)]
    assert WordLevel({"u": 0}, "u").cut("fox") == [(0, 0, 3)]
    piece = WordPiece({"[UNK]": 0, "a": 1, "##b": 2}, longest_word=5)
    assert piece.cut("ab") == [(1, 0, 1), (2, 1, 2)]
    assert piece.cut("ax") == [(0, 0, 2)]
    assert piece.cut("abbbbb") == [(0, 0, 6)]


def test_options_that_are_not_run_are_refused() -> None:
    model = {"vocab": {"a": 0}, "merges": []}
    for options in ({"dropout": 0.1}, {"byte_fallback": True, "end_of_word_suffix": "</w>"}):
        with pytest.raises(UnsupportedDeviceError, match="BPE with"):
            BytePair.from_json({**model, **options})


@pytest.mark.parametrize(
    "literal",
    ["-3.4636626243591309", "-0.1", "1.5", "-12.345678901234567", "123456789012345678901234567890.5", "1e-7"]
    + ["-7.038529872894287", "2.5E3", "1e-320", "0.30000000000000004", "-9.999999999999999999999"],
)
def test_scores_are_the_numbers_that_the_library_reads(literal: str) -> None:
    model = f'{{"type": "Unigram", "unk_id": 0, "vocab": [["u", 0.0], ["a", {literal}]]}}'
    text = f'{{"version": "1.0", "added_tokens": [], "model": {model}}}'
    printed = json.loads(LibraryTokenizer.from_str(text).to_str())
    assert parse_json(text)["model"]["vocab"][1][1] == printed["model"]["vocab"][1][1]


def test_numbers_that_are_none_are_refused() -> None:
    for literal in ("1e999", "NaN", "x"):
        with pytest.raises(ValueError):
            parse_float(literal)


def test_the_library_has_the_models_that_plain_python_has() -> None:
    from obert_edge.device.tokenizers import MODELS

    assert set(MODELS) == {name for name in dir(models) if name[0].isupper()} - {"Model"}
