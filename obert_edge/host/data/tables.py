"""Reading tables of examples: TSV, CSV, JSON, JSON Lines, and `datasets` on the Hub.

Every row comes with its line number, so that an error can name the place.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import math
import zlib
from collections import Counter
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, TextIO, Tuple

from obert_edge.errors import DataError, UsageError
from obert_edge.packages import how_to_install

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
TABLE_SUFFIXES = (".tsv", ".tsv.gz", ".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".json", ".json.gz")

#: Characters of the longest field of a CSV; Python's own limit is 131,072, less than a long article has.
_LONGEST_FIELD = 2**31 - 1
#: A whole number from here on is refused: it stands for no label, count or score.
_LARGEST = 1 << 63
#: How files of other kinds begin, and what to do with them.
_OTHER_KINDS = (
    (b"\xff\xfe", 'is UTF-16, which Windows calls "Unicode"', "save it as UTF-8: iconv -f UTF-16 -t UTF-8"),
    (b"\xfe\xff", "is UTF-16", "save it as UTF-8: iconv -f UTF-16 -t UTF-8"),
    (b"PK\x03\x04", "is a ZIP archive, as spreadsheets are", "unpack it, or save the spreadsheet as CSV"),
    (b"\x1f\x8b", "is compressed by gzip, which its name does not say", "add .gz to its name"),
    (b"PAR1", "is a Parquet file", "save it as JSON Lines, CSV or TSV"),
    (b"ARROW1", "is an Arrow file", "save it as JSON Lines, CSV or TSV"),
)


def find_splits(folder: Path, suffixes: Sequence[str]) -> Dict[str, Path]:
    """Files of ``folder`` by split name, by the stems of :data:`SPLIT_STEMS`.

    Raises:
        DataError: the folder does not exist, is a file, holds no split, or holds two files of one split.
    """
    if folder.is_file():
        raise DataError(
            f"{folder} is a file; a folder with a file for each split was expected",
            hint=f"name a folder that holds train and dev with a suffix of {', '.join(suffixes)}",
        )
    if not folder.is_dir():
        raise DataError(
            f"the data folder {folder} does not exist",
            hint="pass --data with the folder (or file) that holds the data",
        )
    found: Dict[str, Path] = {}
    for split, stems in SPLIT_STEMS.items():
        candidates = [folder / f"{stem}{suffix}" for stem in stems for suffix in suffixes]
        present = [candidate for candidate in candidates if candidate.exists()]
        if present:
            found[split] = only_one(split, present)
    if not found:
        names = sorted(path.name for path in folder.iterdir())
        raise DataError(
            f"{folder} holds none of train, dev, test with a suffix of {', '.join(suffixes)}; it holds "
            f"{', '.join(names[:5]) or 'nothing'}{', ...' if len(names) > 5 else ''}",
            hint="name the files train.<suffix> and dev.<suffix>",
        )
    return found


def only_one(split: str, paths: Sequence[Path]) -> Path:
    """The one file of a split.

    Raises:
        DataError: there are several, or it is a folder.
    """
    if len(paths) > 1:
        names = " and ".join(path.name for path in paths)
        raise DataError(
            f"{paths[0].parent} holds {names}, and split {split!r} is one file",
            hint="keep the right one in the folder, or pass the file itself with --data",
        )
    if not paths[0].is_file():
        raise DataError(
            f"{paths[0]} is a folder where the file of split {split!r} was expected",
            hint="put the file itself there, or pass --data with the folder that holds it",
        )
    return paths[0]


def read_rows(path: Path, header: Optional[Sequence[str]] = None) -> Iterator[Row]:
    """Rows of one file, in order.

    Args:
        path: ``.tsv`` (split on tab, quotes are text), ``.csv`` (RFC 4180), ``.jsonl`` (an object on each
            line) or ``.json`` (a list of objects, or an object on each line), each also gzipped.
        header: column names of a TSV without a header line (CoLA's train and dev).

    Raises:
        DataError: the file is missing, is not text, holds no rows, or a row does not fit its header.
    """
    suffix = plain_suffix(path)
    readers: Dict[str, Callable[[Path, TextIO], Iterator[Row]]] = {
        ".tsv": lambda path, stream: _read_tsv(path, stream, header),
        ".csv": _read_csv,
        ".jsonl": _read_jsonl,
        ".json": _read_json,
    }
    if suffix not in readers:
        raise DataError(
            f"{path} has an unknown suffix {suffix!r}", hint=f"use one of {', '.join(TABLE_SUFFIXES)}"
        )
    empty = True
    # The csv module finds the line ends itself, as it must where a quoted field holds some.
    with open_text(path, newline="" if suffix == ".csv" else None) as stream:
        for row in readers[suffix](path, stream):
            empty = False
            yield row
    if empty:
        raise DataError(f"{path} holds no rows", hint="add examples to the file")


def plain_suffix(path: Path) -> str:
    """The suffix of a file's name, that of compression left out: ``.csv`` of ``train.csv.gz``."""
    return path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix


@contextlib.contextmanager
def open_text(path: Path, newline: Optional[str] = None) -> Iterator[TextIO]:
    r"""Open a UTF-8 file, gzipped or not; reading errors become :class:`DataError`.

    Args:
        path: the file.
        newline: as :class:`io.TextIOWrapper` takes it; default: lines end with a line feed, since a sentence
            of GLUE may hold a bare carriage return, and only in a file without any line feed with that.

    Raises:
        DataError: the file is missing, is damaged, or is not UTF-8.
    """
    opener: Any = gzip.open if path.suffix == ".gz" else open
    try:
        if newline is None:
            with opener(path, "rb") as raw:
                newline = _line_end(raw)
        with opener(path, "rb") as raw, io.TextIOWrapper(raw, "utf-8-sig", newline=newline) as stream:
            yield stream
    except FileNotFoundError as error:
        raise DataError(f"the data file {path} does not exist", hint="check the path") from error
    except IsADirectoryError as error:
        raise DataError(
            f"{path} is a folder where a file was expected", hint="pass the file itself"
        ) from error
    except UnicodeDecodeError as error:
        try:
            found = _not_text(path, opener)
        except (EOFError, zlib.error, OSError):  # what follows the bytes that were read is damaged, too
            found = DataError(f"{path} is not UTF-8 text, or damaged", hint="copy the file again")
        raise found from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"{path} cannot be unpacked, so it cannot be read as UTF-8 text: {error}",
            hint="copy the file again: it is cut off, damaged, or not compressed by gzip",
        ) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}", hint="check the file") from error


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
            hint=f"{how_to_install('datasets')}, or pass a local folder to --data",
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
    """The value of a column, or a :class:`DataError` that names the columns there are."""
    number, values = row
    if name not in values:
        raise no_column(row, name, where)
    if values[name] is None:
        raise DataError(
            f"{where}, line {number}: column {name!r} is null",
            hint="give the row a value, or leave the row out",
        )
    return values[name]


