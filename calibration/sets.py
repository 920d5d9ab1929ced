"""Calibration sets: texts read from a file, and tokenized batches of them."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from pathlib import Path
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple, Union

import torch

from obert_edge.errors import DataError

#: A text, or a pair of them (premise and hypothesis, question and context).
Text = Union[str, Tuple[str, str]]

#: Columns that hold the text in well-known data sets, in the order they are looked for.
_KNOWN_COLUMNS: Tuple[Tuple[str, ...], ...] = (
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("premise", "hypothesis"),
    ("question", "context"),
    ("question", "sentence"),
    ("sentence",),
    ("text",),
)


def read_texts(
    file: Union[str, Path], columns: Optional[Sequence[str]] = None, limit: int = 256
) -> List[Text]:
    """Texts of a data file, evenly spread over it when it holds more than ``limit``.

    Args:
        file: ``.txt`` (a text per line), ``.jsonl``, ``.tsv`` or ``.csv`` (with a header); or one of
            them compressed, ``.gz``.
        columns: the column of the text, or the two columns of a pair; default: well-known names
            (``text``, ``sentence``, ``sentence1`` and ``sentence2``, ``question`` and ``context``, ...).
        limit: at most this many.

    Raises:
        DataError: the file is missing, empty, of another kind, or lacks the columns.
    """
    file = Path(file)
    try:
        content = _read(file)
        kind = Path(file.stem).suffix if file.suffix == ".gz" else file.suffix
        if kind == ".txt":
            texts: List[Text] = list(filter(None, map(str.strip, content.splitlines())))
        else:
            texts = _select(file, _rows(file, kind, content), columns)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{file} cannot be read: {error}", hint="check that it exists and is whole"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8 text", hint="convert the file to UTF-8") from error
    if not texts:
        raise DataError(f"{file} holds no text", hint="give a file with at least one text")
    step = max(1.0, len(texts) / limit)
    return [texts[int(i * step)] for i in range(min(limit, len(texts)))]


def calibration_batches(
    texts: Iterable[Text],
    tokenizer: Any,
    batch_size: int = 8,
    max_length: int = 128,
    limit: int = 256,
) -> List[Dict[str, torch.Tensor]]:
    """Tokenized batches; texts of similar length share one, so there is little padding.

    Args:
        texts: texts or pairs of texts; the first ``limit`` are used.
        tokenizer: a transformers tokenizer.
        batch_size: texts in a batch.
        max_length: longer texts are cut to this many tokens.
        limit: at most this many texts.

    Returns:
        What the tokenizer makes of each batch: int64 ``[batch, tokens]`` tensors by input name, padded.

    Raises:
        DataError: there is no text.
    """
    chosen = [text for text, _ in zip(texts, range(limit))]
    if not chosen:
        raise DataError("there is no text to calibrate with", hint="give at least one text")
    chosen.sort(key=lambda text: len(text) if isinstance(text, str) else len(text[0]) + len(text[1]))
    batches = []
    for start in range(0, len(chosen), batch_size):
        part = chosen[start : start + batch_size]
        first = [text if isinstance(text, str) else text[0] for text in part]
        second = None if isinstance(part[0], str) else [text[1] for text in part]
        encoded = tokenizer(
            first, second, truncation=True, max_length=max_length, padding=True, return_tensors="pt"
        )
        batches.append(dict(encoded))
    return batches


def _read(file: Path) -> str:
    if file.suffix != ".gz":
        return file.read_text("utf-8")
    with gzip.open(file, "rt", encoding="utf-8") as content:
        return content.read()


def _rows(file: Path, kind: str, content: str) -> List[Dict[str, Any]]:
    if kind == ".jsonl":
        rows = []
        for number, line in enumerate(content.splitlines(), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise DataError(f"{file}, line {number}: not JSON: {error}", hint="fix that line") from error
            rows.append(row if isinstance(row, dict) else {"text": row})
        return rows
    if kind == ".csv":
        return list(csv.DictReader(io.StringIO(content, newline="")))
    if kind == ".tsv":
        # GLUE's TSV files do not quote: a lone quotation mark is text.
        lines = io.StringIO(content, newline="")
        return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    raise DataError(
        f"{file} has the ending {kind!r}; expected .txt, .jsonl, .tsv or .csv",
        hint="rename the file, or convert it",
    )


def _select(file: Path, rows: List[Dict[str, Any]], columns: Optional[Sequence[str]]) -> List[Text]:
    if not rows:
        return []
    found = list(rows[0])
    if columns is None:
        columns = next((known for known in _KNOWN_COLUMNS if set(known) <= set(found)), None)
        if columns is None:
            raise DataError(
                f"{file}: none of the columns {found} is known to hold text",
                hint="name the column of the text",
            )
    if not 1 <= len(columns) <= 2 or not set(columns) <= set(found):
        raise DataError(
            f"{file} has the columns {found}; expected {list(columns)}", hint="name one or two of its columns"
        )
    texts: List[Text] = []
    for number, row in enumerate(rows, 1):
        values = [row.get(column) for column in columns]
        if not all(isinstance(value, str) for value in values):
            raise DataError(f"{file}, row {number}: {list(columns)} are not all text", hint="fix that row")
        texts.append(values[0] if len(values) == 1 else (values[0], values[1]))  # type: ignore[arg-type]
    return texts
