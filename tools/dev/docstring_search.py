"""Collect texts and a small search from the docstrings of installed packages: nothing in it is labeled.

    python -m tools.dev.docstring_search OUT_DIR --texts 3000 --pairs 400

`train.txt` has the texts that an embedder is compressed on: passages and one-line summaries of some modules.
`dev.jsonl` has pairs of other modules, `query` and `passage`: the first line of a docstring, and what the
docstring says next. An embedder that is any good finds the passage of a query among all others.

Needs: the packages numpy, torch, transformers, sympy and networkx.
Takes: a few seconds.
"""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path
from typing import Iterator, NamedTuple, Optional, Sequence

from tools import command_line
from tools.dev.docstring_corpus import (
    MARKUP,
    PACKAGES,
    SENTENCE,
    STANDARD_LIBRARY,
    digest,
    is_test_module,
    joined,
    source_files,
)

#: Words of a query.
SHORTEST, LONGEST = 5, 16
#: Share of a query's words that may also be in its passage: a search for the same words would need no model.
MOST_SHARED = 0.5


class Pair(NamedTuple):
    """What a docstring says in its first line, and after it."""

    query: str
    passage: str


def pairs(path: Path) -> Iterator[Pair]:
    """The pairs of the docstrings of a file."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8", errors="ignore"))
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            paragraphs = (ast.get_docstring(node) or "").split("\n\n")
            query = MARKUP.sub("", " ".join(paragraphs[0].split()))
            if len(paragraphs) < 2 or not query.endswith(".") or len(SENTENCE.split(query)) > 1:
                continue
            passage = next(joined(SENTENCE.split(" ".join(paragraphs[1].split()))), None)
            if passage is not None and is_query(query, passage):
                yield Pair(query, passage)


def is_query(query: str, passage: str) -> bool:
    """Whether a line is long enough to say what is looked for, and says it in words of its own."""
    words = query.lower().rstrip(".").split()
    letters = sum(character.isalpha() or character.isspace() for character in query)
    if not SHORTEST <= len(words) <= LONGEST or letters < 0.9 * len(query):
        return False
    there = set(passage.lower().replace(".", " ").replace(",", " ").split())
    return sum(word in there for word in words) <= MOST_SHARED * len(words)


def collect(texts: int, count: int) -> tuple[list[str], list[Pair]]:
    """Texts of some modules, and pairs of others, as many of each package as there are packages to share."""
    packages = (*PACKAGES, STANDARD_LIBRARY)
    found: dict[str, list[Pair]] = {"train": [], "test": []}
    wanted = {"train": -(-texts // (2 * len(packages))), "test": -(-count // len(packages))}
    seen: set[str] = set()
    for package in packages:
        own: dict[str, list[Pair]] = {"train": [], "test": []}
        for path in source_files(package):
            split = "test" if is_test_module(package, path) else "train"
            for pair in pairs(path):
                # Neither side occurs twice, so that every query has one right answer.
                if len(own[split]) < wanted[split] and not seen & {pair.query, pair.passage}:
                    seen |= {pair.query, pair.passage}
                    own[split].append(pair)
            if all(len(own[split]) == wanted[split] for split in wanted):
                break
        for split, of_package in own.items():
            found[split] += of_package
    training = sorted({text for pair in found["train"] for text in pair}, key=digest)
    return training[:texts], sorted(found["test"], key=lambda pair: digest(pair.query))[:count]


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Collect the texts and write both files."""
    parser = command_line.parser("tools.dev.docstring_search", __doc__)
    parser.add_argument("output", type=Path, help="folder for train.txt and dev.jsonl")
    parser.add_argument("--texts", type=int, default=3000, help="texts to compress on (default: 3000)")
    parser.add_argument("--pairs", type=int, default=400, help="queries with their passages (default: 400)")
    options = parser.parse_args(arguments)
    training, found = collect(options.texts, options.pairs)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "train.txt").write_text("".join(f"{text}\n" for text in training), encoding="utf-8")
    rows = [json.dumps(pair._asdict()) for pair in found]
    (options.output / "dev.jsonl").write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    print(f"{options.output}: {len(training)} texts in train.txt, {len(found)} pairs in dev.jsonl")


if __name__ == "__main__":
    sys.exit(command_line.run(main))