def text_of(row: Row, name: str, where: object) -> str:
    """The text of a column; numbers are taken as they are written.

    Raises:
        DataError: there is no such column, or it holds something else, such as a list.
    """
    value = column(row, name, where)
    if not isinstance(value, str) and not is_number(value):
        found = json.dumps(value, default=str)[:60]
        raise DataError(
            f"{where}, line {row[0]}: column {name!r} holds {found}; expected a text",
            hint="write the text in quotes, or name the column of the text with --text-column",
        )
    return whole_text(str(value), f"{where}, line {row[0]}: column {name!r}")


def is_number(value: Any) -> bool:
    """Whether a value is a number that a float64 can come close to; true and false are none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) < _LARGEST if isinstance(value, int) else math.isfinite(value)


def whole_text(text: str, where: object) -> str:
    """The same text, or a :class:`DataError` where it holds half a character."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{where} holds half a character, {text[error.start]!a}, at {error.start}",
            hint="write the whole character; in JSON the two \\u escapes of a surrogate pair belong together",
        ) from error
    return text


def read_json(text: str, where: object, *, expected: str = "JSON") -> Any:
    """What a JSON text holds.

    Args:
        text: all of it.
        where: file and line, for messages.
        expected: what it should be, for messages.

    Raises:
        DataError: it is not JSON, is nested too deeply, or an object has a key twice.
    """
    try:
        return json.loads(text, object_pairs_hook=lambda pairs: _object(pairs, where))
    except json.JSONDecodeError as error:
        place = f"{where}, line {error.lineno}" if error.lineno > 1 else str(where)
        raise DataError(
            f"{place}: not {expected}: {error.msg} at column {error.colno}",
            hint=f"write {expected} there; if the file is cut off, copy it again",
        ) from error
    except (RecursionError, ValueError) as error:
        what = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise DataError(f"{where}: JSON that cannot be read: {what}", hint="check the file") from error


