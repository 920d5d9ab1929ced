"""Texts without labels, for stages that look at nothing but what flows through a model."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

from obert_edge.errors import DataError
from obert_edge.host.data.classification import Columns, Example, SequenceClassification, to_examples
from obert_edge.host.data.tables import HUB, TABLE_SUFFIXES, find_splits, open_text, read_rows

_TEXT_SUFFIXES = (".txt", ".txt.gz")


def load_plain_texts(
    source: str, text_columns: Tuple[str, ...], label_column: str
) -> Optional[SequenceClassification]:
    """A task whose rows have no labels: it can be run, and neither trained nor scored.

    Args:
        source: a folder with ``train`` and further files, or one file, which becomes ``train``: tables
            without the column of the label, or ``.txt`` (a text per line).
        text_columns: one column, or two for pairs.
        label_column: the column that no row has.

    Returns:
        The task; ``None`` where the rows have labels.

    Raises:
        DataError: a file or a column of the text is missing, or a file holds no text.
    """
    if source.startswith(HUB):
        return None
    path = Path(source)
    suffixes = (*TABLE_SUFFIXES, *_TEXT_SUFFIXES)
    files = {"train": path} if path.is_file() else find_splits(path, suffixes)
    splits: Dict[str, List[Example]] = {}
    for split, file in files.items():
        if file.name.endswith(_TEXT_SUFFIXES):
            splits[split] = _lines(file)
            continue
        rows = list(read_rows(file))
        if any(label_column in row for _, row in rows):
            return None
        splits[split] = to_examples(rows, file, Columns(text_columns, label_column), None)
    return SequenceClassification("text", splits, (), about="texts without labels")


def _lines(file: Path) -> List[Example]:

    with open_text(file) as stream:
        lines: Sequence[str] = [line.strip() for line in stream]
    found = [Example(str(number), (line,), None) for number, line in enumerate(lines, start=1) if line]
    if not found:
        raise DataError(f"{file} holds no text", hint="write one text per line")
    return found
