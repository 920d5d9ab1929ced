"""What a task is: examples, features for a model, and scores of its answers.

A task knows neither torch nor transformers: features are lists of ints and answers are numpy arrays, so the
same task scores a PyTorch model on the host and a bundle on the device.
"""

from __future__ import annotations

import abc
import copy
import hashlib
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from obert_edge.errors import UsageError
from obert_edge.host.data.labels import counted, listed

#: One row of a batch by name: model inputs (lists of ints, one per token) and labels. Keys that start with
#: "_" are the task's own and are not given to the model.
Feature = Dict[str, Any]
#: What a model answers for one feature: float32 arrays by output name, without the batch axis and padding.
Answer = Mapping[str, NDArray[np.float32]]

#: A text, or a pair of them.
Text = Union[str, Tuple[str, str]]

SEQUENCE_CLASSIFICATION = "sequence-classification"
QUESTION_ANSWERING = "question-answering"
TOKEN_CLASSIFICATION = "token-classification"
MASKED_LM = "masked-lm"
#: No head: the encoder itself, with what makes one vector of a text. Bundles call it so, too.
ENCODER = "encoder"

#: The label of a token that is neither trained nor scored; torch's cross entropy passes over it.
IGNORED = -100


class Task(abc.ABC):
    """One data set with its splits, its labels and its metrics.

    Attributes:
        name: what the user called it.
        head: the model head it needs, one of the module's constants.
        metric: the name of the metric a model is chosen by; higher is better.
        labels: class names by id; one name for regression, none for spans.
        label_map: what the user says of a model's class names; see :func:`labels.match_labels`.
        problem_type: what a label is: ``single_label``, ``multi_label``, ``regression``; empty: not a text's.
        default_length: tokens a feature is cut to unless told otherwise.
    """

    name: str
    head: str
    metric: str
    labels: Tuple[str, ...] = ()
    label_map: Tuple[str, ...] = ()
    problem_type: str = ""
    default_length: int = 128
    _classes: Optional[Tuple[str, ...]] = None

    @property
    def fitted(self) -> bool:
        """Whether :meth:`for_head` made this task."""
        return self._classes is not None

    @property
    def classes(self) -> Tuple[str, ...]:
        """What each row of the model's head stands for: a label, or a class that the data do not have.

        The ``labels`` of features count these, and answers are read by them. They are :attr:`labels` until
        :meth:`for_head` says otherwise.
        """
        return self.labels if self._classes is None else self._classes

    def for_head(self, classes: Sequence[str]) -> Task:
        """The same task for a model whose rows have another order, or more classes.

        Args:
            classes: for each row of the head a label of the task, or any other name.
        """
        fitted = copy.copy(self)
        fitted._classes = tuple(classes)
        return fitted

    def describe(self) -> str:
        """The task in one line: its name, and what its labels are."""
        what = f"{counted(self.labels)} ({listed(self.labels)})" if self.labels else self.head
        return f"{self.name}: {what}"

    @property
    @abc.abstractmethod
    def splits(self) -> Tuple[str, ...]:
        """The splits there is data for."""

    @abc.abstractmethod
    def rows(self, split: str) -> Sequence[object]:
        """The rows of a split as they were read, before they are tokenized: plain values, or dataclasses."""

    def texts(self, split: str, *, limit: int) -> List[Text]:
        """What the rows of a split give a model to read: texts, or pairs of them, without their labels.

        Args:
            split: one of :attr:`splits`.
            limit: at most so many, evenly spread over the rows.

        Raises:
            UsageError: there is no such split.
        """
        texts = [text for row in self.rows(split) for text in self.texts_of(row)]
        step = max(1.0, len(texts) / limit)
        return [texts[int(i * step)] for i in range(min(limit, len(texts)))]

    def texts_of(self, row: Any) -> Sequence[Text]:
        """What a row gives a model to read: rows of most tasks have ``texts``, one or a pair."""
        return [row.texts[0] if len(row.texts) == 1 else (row.texts[0], row.texts[1])]

    def identity(self) -> List[Any]:
        """Plain values that are the same for the same rows to train on, read in the same way.

        All rows count, and not the files: where those lie does not matter, a data set of a hub has none, and
        columns, classes and rows that are held out decide what is read of them.
        """
        meaning = [] if self.classes == self.labels else list(self.classes)
        digest = hashlib.sha256()
        if "train" in self.splits:
            for row in self.rows("train"):
                # A representation has half characters escaped, and no line end: one row is not two.
                digest.update(repr(row).encode() + b"\n")
        return [self.name, list(self.labels), meaning, self.problem_type, digest.hexdigest()]

    @abc.abstractmethod
    def features(
        self,
        split: str,
        tokenizer: Tokenizer,
        *,
        max_length: Optional[int] = None,
        limit: Optional[int] = None,
    ) -> List[Feature]:
        """Tokenized rows of a split, in the order of the data.

        Args:
            split: one of :attr:`splits`.
            tokenizer: the model's tokenizer.
            max_length: tokens per feature, special tokens included.
            limit: only the first ``limit`` examples.

        Raises:
            DataError: a row cannot be used; the message names its line.
            UsageError: there is no such split.
        """

    @abc.abstractmethod
    def score(self, split: str, features: Sequence[Feature], answers: Sequence[Answer]) -> Dict[str, float]:
        """The metrics of a model's answers by name; percentages unless a task says otherwise.

        Args:
            split: the split that the features are of.
            features: as :meth:`features` returned them.
            answers: one for each feature, in the same order.

        Raises:
            DataError: the rows have no labels to compare with.
        """

    @abc.abstractmethod
    def predictions(
        self, split: str, features: Sequence[Feature], answers: Sequence[Answer]
    ) -> List[Tuple[str, Any]]:
        """Per example its id, and its answer in the task's terms: a label, a number, a span, labels of words.

        Args:
            split: the split that the features are of.
            features: as :meth:`features` returned them.
            answers: one for each feature, in the same order.
        """

    def augment(self, feature: Feature, seed: int) -> Feature:
        """A training feature as the model is to see it this time.

        Args:
            feature: one of :meth:`features`.
            seed: differs by row and epoch; the same seed gives the same result.
        """
        return feature

    def condense(self, feature: Feature, answer: Answer) -> Answer:
        """The part of an answer that :meth:`score` needs, where all of it would take too much memory."""
        return answer

    def model_options(self) -> Dict[str, Any]:
        """Options for transformers' ``from_pretrained`` that shape a new head."""
        if not self.labels:
            return {}
        return {
            "num_labels": len(self.labels),
            "id2label": dict(enumerate(self.labels)),
            "label2id": {label: index for index, label in enumerate(self.labels)},
        }

    @property
    def labeled(self) -> bool:
        """Whether the rows have anything to train on and to compare answers with."""
        return bool(self.labels) or self.head in (QUESTION_ANSWERING, MASKED_LM)

    def scores(self, split: str) -> bool:
        """Whether :meth:`score` finds :attr:`metric` for a split."""
        return True

    def require(self, split: str) -> None:
        """Raise :class:`UsageError` unless ``split`` exists."""
        if split not in self.splits:
            raise UsageError(
                f"task {self.name!r} has no split {split!r} here; it has {', '.join(self.splits)}",
                hint="rows of train become split tune with --tune N (in a recipe `tune: N` below task): give "
                "the number that the model was made with, so that none of them was trained on"
                if split == "tune"
                else "name one of these splits, or add the file to the data folder",
            )


def truncate(
    tokenizer: Tokenizer, max_length: int, *, stride: int = 0, strategy: str = "longest_first"
) -> None:
    """Set a tokenizer to cut at ``max_length`` tokens, special tokens included, and never to pad.

    One that cut the beginning of texts before still does.

    Args:
        tokenizer: changed in place.
        max_length: tokens.
        stride: tokens that a window of a long text shares with the next.
        strategy: which of two texts is cut, as the `tokenizers` library calls it.
    """
    tokenizer.no_padding()
    side = (tokenizer.truncation or {}).get("direction", "right")
    tokenizer.enable_truncation(max_length, stride=stride, strategy=strategy, direction=side)