def _object(pairs: Sequence[Tuple[str, Any]], where: object) -> Dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise DataError(f"{where}: an object has the key {twice!r} twice", hint="keep the right one")
    return made


def no_column(row: Row, name: str, where: object) -> DataError:
    """The error of a row that lacks a column, in the words of the kind of file it is from."""
    number, values = row
    names = list(map(str, values))
    others = "or name the right ones with --text-column and --label-column"
    suffix = plain_suffix(Path(str(where)))
    if suffix in (".json", ".jsonl"):
        found = f"it has {', '.join(names)}" if names else "it is empty"
        return DataError(
            f"{where}, line {number}: the object has no key {name!r}; {found}",
            hint=f"give the object on this line the key {name!r}, as every object needs it, {others}",
        )
    return DataError(
        f"{where}, line {number}: there is no column {name!r}; there are {', '.join(names)}",
        hint=_separated(names) if suffix in (".csv", ".tsv") else f"choose another data set, {others}",
    )


def _separated(names: Sequence[str]) -> str:
    """What to do where the header of a table lacks a column."""
    if len(names) == 1:
        for mark, word in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
            if mark in names[0]:
                return f"the columns seem to be separated by {word}: use commas, or tabs in a .tsv"
    return (
        "the first line of a table must name its columns; name the right ones with --text-column and "
        "--label-column"
    )


def _line_end(raw: Any) -> str:
    r"""What ends a line: ``\n``, or ``\r`` in a file that has no ``\n``."""
    returns = False
    for chunk in iter(lambda: raw.read(1 << 16), b""):
        if b"\n" in chunk:
            return "\n"
        returns = returns or b"\r" in chunk
    return "\r" if returns else "\n"


