"""Collect the quickstart's data set: passages people wrote in the docstrings of installed packages.

    python -m tools.dev.docstring_corpus OUT_DIR --per-class 800

There are six classes (which package does this passage document?), read with `ast` from the source files that
installing obert-edge's host side puts on the disk anyway, so no network is needed. A passage is one or more
sentences of a paragraph, 12 to 48 words. A module's passages are all in `train.jsonl` or all in `test.jsonl`,
never in both; a passage that occurs twice is used once; the packages' own names are blanked so that no
passage contains its answer.

Needs: the packages numpy, torch, transformers, sympy and networkx.
Takes: a few seconds.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import re
import sys
import sysconfig
from pathlib import Path
from typing import Iterator, Optional, Sequence

from tools import command_line

PACKAGES = ("numpy", "torch", "transformers", "sympy", "networkx")
STANDARD_LIBRARY = "python"
NAMES = re.compile(r"\b(?:numpy|np|torch|pytorch|transformers|sympy|networkx|nx|python)\b", re.IGNORECASE)
MARKUP = re.compile(r"``?|:[a-z]+:|\*+")
#: Words of a passage.
SHORTEST, LONGEST = 12, 48
SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")


def source_files(package: str) -> Iterator[Path]:
    """Python files of a package (or of the standard library), without tests, in a stable shuffled order."""
    if package == STANDARD_LIBRARY:
        root = Path(sysconfig.get_paths()["stdlib"])
        skipped = {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "turtledemo"}
    else:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            return
        root = Path(spec.origin).parent
        skipped = {"test", "tests", "testing", "_vendor"}
    paths = [p for p in root.rglob("*.py") if not skipped.intersection(p.relative_to(root).parts[:-1])]
    yield from sorted(paths, key=lambda path: digest(str(path.relative_to(root))))


def digest(text: str) -> bytes:
    """The hash that makes every choice that must be the same on all machines."""
    return hashlib.sha256(text.encode()).digest()


def passages(path: Path) -> Iterator[str]:
    """The prose passages of every docstring in a file."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8", errors="ignore"))
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            for paragraph in (ast.get_docstring(node) or "").split("\n\n"):
                if ">>>" not in paragraph and "---" not in paragraph:
                    yield from joined(SENTENCE.split(" ".join(paragraph.split())))


def joined(sentences: list[str]) -> Iterator[str]:
    """Join consecutive sentences until they are long enough to say what they are about."""
    passage = ""
    for raw in sentences:
        text = MARKUP.sub("", NAMES.sub("the library", raw)).strip()
        letters = sum(c.isalpha() or c.isspace() for c in text)
        if not text.endswith(".") or letters < 0.88 * len(text) or len(text.split()) > SHORTEST * 3:
            passage = ""
            continue
        passage = f"{passage} {text}".strip()
        if SHORTEST <= len(passage.split()) <= LONGEST:
            yield passage
            passage = ""


def is_test_module(package: str, path: Path) -> bool:
    """One module in five is held out, chosen by a hash of its name."""
    return digest(f"{package}/{path.parent.name}/{path.name}")[0] % 5 == 0


def collect(per_class: int) -> dict[str, list[dict[str, str]]]:
    """`{"train": rows, "test": rows}` with `text` and `label`, balanced over the classes."""
    seen: set[str] = set()
    rows: dict[str, list[dict[str, str]]] = {"train": [], "test": []}
    for package in (*PACKAGES, STANDARD_LIBRARY):
        found: dict[str, list[str]] = {"train": [], "test": []}
        wanted = {"train": per_class * 4 // 5, "test": per_class // 5}
        for path in source_files(package):
            split = "test" if is_test_module(package, path) else "train"
            for text in passages(path):
                if text.lower() not in seen:
                    seen.add(text.lower())
                    found[split].append(text)
            # Twice as many passages are read as are kept, so that one long module is not most of its class.
            if all(len(found[split]) >= 2 * wanted[split] for split in wanted):
                break
        for split, count in wanted.items():
            found[split].sort(key=digest)
            rows[split] += [{"text": text, "label": package} for text in found[split][:count]]
    for split_rows in rows.values():
        split_rows.sort(key=lambda row: digest(row["text"]))
    return rows


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Collect the passages and write both files."""
    parser = command_line.parser("tools.dev.docstring_corpus", __doc__)
    parser.add_argument("output", type=Path, help="folder for train.jsonl and test.jsonl")
    parser.add_argument(
        "--per-class", type=int, default=800, help="passages of a class, both splits together (default: 800)"
    )
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    for split, rows in collect(options.per_class).items():
        path = options.output / f"{split}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        classes = sorted({row["label"] for row in rows})
        print(f"{path}: {len(rows)} passages, {len(classes)} classes ({', '.join(classes)})")


if __name__ == "__main__":
    sys.exit(command_line.run(main))
