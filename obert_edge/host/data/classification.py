"""Sequence classification and regression: GLUE, and any user's table of texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

import numpy as np
from tokenizers import Tokenizer

from obert_edge.errors import DataError, UsageError
from obert_edge.host.data import metrics
from obert_edge.host.data.base import SEQUENCE_CLASSIFICATION, Answer, Feature, Task, truncate
from obert_edge.host.data.tables import Row, column, text_of

#: Texts tokenized at once: bounds the memory of encodings, keeps all cores busy.
_CHUNK = 4096

#: A score, in percent, of predictions [examples] against labels [examples].
Metric = Callable[[Any, Any], float]
METRICS: Dict[str, Metric] = {
    "accuracy": metrics.accuracy,
    "f1": metrics.f1,
    "macro_f1": metrics.macro_f1,
    "matthews": metrics.matthews,
    "pearson": metrics.pearson,
    "spearman": metrics.spearman,
}


@dataclass(frozen=True)
class Columns:
    """Where texts and label are in a row.

    Args:
        texts: one column, or two for sentence pairs.
        label: the column of the label; rows of a test split may lack it.
    """

    texts: Tuple[str, ...]
    label: str


@dataclass(frozen=True)
class Example:
    """One text or pair; ``label`` is a class id, a number (regression) or absent."""

    id: str
    texts: Tuple[str, ...]
    label: Optional[float]


class SequenceClassification(Task):
    """Texts (or pairs) with one label each.

    Args:
        name: what the user called the task.
        splits: examples by split name.
        labels: class names by id; exactly one name means regression.
        metric_names: keys of :data:`METRICS`; the first decides.
    """

    head = SEQUENCE_CLASSIFICATION

    def __init__(
        self,
        name: str,
        splits: Mapping[str, Sequence[Example]],
        labels: Sequence[str],
        metric_names: Sequence[str] = ("accuracy",),
    ) -> None:
        self.name = name
        self.labels = tuple(labels)
        self.metric = metric_names[0]
        self._metric_names = tuple(metric_names)
        self._splits = dict(splits)

    @property
    def splits(self) -> Tuple[str, ...]:
        """The splits there is data for."""
        return tuple(self._splits)

    @property
    def regression(self) -> bool:
        """Whether the label is a number."""
        return len(self.labels) == 1

    def examples(self, split: str) -> Sequence[Example]:
        """The examples of a split."""
        self.require(split)
        return self._splits[split]

    def features(
        self,
        split: str,
        tokenizer: Tokenizer,
        *,
        max_length: Optional[int] = None,
        limit: Optional[int] = None,
    ) -> List[Feature]:
        """One feature per example; see :meth:`Task.features`."""
        examples = self.examples(split)[:limit]
        truncate(tokenizer, max_length or self.default_length)
        features: List[Feature] = []
        for start in range(0, len(examples), _CHUNK):
            chunk = examples[start : start + _CHUNK]
            texts = [e.texts[0] if len(e.texts) == 1 else e.texts for e in chunk]
            for example, encoding in zip(chunk, tokenizer.encode_batch(texts)):
                feature: Feature = {"input_ids": encoding.ids, "token_type_ids": encoding.type_ids}
                if example.label is not None:
                    feature["labels"] = example.label if self.regression else int(example.label)
                feature["_id"] = example.id
                features.append(feature)
        return features

    def score(self, split: str, features: Sequence[Feature], answers: Sequence[Answer]) -> Dict[str, float]:
        """The task's metrics; see :meth:`Task.score`."""
        if any("labels" not in feature for feature in features):
            raise DataError(
                f"split {split!r} of task {self.name!r} has rows without a label",
                hint="evaluate a split with labels, such as dev",
            )
        labels = np.array([feature["labels"] for feature in features])
        predicted = self._predict(answers)
        return {name: METRICS[name](predicted, labels) for name in self._metric_names}

    def predictions(
        self, split: str, features: Sequence[Feature], answers: Sequence[Answer]
    ) -> List[Tuple[str, Any]]:
        """(id, label name) per example, or (id, number) for regression."""
        values = self._predict(answers)
        ids = [feature["_id"] for feature in features]
        if self.regression:
            return [(key, float(value)) for key, value in zip(ids, values)]
        return [(key, self.labels[int(value)]) for key, value in zip(ids, values)]

    def model_options(self) -> Dict[str, Any]:
        """Options of the head, with the problem type."""
        kind = "regression" if self.regression else "single_label_classification"
        return {**super().model_options(), "problem_type": kind}

    def _predict(self, answers: Sequence[Answer]) -> np.ndarray[Any, np.dtype[Any]]:
        logits = np.stack([np.asarray(answer["logits"]).reshape(-1) for answer in answers])
        return logits[:, 0] if self.regression else logits.argmax(axis=1)


