"""Text classification and regression on a user's own CSV, TSV or JSON Lines."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

from obert_edge.errors import DataError, UsageError
from obert_edge.host.data.classification import Columns, SequenceClassification, texts_of, to_examples
from obert_edge.host.data.held_out import with_dev, with_tune
from obert_edge.host.data.label_columns import (
    MULTI_LABEL,
    REGRESSION,
    SINGLE_LABEL,
    Cell,
    LabelColumn,
    as_list,
    decide,
    describe,
    discover,
)
from obert_edge.host.data.tables import HUB, TABLE_SUFFIXES, Row, find_splits, hub_rows, read_rows

#: Our split -> what the Hub's sets call it.
_HUB_SPLITS = {"train": "train", "dev": "validation", "test": "test"}


def load_text(
    source: str,
    *,
    text_columns: Tuple[str, ...] = ("text",),
    label_column: str = "label",
    labels: Optional[Sequence[str]] = None,
    problem_type: Optional[str] = None,
    label_separator: str = "",
    tune: int = 0,
) -> SequenceClassification:
    """A classification or regression task from a user's files.

    Args:
        source: a folder with ``train``, ``dev`` and ``test`` files; one file, of which a random
            tenth becomes ``dev``; or ``hub:owner/set[:configuration]``.
        text_columns: one column, or two for pairs.
        label_column: the column of the label. A test split may lack it.
        labels: class names by id; default: those found in train, sorted.
        problem_type: ``single_label``, ``multi_label`` or ``regression``; default: what the column holds, see
            :func:`label_columns.decide`.
        label_separator: what is between the classes of a cell; empty: several classes are a list.
        tune: rows of train held out as split ``tune``.

    Raises:
        DataError: a file or column is missing, a label is unknown, or there are fewer than two.
        UsageError: ``label_separator`` and ``problem_type`` do not go together.
    """
    if label_separator and problem_type not in (None, MULTI_LABEL):
        raise UsageError(
            f"--label-separator is for several labels in a cell, and --problem-type is {problem_type}",
            hint=f"leave one of them out, or use --problem-type {MULTI_LABEL}",
        )
    tables = _tables(source)
    several = bool(label_separator) or problem_type == MULTI_LABEL
    labeled = [s for s in tables if s != "test" or _labeled(tables[s][1], label_column, several)]
    labeled = labeled or list(tables)  # refused below, with the line that lacks its label
    reader = LabelColumn(label_column, SINGLE_LABEL)
    cells: Dict[str, List[Cell]] = {
        split: [reader.cell(row, tables[split][0]) for row in tables[split][1]] for split in labeled
    }
    every = [cell for split in labeled for cell in cells[split]]
    reader = decide(label_column, every, problem_type, label_separator)
    first = "train" if "train" in tables else labeled[0]
    reader = _with_labels(reader, labels, cells[first], tables[first][0], trained=first == "train")
    columns = Columns(text_columns, label_column)
    splits = {
        split: to_examples(rows, where, columns, reader if split in labeled else None)
        for split, (where, rows) in tables.items()
    }
    splits = with_tune(with_dev(splits, texts_of), texts_of, tune)
    return SequenceClassification(
        "text", splits, reader.labels, problem_type=reader.problem_type, about=describe(reader, every)
    )


def _tables(source: str) -> Dict[str, Tuple[object, List[Row]]]:
    """The rows of every split, and where they came from."""
    if source.startswith(HUB):
        return _hub_tables(source[len(HUB) :])
    if Path(source).is_file():
        return {"train": (Path(source), list(read_rows(Path(source))))}
    files = find_splits(Path(source), TABLE_SUFFIXES)
    return {split: (path, list(read_rows(path))) for split, path in files.items()}


def _with_labels(
    reader: LabelColumn, labels: Optional[Sequence[str]], cells: List[Cell], where: object, *, trained: bool
) -> LabelColumn:
    """The column with its class names: those the user gives, or those of the first split."""
    if reader.problem_type == REGRESSION:
        names = list(labels) if labels is not None else [reader.name]
        if len(names) != 1:
            raise UsageError(
                f"--label names {len(names)} classes, and column {reader.name!r} holds numbers",
                hint="leave --label out, or make a class of every number with --problem-type single_label",
            )
    elif labels is not None:
        names = list(labels)
        if len(set(names)) < len(names):
            raise UsageError(f"--label names a class twice: {', '.join(names)}", hint="name each class once")
        if reader.marks and len(names) != reader.marks:
            raise UsageError(
                f"--label names {len(names)} classes, and column {reader.name!r} has marks for "
                f"{reader.marks}",
                hint="name every class, in the order of the marks",
            )
    else:
        # A split to be scored need not have every class of the model.
        least = 2 if trained and reader.problem_type == SINGLE_LABEL else 1
        names = discover(reader, cells, where, least=least)
    return dataclasses.replace(reader, labels=tuple(names))


def _labeled(rows: Sequence[Row], label_column: str, several: bool) -> bool:
    """Whether a test split has labels, which it may lack; with several labels an empty cell is one, too."""
    values = [row.get(label_column) for _, row in rows]
    if any(value in (None, "-1", -1) for value in values):
        return False
    several = several or any(as_list(value) is not None for value in values)
    return any(value != "" for value in values) if several else "" not in values


def _hub_tables(name: str) -> Dict[str, Tuple[object, List[Row]]]:
    tables: Dict[str, Tuple[object, List[Row]]] = {}
    for split, hub_split in _HUB_SPLITS.items():
        try:
            tables[split] = (f"{name} {hub_split}", list(hub_rows(name, hub_split)))
        except DataError:
            if split == "train":
                raise  # the others are optional
    return tables
