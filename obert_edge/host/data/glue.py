"""The GLUE tasks: column maps of the original TSV files and of the Hub's copy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple

from obert_edge.errors import DataError
from obert_edge.host.data.classification import (
    Columns,
    Example,
    SequenceClassification,
    texts_of,
    to_examples,
)
from obert_edge.host.data.held_out import with_tune
from obert_edge.host.data.label_columns import REGRESSION, SINGLE_LABEL, LabelColumn, aliases_by_id
from obert_edge.host.data.tables import Row, find_splits, hub_rows, read_rows

_ENTAILMENT = ("entailment", "not_entailment")
_BINARY = ("0", "1")


@dataclass(frozen=True)
class Definition:
    """One GLUE task.

    Args:
        columns: in the TSV files.
        labels: class names by id, in the order GLUE's own models use.
        metrics: keys of ``classification.METRICS``, deciding one first.
        hub: columns of ``nyu-mll/glue`` where they differ (labels are ids there).
        header: column names where train and dev have no header line.
        aliases: other spellings of labels.
    """

    columns: Columns
    labels: Tuple[str, ...]
    metrics: Tuple[str, ...]
    hub: Tuple[str, ...] = ("sentence1", "sentence2")
    header: Optional[Tuple[str, ...]] = None
    aliases: Optional[Mapping[str, str]] = None

    @property
    def problem_type(self) -> str:
        """What its labels are: one class alone is a number."""
        return REGRESSION if len(self.labels) == 1 else SINGLE_LABEL

    def label_column(self, name: str, aliases: Mapping[str, str]) -> LabelColumn:
        """How labels are read."""
        return LabelColumn(name, self.problem_type, self.labels, aliases, hint="correct the label")


DEFINITIONS: Dict[str, Definition] = {
    "sst2": Definition(
        Columns(("sentence",), "label"),
        ("negative", "positive"),
        ("accuracy",),
        hub=("sentence",),
        aliases={"0": "negative", "1": "positive"},
    ),
    "cola": Definition(
        Columns(("sentence",), "label"),
        ("unacceptable", "acceptable"),
        ("matthews", "accuracy"),
        hub=("sentence",),
        header=("source", "label", "mark", "sentence"),
        aliases={"0": "unacceptable", "1": "acceptable"},
    ),
    "mrpc": Definition(
        Columns(("#1 String", "#2 String"), "Quality"),
        ("not_equivalent", "equivalent"),
        ("f1", "accuracy"),
        aliases={"0": "not_equivalent", "1": "equivalent"},
    ),
    "rte": Definition(Columns(("sentence1", "sentence2"), "label"), _ENTAILMENT, ("accuracy",)),
    "qnli": Definition(
        Columns(("question", "sentence"), "label"), _ENTAILMENT, ("accuracy",), hub=("question", "sentence")
    ),
    "mnli": Definition(
        Columns(("sentence1", "sentence2"), "gold_label"),
        ("entailment", "neutral", "contradiction"),
        ("accuracy",),
        hub=("premise", "hypothesis"),
    ),
    "qqp": Definition(
        Columns(("question1", "question2"), "is_duplicate"),
        ("not_duplicate", "duplicate"),
        ("f1", "accuracy"),
        hub=("question1", "question2"),
        aliases={"0": "not_duplicate", "1": "duplicate"},
    ),
    "stsb": Definition(
        Columns(("sentence1", "sentence2"), "score"), ("similarity",), ("spearman", "pearson")
    ),
}


def load_glue(name: str, data: Path, *, tune: int = 0) -> SequenceClassification:
    """A GLUE task from a folder of the original TSV files (``.tsv`` or ``.tsv.gz``).

    Args:
        name: a key of :data:`DEFINITIONS`.
        data: the folder.
        tune: rows of train to hold out as split ``tune``, for choices that must not see dev.

    Raises:
        DataError: a file, a column or a label is not as it must be.
    """
    definition = DEFINITIONS[name]
    if data.is_file():
        raise DataError(
            f"{data} is a file; task {name} reads a folder with train.tsv and dev.tsv, as GLUE has them",
            hint="name that folder with --data; for a table of your own use --task text",
        )
    splits: Dict[str, List[Example]] = {}
    for split, path in find_splits(data, (".tsv", ".tsv.gz")).items():
        test = split == "test"
        columns = definition.columns
        if test and definition.header is not None:
            rows = read_rows(path)
        else:
            rows = read_rows(path, definition.header)
        needed = (*columns.texts, *(() if test else (columns.label,)))
        labels = None if test else definition.label_column(columns.label, definition.aliases or {})
        splits[split] = to_examples(_checked(name, rows, path, needed), path, columns, labels)
    splits = with_tune(splits, texts_of, tune, seed=0)
    return SequenceClassification(name, splits, definition.labels, definition.metrics)


def load_hub_glue(name: str, *, tune: int = 0) -> SequenceClassification:
    """A GLUE task from the Hub's ``nyu-mll/glue`` (needs `datasets` and a network)."""
    definition = DEFINITIONS[name]
    columns = Columns(definition.hub, "label")
    labels = definition.label_column("label", aliases_by_id(definition.labels))
    names = {"train": "train", "dev": "validation"}
    if name == "mnli":
        names = {"train": "train", "dev": "validation_matched", "dev_mismatched": "validation_mismatched"}
    splits = {
        split: to_examples(
            hub_rows(f"nyu-mll/glue:{name}", hub_split),
            f"nyu-mll/glue:{name} {hub_split}",
            columns,
            labels,
        )
        for split, hub_split in names.items()
    }
    splits = with_tune(splits, texts_of, tune, seed=0)
    return SequenceClassification(name, splits, definition.labels, definition.metrics)


def _checked(name: str, rows: Iterable[Row], where: Path, needed: Sequence[str]) -> Iterator[Row]:
    """The rows, if they have GLUE's columns."""
    for number, values in rows:
        lost = [column for column in needed if column not in values]
        if lost:
            raise DataError(
                f"{where}, line {number}: there is no column {lost[0]!r}; there are "
                f"{', '.join(map(str, values))}",
                hint=f"task {name} has the columns of GLUE's own files; a table of other columns is a task "
                "text, which names them with --text-column and --label-column",
            )
        yield number, values
