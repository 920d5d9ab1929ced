"""Token classification on CoNLL or JSON files, scored by whole entities as seqeval scores them.

A word's label is put on its first token; the other tokens, and special ones, are not trained or scored.
Scores are of whole sentences: a word that the model does not see, because the sentence is longer than the
maximum length or the word has no token, counts as predicted to be in no entity.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np
from tokenizers import Encoding, Tokenizer

from obert_edge.device.pipelines.tagging import OUTSIDE, Tagging, spans
from obert_edge.errors import UsageError
from obert_edge.host.data.base import IGNORED, TOKEN_CLASSIFICATION, Answer, Feature, Task, Text, truncate
from obert_edge.host.data.entity_score import STRICT, EntitySpan, scheme_of, score_entities
from obert_edge.host.data.held_out import with_dev, with_tune
from obert_edge.host.data.token_files import Sentence, check_labels, read_files

#: Sentences tokenized at once: bounds the memory of encodings, keeps all cores busy.
_CHUNK = 1024

_log = logging.getLogger(__name__)


class TokenClassification(Task):
    """Words with one label each.

    Args:
        name: what the user called the task.
        splits: sentences by split name.
        labels: class names by id.

    Attributes:
        tagging: how the labels are read as entities.
        scheme: its name, such as ``IOB2``, by the sentences of the first split.

    Raises:
        DataError: a sentence has a label that is not among ``labels``.
    """

    head = TOKEN_CLASSIFICATION
    metric = "f1"

    def __init__(self, name: str, splits: Mapping[str, Sequence[Sentence]], labels: Sequence[str]) -> None:
        self.name = name
        self.labels = tuple(labels)
        self._splits = dict(splits)
        for split, sentences in self._splits.items():
            for sentence in sentences:
                check_labels(f"split {split!r}", sentence, self.labels)
        self.tagging = Tagging.of(self.labels)
        first = next(iter(self._splits.values()), ())
        self.scheme = scheme_of(self.tagging, (sentence.labels for sentence in first))
        if self.scheme == "plain" and self.tagging.outside is None:
            self.metric = "accuracy"  # parts of speech and their kin, which make no entities

    @property
    def splits(self) -> Tuple[str, ...]:
        """The splits there is data for."""
        return tuple(self._splits)

    def for_head(self, classes: Sequence[str]) -> Task:
        """See :meth:`Task.for_head`; tags that the data lack get the spelling of theirs, to be read alike."""
        known = set(self.labels)
        return super().for_head(
            [name if name in known else self.tagging.respelled(name, self.labels) for name in classes]
        )

    def rows(self, split: str) -> Sequence[object]:
        """See :meth:`Task.rows`."""
        return self.sentences(split)

    def sentences(self, split: str) -> Sequence[Sentence]:
        """The sentences of a split."""
        self.require(split)
        return self._splits[split]

    def describe(self) -> str:
        """The task in one line: its labels, and the scheme they are taken for."""
        outside = self.tagging.outside
        said = f"{outside!r} is outside" if outside is not None else "no label is outside, every word counts"
        return f"{super().describe()}, scheme {self.scheme}, {said}"

    def texts_of(self, row: Sentence) -> Sequence[Text]:
        """The words of a sentence, with spaces between them."""
        return [" ".join(row.words)]

    def features(
        self,
        split: str,
        tokenizer: Tokenizer,
        *,
        max_length: Optional[int] = None,
        limit: Optional[int] = None,
    ) -> List[Feature]:
        """One feature per sentence; words that have no token in it are counted and said.

        See :meth:`Task.features`.
        """
        sentences = self.sentences(split)[:limit]
        length = max_length or self.default_length
        truncate(tokenizer, length)
        features: List[Feature] = []
        for start in range(0, len(sentences), _CHUNK):
            chunk = sentences[start : start + _CHUNK]
            encodings = tokenizer.encode_batch([list(s.words) for s in chunk], is_pretokenized=True)
            features.extend(self._feature(sentence, encoding) for sentence, encoding in zip(chunk, encodings))
        self._tell_unseen(split, features, length)
        return features

    def score(self, split: str, features: Sequence[Feature], answers: Sequence[Answer]) -> Dict[str, float]:
        """Entity F1, precision and recall, and word accuracy; see :meth:`Task.score`.

        Also, where the data keep to a scheme with prefixes, ``strict_f1`` and its kin: seqeval's strict mode.
        """
        predicted = [labels for _, labels in self.predictions(split, features, answers)]
        expected = [feature["_labels"] for feature in features]
        scores = score_entities(predicted, expected, self.tagging)
        words = [pair for ours, theirs in zip(predicted, expected) for pair in zip(ours, theirs)]
        scores["accuracy"] = 100.0 * sum(a == b for a, b in words) / len(words) if words else 0.0
        if self.scheme in STRICT:
            strict = score_entities(predicted, expected, self.tagging, STRICT[self.scheme])
            scores.update({f"strict_{name}": value for name, value in strict.items()})
        return scores

    def predictions(
        self, split: str, features: Sequence[Feature], answers: Sequence[Answer]
    ) -> List[Tuple[str, Any]]:
        """Labels of the words; words that the model did not see get the label that is outside."""
        classes = self.classes
        other = self.tagging.outside or OUTSIDE
        result: List[Tuple[str, Any]] = []
        for feature, answer in zip(features, answers):
            labels = [other] * len(feature["_labels"])
            best = np.asarray(answer["logits"]).argmax(axis=-1)
            for word, token in feature["_first"].items():
                labels[word] = classes[int(best[token])]
            result.append((feature["_id"], labels))
        return result

    def _feature(self, sentence: Sentence, encoding: Encoding) -> Feature:
        first: Dict[int, int] = {}
        for token, word in enumerate(encoding.word_ids):
            if word is not None:
                first.setdefault(word, token)
        labels = [IGNORED] * len(encoding.ids)
        rows = {name: row for row, name in enumerate(self.classes)}
        for word, token in first.items():
            labels[token] = rows[sentence.labels[word]]
        # Words behind the last that has a token were cut off, if the sentence was cut at all.
        cut = len(sentence.words) - 1 - max(first, default=-1) if encoding.overflowing else 0
        return {
            "input_ids": encoding.ids,
            "token_type_ids": encoding.type_ids,
            "labels": labels,
            "_id": str(sentence.line),
            "_labels": list(sentence.labels),
            "_first": first,
            "_cut": cut,
        }

    def _tell_unseen(self, split: str, features: Sequence[Feature], length: int) -> None:
        """Say how many words a model does not see, and what they count as."""
        words = sum(len(feature["_labels"]) for feature in features)
        cut = sum(feature["_cut"] for feature in features)
        empty = words - cut - sum(len(feature["_first"]) for feature in features)
        said = []
        if cut:
            said.append(f"{cut} are behind the maximum length of {length} tokens")
        if empty:
            said.append(f"{empty} have no token")
        if said:
            _log.warning(
                "%s, %s: of %d words %s; they are not trained, and count as predicted %r",
                self.name,
                split,
                words,
                " and ".join(said),
                self.tagging.outside or OUTSIDE,
            )


def entities(labels: Sequence[str], tagging: Optional[Tagging] = None) -> Set[EntitySpan]:
    """(kind, first word, last word + 1) of every entity of a sequence of labels.

    Args:
        labels: of the words of a sentence.
        tagging: how they are read; default: what these labels themselves tell.
    """
    read = tagging or Tagging.of(labels)
    return set(spans([read.read(label) for label in labels]))


def load_tokens(
    source: Path, *, labels: Optional[Sequence[str]] = None, tune: int = 0
) -> TokenClassification:
    """A token classification task from a folder of ``train`` and ``dev`` files, or from one file.

    ``.conll``, ``.txt`` and ``.tsv`` hold one word per line, its label in the last column, columns separated
    by tabs or by spaces, an empty line between sentences; ``.jsonl`` and ``.json`` hold ``{"words": [...],
    "labels": [...]}``, or ``tokens`` with ``tags`` or ``ner_tags``. Labels may be numbers where something
    says what they mean: ``labels``, or the ``dataset_info.json`` of `datasets` beside the files.

    Args:
        source: the folder, or a file, of which a random tenth of the sentences becomes ``dev``.
        labels: class names by id; default: those of train, the one outside first, the others sorted.
        tune: sentences of train held out as split ``tune``.

    Raises:
        DataError: a file is missing, a line is not as it must be, or nothing says what numbers mean.
        UsageError: a class is named twice, or there are too few sentences to hold some out.
    """
    if labels is not None and len(set(labels)) < len(labels):
        raise UsageError(f"--label names a class twice: {', '.join(labels)}", hint="name each class once")
    splits = read_files(Path(source), labels)
    first = "train" if "train" in splits else next(iter(splits))
    found = sorted({label for sentence in splits[first] for label in sentence.labels})
    outside = Tagging.of(found).outside
    names = labels if labels is not None else sorted(found, key=lambda label: label != outside)
    if Path(source).is_file():
        splits = with_dev(splits, _words_of)
    splits = with_tune(splits, _words_of, tune)
    return TokenClassification("tokens", splits, names)


def _words_of(sentence: Sentence) -> Tuple[str, ...]:
    return sentence.words