def to_examples(
    rows: Iterable[Row],
    where: object,
    columns: Columns,
    labels: Sequence[str],
    *,
    aliases: Optional[Mapping[str, str]] = None,
    labeled: bool = True,
) -> List[Example]:
    """Turn table rows into examples.

    Args:
        rows: rows with their line numbers.
        where: the file or set they came from, for messages.
        columns: which columns hold texts and label.
        labels: class names by id; one name means regression.
        aliases: other spellings of labels ("0" for "negative").
        labeled: whether to read labels; ``False`` for test splits.

    Raises:
        DataError: a column is missing or a label unknown; names the line.
    """
    ids = {label: index for index, label in enumerate(labels)}
    for alias, name in (aliases or {}).items():
        ids.setdefault(alias, ids[name])
    examples: List[Example] = []
    for row in rows:
        texts = tuple(text_of(row, name, where) for name in columns.texts)
        label = _label(row, where, columns.label, labels, ids) if labeled else None
        examples.append(Example(str(row[0]), texts, label))
    if not examples:
        raise DataError(f"{where} holds no rows", hint="add examples to the file")
    return examples


def discover_labels(rows: Iterable[Row], where: object, label_column: str) -> List[str]:
    """The distinct labels of a table: numeric order when all are whole numbers, else sorted.

    Raises:
        DataError: the column is missing, or there are fewer than two labels or more than 1000.
    """
    found = {_spelling(column(row, label_column, where)) for row in rows}
    if not 2 <= len(found) <= 1000:
        raise DataError(
            f"{where}: column {label_column!r} holds {len(found)} distinct labels; 2 to 1000 make a task",
            hint="name the column of the class with --label-column",
        )
    if all(label.lstrip("-").isdigit() for label in found):
        return sorted(found, key=int)
    return sorted(found)


def _label(row: Row, where: object, name: str, labels: Sequence[str], ids: Mapping[str, int]) -> float:
    number = row[0]
    value = column(row, name, where)
    if len(labels) == 1:
        try:
            return float(value)
        except (TypeError, ValueError) as error:
            raise DataError(
                f"{where}, line {number}: {value!r} in column {name!r} is not a number",
                hint="a regression task needs a number in every row",
            ) from error
    spelled = _spelling(value)
    if spelled not in ids:
        raise DataError(
            f"{where}, line {number}: unknown label {spelled!r}; known are {', '.join(labels)}",
            hint="correct the label, or add rows with it to the train split",
        )
    return float(ids[spelled])


def _spelling(value: Any) -> str:
    return str(value).strip()


def hold_out(
    splits: Dict[str, List[Example]], *, source: str, target: str, count: int, seed: int = 0
) -> Dict[str, List[Example]]:
    """Move ``count`` random examples of split ``source`` to a new split ``target``.

    Texts that occur more than once stay together, so none leaks.

    Raises:
        UsageError: there are not enough examples.
    """
    examples = splits[source]
    if not 0 < count < len(examples):
        raise UsageError(
            f"{count} rows cannot be held out of the {len(examples)} rows of split {source!r}",
            hint="hold out fewer rows",
        )
    order = np.random.default_rng(seed).permutation(len(examples))
    chosen = {examples[int(i)].texts for i in order[:count]}
    held = [e for e in examples if e.texts in chosen]
    kept = [e for e in examples if e.texts not in chosen]
    if not kept:
        raise UsageError(
            f"every text of split {source!r} is the same; none can be held out", hint="check the text column"
        )
    return {**splits, source: kept, target: held}
