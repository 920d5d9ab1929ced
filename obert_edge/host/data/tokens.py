"""Token classification on CoNLL or JSON Lines files, scored by entity F1.

A word's label is put on its first token; the other tokens, and special ones, are not trained or
scored. Entities are read from IOB2 (or IOB1, or plain) labels and must match in type and both ends.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np
from tokenizers import Encoding, Tokenizer

from obert_edge.errors import DataError
from obert_edge.host.data.base import IGNORED, TOKEN_CLASSIFICATION, Answer, Feature, Task, truncate
from obert_edge.host.data.tables import find_splits, open_text, read_rows

_SUFFIXES = (".conll", ".txt", ".jsonl", ".conll.gz", ".txt.gz", ".jsonl.gz")
#: Sentences tokenized at once: bounds the memory of encodings, keeps all cores busy.
_CHUNK = 1024


@dataclass(frozen=True)
class Sentence:
    """Words and their labels; ``line`` is where the sentence starts."""

    line: int
    words: Tuple[str, ...]
    labels: Tuple[str, ...]


class TokenClassification(Task):
    """Words with one label each.

    Args:
        name: what the user called the task.
        splits: sentences by split name.
        labels: class names by id.
    """

    head = TOKEN_CLASSIFICATION
    metric = "f1"

    def __init__(self, name: str, splits: Mapping[str, Sequence[Sentence]], labels: Sequence[str]) -> None:
        self.name = name
        self.labels = tuple(labels)
        self._splits = dict(splits)
        self._ids = {label: index for index, label in enumerate(labels)}

    @property
    def splits(self) -> Tuple[str, ...]:
        """The splits there is data for."""
        return tuple(self._splits)

    def sentences(self, split: str) -> Sequence[Sentence]:
        """The sentences of a split."""
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
        """One feature per sentence; see :meth:`Task.features`."""
        sentences = self.sentences(split)[:limit]
        truncate(tokenizer, max_length or self.default_length)
        features: List[Feature] = []
        for start in range(0, len(sentences), _CHUNK):
            chunk = sentences[start : start + _CHUNK]
            encodings = tokenizer.encode_batch([list(s.words) for s in chunk], is_pretokenized=True)
            features.extend(
                self._feature(split, sentence, encoding) for sentence, encoding in zip(chunk, encodings)
            )
        return features

    def score(self, split: str, features: Sequence[Feature], answers: Sequence[Answer]) -> Dict[str, float]:
        """Entity F1, precision and recall, and word accuracy; see :meth:`Task.score`."""
        found = true = hits = right = total = 0
        for feature, (_, predicted) in zip(features, self.predictions(split, features, answers)):
            expected = feature["_labels"]
            ours, theirs = entities(predicted), entities(expected)
            found, true, hits = found + len(ours), true + len(theirs), hits + len(ours & theirs)
            right += sum(a == b for a, b in zip(predicted, expected))
            total += len(expected)
        f1 = 100.0 * 2 * hits / (found + true) if found + true else 0.0
        return {
            "f1": f1,
            "precision": 100.0 * hits / found if found else 0.0,
            "recall": 100.0 * hits / true if true else 0.0,
            "accuracy": 100.0 * right / total if total else 0.0,
        }

    def predictions(
        self, split: str, features: Sequence[Feature], answers: Sequence[Answer]
    ) -> List[Tuple[str, Any]]:
        """Labels of the words; words cut off by the maximum length get ``O`` (or the first label)."""
        classes = self.classes
        other = "O" if "O" in self._ids else self.labels[0]
        result: List[Tuple[str, Any]] = []
        for feature, answer in zip(features, answers):
            labels = [other] * len(feature["_labels"])
            best = np.asarray(answer["logits"]).argmax(axis=-1)
            for word, token in feature["_first"].items():
                labels[word] = classes[int(best[token])]
            result.append((feature["_id"], labels))
        return result

    def _feature(self, split: str, sentence: Sentence, encoding: Encoding) -> Feature:
        first: Dict[int, int] = {}
        for token, word in enumerate(encoding.word_ids):
            if word is not None:
                first.setdefault(word, token)
        labels = [IGNORED] * len(encoding.ids)
        rows = {name: row for row, name in enumerate(self.classes)}
        for word, token in first.items():
            label = sentence.labels[word]
            if label not in self._ids:
                raise DataError(
                    f"split {split!r}, line {sentence.line + word}: unknown label {label!r}; "
                    f"known are {', '.join(self.labels)}",
                    hint="correct the label, or add sentences with it to the train split",
                )
            labels[token] = rows[label]
        return {
            "input_ids": encoding.ids,
            "token_type_ids": encoding.type_ids,
            "labels": labels,
            "_id": str(sentence.line),
            "_labels": list(sentence.labels),
            "_first": first,
        }


def entities(labels: Sequence[str]) -> Set[Tuple[str, int, int]]:
    """(type, first word, last word + 1) of every entity of an IOB or plain label sequence."""
    found: Set[Tuple[str, int, int]] = set()
    start, kind = 0, ""
    for index, label in enumerate([*labels, "O"]):
        prefix, _, rest = label.partition("-")
        name = "" if label == "O" else (rest or label)
        if kind and (name != kind or prefix == "B"):
            found.add((kind, start, index))
            kind = ""
        if name and not kind:
            start, kind = index, name
    return found


def load_tokens(folder: Path) -> TokenClassification:
    """A token classification task from a folder of ``train`` and ``dev`` files.

    ``.conll`` and ``.txt`` hold one word per line, its label in the last column, an empty line
    between sentences; ``.jsonl`` holds ``{"words": [...], "labels": [...]}`` per line.

    Raises:
        DataError: a file is missing or a line is not as it must be.
    """
    files = find_splits(folder, _SUFFIXES)
    splits = {split: list(_read(path)) for split, path in files.items()}
    first = "train" if "train" in splits else next(iter(splits))
    labels = sorted(
        {label for s in splits[first] for label in s.labels}, key=lambda label: (label != "O", label)
    )
    for split, sentences in splits.items():
        if not sentences:
            raise DataError(f"{files[split]} holds no sentences", hint="add sentences to the file")
    return TokenClassification("tokens", splits, labels)


def _read(path: Path) -> Iterator[Sentence]:
    name = path.name[:-3] if path.suffix == ".gz" else path.name
    return _read_jsonl(path) if name.endswith(".jsonl") else _read_conll(path)


def _read_jsonl(path: Path) -> Iterator[Sentence]:
    for line, row in read_rows(path):
        words, labels = row.get("words", row.get("tokens")), row.get("labels", row.get("tags"))
        if not isinstance(words, list) or not isinstance(labels, list) or len(words) != len(labels):
            raise DataError(
                f"{path}, line {line}: no two lists of one length in {json.dumps(row)[:60]}",
                hint='write {"words": ["..."], "labels": ["..."]}',
            )
        yield Sentence(line, tuple(map(str, words)), tuple(map(str, labels)))


def _read_conll(path: Path) -> Iterator[Sentence]:
    words: List[str] = []
    labels: List[str] = []
    start = 1
    with open_text(path) as stream:
        for number, line in enumerate(stream, start=1):
            cells = line.split()
            if not cells or cells[0] == "-DOCSTART-":
                if words:
                    yield Sentence(start, tuple(words), tuple(labels))
                words, labels, start = [], [], number + 1
                continue
            if len(cells) < 2:
                raise DataError(
                    f"{path}, line {number}: {line.strip()!r} has no label",
                    hint="write the word and its label, separated by a space or tab",
                )
            words.append(cells[0])
            labels.append(cells[-1])
    if words:
        yield Sentence(start, tuple(words), tuple(labels))
