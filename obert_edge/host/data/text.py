"""Text classification on a user's own CSV, TSV or JSON Lines."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

from obert_edge.errors import DataError
from obert_edge.host.data.classification import (
    Columns,
    SequenceClassification,
    discover_labels,
    hold_out,
    to_examples,
)
from obert_edge.host.data.tables import HUB, TABLE_SUFFIXES, Row, find_splits, hub_rows, read_rows

#: Share of a single file's rows that becomes split ``dev``.
_DEV_SHARE = 0.1
#: Our split -> what the Hub's sets call it.
_HUB_SPLITS = {"train": "train", "dev": "validation", "test": "test"}


def load_text(
    source: str,
    *,
    text_columns: Tuple[str, ...] = ("text",),
    label_column: str = "label",
    labels: Optional[Sequence[str]] = None,
    tune: int = 0,
) -> SequenceClassification:
    """A classification task from a user's files.

    Args:
        source: a folder with ``train``, ``dev`` and ``test`` files; one file, of which a random
            tenth becomes ``dev``; or ``hub:owner/set[:configuration]``.
        text_columns: one column, or two for pairs.
        label_column: the column of the label. A test split may lack it.
        labels: class names by id; default: those found in train, sorted.
        tune: rows of train held out as split ``tune``.

    Raises:
        DataError: a file or column is missing, a label is unknown, or there are fewer than two.
    """
    tables: Dict[str, Tuple[object, List[Row]]] = {}
    if source.startswith(HUB):
        tables = _hub_tables(source[len(HUB) :])
    elif Path(source).is_file():
        tables = {"train": (Path(source), list(read_rows(Path(source))))}
    else:
        files = find_splits(Path(source), TABLE_SUFFIXES)
        tables = {split: (path, list(read_rows(path))) for split, path in files.items()}
    first = "train" if "train" in tables else next(iter(tables))
    names = (
        list(labels)
        if labels is not None
        else discover_labels(tables[first][1], tables[first][0], label_column)
    )
    columns = Columns(text_columns, label_column)
    splits = {
        split: to_examples(
            rows, where, columns, names, labeled=split != "test" or _labeled(rows, label_column)
        )
        for split, (where, rows) in tables.items()
    }
    if list(splits) == ["train"]:
        count = max(1, round(_DEV_SHARE * len(splits["train"])))
        splits = hold_out(splits, source="train", target="dev", count=count)
    if tune:
        splits = hold_out(splits, source="train", target="tune", count=tune, seed=1)
    return SequenceClassification("text", splits, names, ("accuracy", "macro_f1"))


def _labeled(rows: Sequence[Row], label_column: str) -> bool:
    return all(row.get(label_column) not in (None, "", "-1", -1) for _, row in rows)


def _hub_tables(name: str) -> Dict[str, Tuple[object, List[Row]]]:
    tables: Dict[str, Tuple[object, List[Row]]] = {}
    for split, hub_split in _HUB_SPLITS.items():
        try:
            tables[split] = (f"{name} {hub_split}", list(hub_rows(name, hub_split)))
        except DataError:
            if split == "train":
                raise  # the others are optional
    return tables
