"""Pages can be read: one sentence a line, short paragraphs, results that are tables, a short README."""

from __future__ import annotations

import re

import pytest

from tests.docs.markdown import DOCS, PAGES, RESULTS, ROOT, lines, name, paragraphs

#: Where one sentence ends and the next begins.
_NEXT_SENTENCE = re.compile(r"[.!?][)\"'*_]*\s+(?=[A-Z\[*(\"])")
#: What ends in a full stop and is not the end of a sentence.
_ABBREVIATIONS = re.compile(r"(?:\bet al|\be\.g|\bi\.e|\bvs|\bcf|\bNo)\.[)\"'*_]*\s*$")
#: How a line ends when the next one begins a new sentence: the separator is that of a row of links.
_END = re.compile(r"(?:[.!?:;][)\"'*_`]*|•)$")
_WORDS = 90
#: A sentence about the machine, and five.
_SENTENCES = 6
_README_LINES = 120

#: What a page begins with that a program writes from declarations.
_GENERATED = "<!-- Written by"

RESULT_PAGES = [page for page in sorted(RESULTS.glob("*.md")) if page.name != "README.md"]

WRITTEN_PAGES = [
    page
    for page in PAGES
    if page not in RESULT_PAGES and not page.read_text(encoding="utf-8").startswith(_GENERATED)
]


def prose(text):
    """A line without its list marker, code and targets of links: there full stops do not end sentences."""
    text = re.sub(r"^\s*(?:[*-]|\d+\.)\s+", "", text)
    return re.sub(r"\]\([^)]*\)", "]", re.sub(r"`[^`]*`", "code", text))


def sentences_in(text):
    """How many sentences a line holds."""
    plain = prose(text)
    ends = [match.end() for match in _NEXT_SENTENCE.finditer(plain)]
    return 1 + sum(_ABBREVIATIONS.search(plain[:end]) is None for end in ends)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_line_is_a_sentence(page):
    several = [
        f"line {line.number}: {line.text}"
        for line in lines(page)
        if line.kind in ("prose", "item") and sentences_in(line.text) > 1
    ]
    assert not several


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_no_sentence_is_wrapped(page):
    wrapped = [
        f"line {line.number}: {line.text}"
        for paragraph in paragraphs(page)
        for line, following in zip(paragraph, paragraph[1:])
        if following.kind == "prose" and not _END.search(line.text.rstrip())
    ]
    assert not wrapped


@pytest.mark.parametrize("page", WRITTEN_PAGES, ids=name)
def test_a_paragraph_has_one_thing_to_say(page):
    for paragraph in paragraphs(page):
        if all(line.kind == "prose" for line in paragraph):
            words = sum(len(line.text.split()) for line in paragraph)
            assert words <= _WORDS, f"line {paragraph[0].number} begins a paragraph of {words} words"


@pytest.mark.parametrize("page", RESULT_PAGES, ids=name)
def test_a_results_page_is_a_table_and_a_few_sentences(page):
    kinds = [line.kind for line in lines(page)]
    assert "table" in kinds
    assert kinds.count("prose") <= _SENTENCES


def test_every_sentence_of_a_page_is_counted():
    assert sentences_in("One of them. And another.") == 2
    assert sentences_in("By Kurtic et al. Nothing else, `a.b` and [this](x.md). ") == 1
    assert sentences_in("It is (so far) one. *Emphasis* begins the next.") == 2
    assert sentences_in("A factor of 1.5 in v1.2 is one.") == 1


def test_the_readme_is_short_and_has_the_two_commands():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= _README_LINES
    assert re.search(r"^tools/quickstart\b", text, re.MULTILINE)
    assert re.search(r"^tools/test\b", text, re.MULTILINE)


def test_pages_are_named_alike():
    """Results are named like their data files, with underscores; all other pages with hyphens."""
    for page in DOCS.rglob("*.md"):
        if page.name != "README.md":
            assert ("-" if page.parent == RESULTS else "_") not in page.stem, page
