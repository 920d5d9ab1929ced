"""Sequence classification, of one label or several, and regression: GLUE, and any user's table of texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

import numpy as np
from tokenizers import Tokenizer

from obert_edge.errors import DataError
from obert_edge.host.data import metrics
from obert_edge.host.data.base import SEQUENCE_CLASSIFICATION, Answer, Feature, Task, truncate
from obert_edge.host.data.label_columns import MULTI_LABEL, REGRESSION, SINGLE_LABEL, Label, LabelColumn
from obert_edge.host.data.labels import listed
from obert_edge.host.data.tables import Row, text_of

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
#: The same of sets of classes, bool [examples, classes].
METRICS_OF_SETS: Dict[str, Metric] = {
    "micro_f1": metrics.micro_f1_of_sets,
    "macro_f1": metrics.macro_f1_of_sets,
    "subset_accuracy": metrics.subset_accuracy,
}


#: The metrics of each problem type; the first decides.
METRICS_OF = {
    SINGLE_LABEL: ("accuracy", "macro_f1"),
    MULTI_LABEL: ("micro_f1", "macro_f1", "subset_accuracy"),
    REGRESSION: ("spearman", "pearson"),
}
#: transformers' names of problem types.
_TRANSFORMERS = {
    SINGLE_LABEL: "single_label_classification",
    MULTI_LABEL: "multi_label_classification",
    REGRESSION: "regression",
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
    """One text or pair; ``label`` is a class id, several, a number (regression) or absent."""

    id: str
    texts: Tuple[str, ...]
    label: Optional[Label]


def texts_of(example: Example) -> Tuple[str, ...]:
    """What is the same of two examples that must be in one split."""
    return example.texts


class SequenceClassification(Task):
    """Texts (or pairs) with one label each, with any number of labels, or with a number.

    Args:
        name: what the user called the task.
        splits: examples by split name.
        labels: class names by id; the name of the number for a regression.
        metric_names: keys of :data:`METRICS` (or :data:`METRICS_OF_SETS`), the first decides; default: those
            of the problem type.
        problem_type: ``single_label``, ``multi_label`` or ``regression``; default: one name means regression.
        about: the data in a few words, for :meth:`describe`.
    """

    head = SEQUENCE_CLASSIFICATION

    def __init__(
        self,
        name: str,
        splits: Mapping[str, Sequence[Example]],
        labels: Sequence[str],
        metric_names: Sequence[str] = (),
        *,
        problem_type: Optional[str] = None,
        about: str = "",
    ) -> None:
        self.name = name
        self.labels = tuple(labels)
        self.problem_type = problem_type or (REGRESSION if len(self.labels) == 1 else SINGLE_LABEL)
        self._metric_names = tuple(metric_names) or METRICS_OF[self.problem_type]
        self.metric = self._metric_names[0]
        self._splits = dict(splits)
        self._about = about

    def describe(self) -> str:
        """The task in one line: its name, and what its labels are."""
        about = self._about or (REGRESSION if self.regression else "")
        return f"{self.name}: {about}" if about else super().describe()

    @property
    def splits(self) -> Tuple[str, ...]:
        """The splits there is data for."""
        return tuple(self._splits)

    @property
    def regression(self) -> bool:
        """Whether the label is a number."""
        return self.problem_type == REGRESSION

    def rows(self, split: str) -> Sequence[object]:
        """See :meth:`Task.rows`."""
        return self.examples(split)

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
        rows = {name: row for row, name in enumerate(self.classes)}
        for start in range(0, len(examples), _CHUNK):
            chunk = examples[start : start + _CHUNK]
            texts = [e.texts[0] if len(e.texts) == 1 else e.texts for e in chunk]
            for example, encoding in zip(chunk, tokenizer.encode_batch(texts)):
                feature: Feature = {"input_ids": encoding.ids, "token_type_ids": encoding.type_ids}
                if example.label is not None:
                    feature["labels"] = self._for_model(example.label, rows)
                    feature["_label"] = example.label
                feature["_id"] = example.id
                features.append(feature)
        return features

    def score(self, split: str, features: Sequence[Feature], answers: Sequence[Answer]) -> Dict[str, float]:
        """The task's metrics; see :meth:`Task.score`."""
        if any("_label" not in feature for feature in features):
            raise DataError(
                f"split {split!r} of task {self.name!r} has rows without a label",
                hint="evaluate a split with labels, such as dev",
            )
        given = [feature["_label"] for feature in features]
        predicted = self._predict(answers)
        if self.problem_type == MULTI_LABEL:
            labels = np.zeros(predicted.shape, bool)
            for row, ids in enumerate(given):
                labels[row, list(ids)] = True
            return {name: METRICS_OF_SETS[name](predicted, labels) for name in self._metric_names}
        return {name: METRICS[name](predicted, np.array(given)) for name in self._metric_names}

    def predictions(
        self, split: str, features: Sequence[Feature], answers: Sequence[Answer]
    ) -> List[Tuple[str, Any]]:
        """(id, label name) per example; a list of names with several labels, a number for regression."""
        ids = [feature["_id"] for feature in features]
        values = self._predict(answers)
        if self.regression:
            return [(key, float(value)) for key, value in zip(ids, values)]
        names = self._names
        if self.problem_type == MULTI_LABEL:
            return [(key, [names[int(i)] for i in np.flatnonzero(row)]) for key, row in zip(ids, values)]
        return [(key, names[int(value)]) for key, value in zip(ids, values)]

    def model_options(self) -> Dict[str, Any]:
        """Options of a new head, with the problem type."""
        return {**super().model_options(), "problem_type": _TRANSFORMERS[self.problem_type]}

    @property
    def _names(self) -> Tuple[str, ...]:
        """The labels, and behind them the classes that only the model has."""
        return (*self.labels, *(name for name in self.classes if name not in self.labels))

    def _for_model(self, label: Label, rows: Mapping[str, int]) -> Any:
        """A label as the model is trained on it: its row, 0 or 1 for every row, or the number."""
        if isinstance(label, tuple):
            chosen = {self.labels[i] for i in label}
            # Not a list, which would be padded like one that has a value per token.
            return tuple(float(name in chosen) for name in self.classes)
        return float(label) if self.regression else rows[self.labels[int(label)]]

    def _predict(self, answers: Sequence[Answer]) -> np.ndarray[Any, np.dtype[Any]]:
        """Numbers, ids of :attr:`_names` [examples], or with several labels bool [examples, names]."""
        logits = np.stack([np.asarray(answer["logits"]).reshape(-1) for answer in answers])
        if logits.shape[1] != len(self.classes):
            raise DataError(
                f"the model answers with {logits.shape[1]} classes, task {self.name!r} has "
                f"{len(self.classes)} ({listed(self.classes)})",
                hint="use a model of this task",
            )
        if self.regression:
            return logits[:, 0]
        ids = np.array([self._names.index(name) for name in self.classes])
        if self.problem_type == SINGLE_LABEL:
            chosen: np.ndarray[Any, np.dtype[Any]] = ids[logits.argmax(axis=1)]
            return chosen
        predicted = np.zeros((len(logits), len(self._names)), bool)
        rows, columns = np.nonzero(logits >= 0)  # a probability of a half, as pipelines have it
        predicted[rows, ids[columns]] = True
        return predicted


def to_examples(
    rows: Iterable[Row], where: object, columns: Columns, label_column: Optional[LabelColumn]
) -> List[Example]:
    """Turn table rows into examples.

    Args:
        rows: rows with their line numbers.
        where: the file or set they came from, for messages.
        columns: which columns hold the texts.
        label_column: how labels are read; None: there are none, as in test splits.

    Raises:
        DataError: a column is missing or a label unknown; names the line.
    """
    examples: List[Example] = []
    for row in rows:
        texts = tuple(text_of(row, name, where) for name in columns.texts)
        label = None if label_column is None else label_column.label(label_column.cell(row, where))
        examples.append(Example(str(row[0]), texts, label))
    if not examples:
        raise DataError(f"{where} holds no rows", hint="add examples to the file")
    if not any(text.strip() for example in examples for text in example.texts):
        raise DataError(
            f"{where}: {' and '.join(map(repr, columns.texts))} is empty in every row",
            hint="name the column of the text with --text-column, or write the texts into it",
        )
    return examples
