"""Reading the project's Markdown: its pages, and the prose, code and links in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Iterator, List, Tuple

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
RESULTS = DOCS / "results"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))]

_FENCE = re.compile(r"^\s*```(\w*)")
_ITEM = re.compile(r"^\s*(?:[*-]|\d+\.)\s+")


@dataclass(frozen=True)
class Line:
    """A line of a page.

    Attributes:
        number: from 1.
        text: without its newline.
        kind: "prose", "item" (the first line of a list item), "code", "table", "heading" or "blank".
        language: of a fenced block of code.
    """

    number: int
    text: str
    kind: str
    language: str = ""


def name(page: Path) -> str:
    """What a failing test calls a page."""
    return page.relative_to(ROOT).as_posix()


@cache
def lines(page: Path) -> Tuple[Line, ...]:
    """The lines of a page, told apart; the fences of a block of code are code."""
    found: List[Line] = []
    language, fenced, indented = "", False, False
    for number, text in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        fence = _FENCE.match(text)
        if fence:
            fenced = not fenced
            language = fence[1] if fenced else ""
            found.append(Line(number, text, "code"))
            continue
        previous = found[-1].kind if found else "blank"
        indented = text.startswith("    ") and (indented or previous in ("blank", "heading"))
        if fenced:
            kind = "code"
        elif not text.strip():
            kind = "blank"
        elif text.lstrip().startswith("|"):
            kind = "table"
        elif indented:
            kind = "code"
        elif text.startswith("#"):
            kind = "heading"
        elif text.lstrip().startswith(("![", "<!--")):
            kind = "blank"
        else:
            kind = "item" if _ITEM.match(text) else "prose"
        found.append(Line(number, text, kind, language))
    return tuple(found)


def paragraphs(page: Path) -> Iterator[List[Line]]:
    """Runs of prose: each is a paragraph, or a list item with its further lines."""
    run: List[Line] = []
    for line in (*lines(page), Line(0, "", "blank")):
        if line.kind != "prose" and run:
            yield run
            run = []
        if line.kind in ("prose", "item"):
            run.append(line)


def blocks(page: Path, language: str) -> Iterator[Tuple[int, str]]:
    """The fenced blocks of code in a language: the number of their first line, and their text."""
    run: List[Line] = []
    for line in (*lines(page), Line(0, "", "blank")):
        if line.kind == "code" and line.language == language:
            run.append(line)
        elif run:
            yield run[0].number, "\n".join(one.text for one in run) + "\n"
            run = []


def code(page: Path) -> Iterator[Tuple[int, str]]:
    """Everything in code font: lines of code, and spans in prose and tables."""
    for line in lines(page):
        if line.kind == "code":
            yield line.number, line.text
        else:
            for span in re.findall(r"`([^`]+)`", line.text):
                yield line.number, span


def links(page: Path) -> Iterator[Tuple[int, str]]:
    """Targets of links and pictures outside code, with the numbers of their lines."""
    for number, text in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        if lines(page)[number - 1].kind != "code":
            for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", text)):
                yield number, target


def anchors(page: Path) -> List[str]:
    """The anchors of a page's headings, as a site makes them."""
    found = []
    for line in lines(page):
        if line.kind == "heading":
            words = re.sub(r"[^\w\s-]", "", line.text.lstrip("#").strip().lower())
            found.append(re.sub(r"[-\s]+", "-", words))
    return found