def _not_text(path: Path, opener: Any) -> DataError:
    """The error of a file that is not UTF-8: what it seems to be, or its first line that is not."""
    with opener(path, "rb") as raw:
        start = raw.read(8)
        for begins, what, hint in _OTHER_KINDS:
            if start.startswith(begins):
                return DataError(f"{path} {what}; expected UTF-8 text", hint=hint)
        raw.seek(0)
        for number, line in enumerate(raw, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                byte = f"the byte 0x{line[error.start]:02x} after {error.start} others"
                return DataError(
                    f"{path}, line {number}: {byte} is not UTF-8 text",
                    hint="save the file as UTF-8; if it is Latin-1: iconv -f LATIN1 -t UTF-8",
                )
    return DataError(f"{path} is not UTF-8 text", hint="save the file as UTF-8")


def _header(path: Path, number: int, cells: Sequence[str]) -> List[str]:
    """The names of columns, as a header line has them.

    Raises:
        DataError: two columns have one name, or the line is not text.
    """
    names = [cell.strip() for cell in cells]
    if any("\0" in name for name in names):
        raise DataError(
            f"{path}, line {number}: the header holds NUL bytes, as UTF-16 does",
            hint="save the file as UTF-8: iconv -f UTF-16 -t UTF-8",
        )
    twice = [name for name, count in Counter(names).items() if name and count > 1]
    if twice:
        raise DataError(
            f"{path}, line {number}: the header names the column {twice[0]!r} twice",
            hint="give each column a name of its own",
        )
    return names


def _fit(path: Path, number: int, cells: Sequence[str], names: Sequence[str], hint: str) -> Row:
    """A row, if it has as many cells as the header."""
    if len(cells) != len(names):
        raise DataError(
            f"{path}, line {number}: {len(cells)} columns where the header has {len(names)}", hint=hint
        )
    return number, dict(zip(names, cells))


def _read_tsv(path: Path, stream: TextIO, header: Optional[Sequence[str]]) -> Iterator[Row]:
    names: Optional[List[str]] = list(header) if header is not None else None
    for number, line in enumerate(stream, start=1):
        if not line.strip(" \r\n"):
            continue
        cells = line.rstrip("\r\n").split("\t")
        if names is None:
            names = _header(path, number, cells)
            continue
        yield _fit(path, number, cells, names, "repair the row; columns are separated by single tabs")
    if names is None:
        raise DataError(f"{path} is empty", hint="the first line must name the columns")


def _read_csv(path: Path, stream: TextIO) -> Iterator[Row]:
    records = _records(path, stream)
    number, cells = next(records, (0, []))
    if not cells:
        raise DataError(f"{path} is empty", hint="the first line must name the columns")
    names = _header(path, number, cells)
    # Who puts a space behind the commas of the header does so in the rows, before a quote too.
    spaced = any(cell.startswith(" ") for cell in cells[1:])
    if spaced:
        stream.seek(0)
        records = _records(path, stream, skipinitialspace=True)
        next(records)
    for number, cells in records:
        yield _fit(path, number, cells, names, "quote texts that hold a comma or a quote")


def _records(path: Path, stream: TextIO, **options: Any) -> Iterator[Tuple[int, List[str]]]:
    """The records of a CSV that are not blank, each with its last line."""
    reader = csv.reader(stream, strict=True, **options)
    while True:
        first = reader.line_num + 1
        # The limit belongs to the whole process: it is raised for this one record, and given back.
        limit = csv.field_size_limit(_LONGEST_FIELD)
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise _broken_record(path, first, reader.line_num, error) from error
        finally:
            csv.field_size_limit(limit)
        if cells is None:
            return
        if any(cell.strip() for cell in cells) or len(cells) > 1:
            yield reader.line_num, cells


def _broken_record(path: Path, first: int, last: int, error: csv.Error) -> DataError:
    if "unexpected end" in str(error):
        return DataError(
            f"{path}, line {first}: a quote opens that is never closed",
            hint='close it, and write a quote within a text twice (""); copy a file again that is cut off',
        )
    lines = f"line {first}" if last <= first else f"lines {first} to {last}"
    return DataError(
        f"{path}, {lines}: not CSV: {error}",
        hint='quote a text that holds a comma, a quote or a line break, and write its quotes twice ("")',
    )


def _read_jsonl(path: Path, stream: TextIO) -> Iterator[Row]:
    for number, line in enumerate(stream, start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        yield number, _as_row(read_json(line, where, expected="a JSON object on one line"), where)


def _read_json(path: Path, stream: TextIO) -> Iterator[Row]:
    """A list of objects; or an object on each line, as `datasets` and pandas write to a ``.json`` too."""
    text = stream.read()
    start = len(text) - len(text.lstrip())
    if not text[start:].startswith("["):
        yield from _read_jsonl(path, io.StringIO(text, newline="\n"))
        return
    value = read_json(text, path)
    yield from ((line, _as_row(item, f"{path}, line {line}")) for line, item in zip(_lines_of(text), value))


def _lines_of(text: str) -> Iterator[int]:
    """The lines on which the items of a JSON list begin; the text is known to be valid."""
    decoder = json.JSONDecoder()
    at, line, counted = text.index("[") + 1, 1, 0
    while True:
        while text[at] in " \t\r\n,":
            at += 1
        if text[at] == "]":
            return
        line += text.count("\n", counted, at)
        counted = at
        yield line
        at = decoder.raw_decode(text, at)[1]


def _as_row(value: Any, where: str) -> Dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(
            f"{where}: a JSON {type(value).__name__} where an object was expected",
            hint='write one object per line, such as {"text": "...", "label": "..."}',
        )
    return value
