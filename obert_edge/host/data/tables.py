"""Reading tables of examples: GLUE TSV, CSV, JSON Lines, and `datasets` on the Hub.

Every row comes with its line number, so that an error can name the place.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, TextIO, Tuple

from obert_edge.errors import DataError, UsageError

#: A row with the line of the file it came from (first line: 1).
Row = Tuple[int, Dict[str, Any]]

#: What a split's file may be called, per split.
SPLIT_STEMS: Dict[str, Tuple[str, ...]] = {
    "train": ("train", "training"),
    "dev": ("dev", "validation", "valid", "val", "eval", "dev_matched", "validation_matched"),
    "dev_mismatched": ("dev_mismatched", "validation_mismatched"),
    "test": ("test", "test_matched"),
}
#: What a source starts with that is a data set of the Hugging Face Hub: ``hub:owner/set[:configuration]``.
HUB = "hub:"
TABLE_SUFFIXES = (".tsv", ".tsv.gz", ".csv", ".csv.gz", ".jsonl", ".jsonl.gz")


def find_splits(folder: Path, suffixes: Sequence[str]) -> Dict[str, Path]:
    """Files of ``folder`` by split name, by the stems of :data:`SPLIT_STEMS`.

    Raises:
        DataError: the folder does not exist or holds no split.
    """
    if not folder.is_dir():
        raise DataError(
            f"the data folder {folder} does not exist",
            hint="pass --data with the folder (or file) that holds the data",
        )
    found: Dict[str, Path] = {}
    for split, stems in SPLIT_STEMS.items():
        candidates = (folder / f"{stem}{suffix}" for stem in stems for suffix in suffixes)
        path = next((candidate for candidate in candidates if candidate.is_file()), None)
        if path is not None:
            found[split] = path
    if not found:
        raise DataError(
            f"{folder} holds none of train, dev, test with a suffix of {', '.join(suffixes)}",
            hint="name the files train.<suffix> and dev.<suffix>",
        )
    return found


def read_rows(path: Path, header: Optional[Sequence[str]] = None) -> Iterator[Row]:
    """Rows of one file, in order.

    Args:
        path: ``.tsv`` (split on tab, quotes are text), ``.csv`` (RFC 4180) or
            ``.jsonl``, each also gzipped.
        header: column names of a TSV without a header line (CoLA's train and dev).

    Raises:
        DataError: the file is missing, is not text, or a row does not fit its header.
    """
    suffix = "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix
    with open_text(path) as stream:
        if suffix.startswith(".tsv"):
            yield from _read_tsv(path, stream, header)
        elif suffix.startswith(".csv"):
            yield from _read_csv(path, stream)
        elif suffix.startswith(".json"):
            yield from _read_jsonl(path, stream)
        else:
            raise DataError(
                f"{path} has an unknown suffix {suffix!r}", hint=f"use one of {', '.join(TABLE_SUFFIXES)}"
            )


@contextlib.contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """Open a UTF-8 file, gzipped or not; reading errors become :class:`DataError`."""
    try:
        # newline="\n": GLUE rows may hold a bare carriage return inside a sentence.
        opener: Any = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rb") as raw, io.TextIOWrapper(raw, encoding="utf-8-sig", newline="\n") as stream:
            yield stream
    except FileNotFoundError as error:
        raise DataError(f"the data file {path} does not exist", hint="check the path") from error
    except (gzip.BadGzipFile, EOFError, UnicodeDecodeError, IsADirectoryError) as error:
        raise DataError(
            f"{path} cannot be read as UTF-8 text: {error}", hint="copy the file again or save it as UTF-8"
        ) from error


def hub_rows(name: str, split: str) -> Iterator[Row]:
    """Rows of a data set on the Hugging Face Hub, through the `datasets` library.

    Args:
        name: ``owner/set`` or ``owner/set:configuration``.
        split: the Hub's own name of the split.

    Raises:
        UsageError: `datasets` is not installed.
        DataError: the set cannot be loaded.
    """
    try:
        import datasets
    except ImportError as error:
        raise UsageError(
            f"the data set {name!r} is on the Hub, and the library `datasets` is not installed",
            hint="pip install 'obert-edge[datasets]', or pass a local folder to --data",
        ) from error
    repository, _, configuration = name.partition(":")
    try:
        table = datasets.load_dataset(repository, configuration or None, split=split)
    except Exception as error:
        raise DataError(
            f"the Hub data set {name!r}, split {split!r}, could not be loaded: {error}",
            hint="check its name and that this machine is online, or pass a local folder to --data",
        ) from error
    for number, row in enumerate(table, start=1):
        yield number, dict(row)


def column(row: Row, name: str, where: object) -> Any:
    """The value of a column, or a :class:`DataError` naming the columns there are."""
    number, values = row
    if name not in values or values[name] is None:
        raise DataError(
            f"{where}, line {number}: there is no column {name!r}; there are {', '.join(map(str, values))}",
            hint="add the column, or name the right one with --text-column / --label-column",
        )
    return values[name]


def _read_tsv(path: Path, stream: TextIO, header: Optional[Sequence[str]]) -> Iterator[Row]:
    names: Optional[List[str]] = list(header) if header is not None else None
    for number, line in enumerate(stream, start=1):
        cells = line.rstrip("\r\n").split("\t")
        if names is None:
            names = cells
            continue
        if cells == [""]:
            continue
        if len(cells) < len(names):
            raise DataError(
                f"{path}, line {number}: {len(cells)} columns where the header has {len(names)}",
                hint="repair the row; columns are separated by single tabs",
            )
        yield number, dict(zip(names, cells))


def _read_csv(path: Path, stream: TextIO) -> Iterator[Row]:
    reader = csv.reader(stream)
    names = next(reader, None)
    if names is None:
        raise DataError(f"{path} is empty", hint="the first line must name the columns")
    for cells in reader:
        if not cells:
            continue
        if len(cells) != len(names):
            raise DataError(
                f"{path}, line {reader.line_num}: {len(cells)} columns where the header has {len(names)}",
                hint="quote texts that hold a comma or a quote",
            )
        yield reader.line_num, dict(zip(names, cells))


def _read_jsonl(path: Path, stream: TextIO) -> Iterator[Row]:
    for number, line in enumerate(stream, start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(
                f"{path}, line {number}: not a JSON object: {error}", hint="write one JSON object per line"
            ) from error
        if not isinstance(value, dict):
            raise DataError(
                f"{path}, line {number}: a JSON {type(value).__name__} where an object was expected",
                hint='write one object per line, such as {"text": "...", "label": "..."}',
            )
        yield number, value
