"""Every family of tokenizers cuts hard lines, and any others, as the ``tokenizers`` library does."""

from __future__ import annotations

import json
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obert_edge.device.tokenizers.tokenizer import Tokenizer
from tests.device.tokenizers.corpus import LINES, MARKS, ODD, hard_lines
from tests.device.tokenizers.families import FAMILIES, description_of, trained_anew

ANY_TEXT = st.text(
    st.one_of(
        st.characters(exclude_categories=("Cs",), max_codepoint=0x2FFF),
        st.characters(exclude_categories=("Cs", "Cn")),
        st.sampled_from(" \t\r\n'.,aesteAÉ的<[]>ΣİÉ▁0½" + MARKS + ODD),
    )
)


@cache
def both(family: str) -> tuple[Tokenizer, Tokenizer]:
    description = description_of(family)
    return Tokenizer(description, backend="python"), Tokenizer(description, backend="tokenizers")


def test_the_hard_lines_are_the_same_everywhere() -> None:
    lines = hard_lines()
    assert len(lines) == LINES
    assert len({character for line in lines for character in line}) > 2000
    assert lines == hard_lines.__wrapped__()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_what_its_function_trains(family: str) -> None:
    """But for what training leaves to chance, which is why it was done once: pieces and their ids."""
    kept, trained = (json.loads(text) for text in (description_of(family), trained_anew(family)))
    for description in (kept, trained):
        for part in ("vocab", "merges"):
            description["model"].pop(part, None)
        for token in description["added_tokens"]:
            token.pop("id")
        # They stand by their ids, and so in an order of chance as well.
        description["added_tokens"].sort(key=lambda token: token["content"])
    assert kept == trained


@pytest.mark.parametrize("family", FAMILIES)
def test_no_hard_line_is_cut_otherwise(family: str) -> None:
    python, library = both(family)
    differing = [line for line in hard_lines() if python.encode(line) != library.encode(line)]
    assert differing == []


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=60, deadline=None)
@given(text=ANY_TEXT)
def test_no_other_text_is_cut_otherwise(family: str, text: str) -> None:
    python, library = both(family)
    assert python.encode(text) == library.encode(text)


@pytest.mark.parametrize("family", ["bert-uncased", "roberta", "llama3", "xlm-roberta", "word-level"])
def test_pairs_have_the_special_tokens_and_types_of_the_library(family: str) -> None:
    python = both(family)[0]
    from tokenizers import Tokenizer as LibraryTokenizer

    library = LibraryTokenizer.from_str(description_of(family))
    found, expected = (
        python.encode("the quick fox", "doesn't jump"),
        library.encode("the quick fox", "doesn't jump"),
    )
    assert (found.ids, found.type_ids) == (expected.ids, expected.type_ids)
    assert (found.words, found.sequences) == (expected.word_ids, expected.sequence_ids)


def test_tokens_are_spelled_for_people_in_every_kind_of_vocabulary() -> None:
    for family in ("roberta", "xlm-roberta", "gemma"):
        python = both(family)[0]
        spelled = [python.token(id_) for id_ in python.encode("a <unk> the").ids]
        assert "the" in "".join(spelled), family
        assert not any("Ġ" in token or "▁" in token for token in spelled), family
