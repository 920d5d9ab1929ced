"""Reading words with a label each: CoNLL files, JSON and JSON Lines, with labels as names or as numbers."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

from obert_edge.errors import DataError
from obert_edge.host.data.tables import (
    find_splits,
    open_text,
    plain_suffix,
    read_json,
    read_rows,
    whole_text,
)

#: What `datasets` writes beside a data set: the names that its numbers stand for.
FEATURES_FILE = "dataset_info.json"

_SUFFIXES = tuple(
    suffix + packed for suffix in (".conll", ".txt", ".tsv", ".jsonl", ".json") for packed in ("", ".gz")
)
_WORD_KEYS = ("words", "tokens")
_LABEL_KEYS = ("labels", "tags", "ner_tags")
#: Stands alone between the documents of CoNLL-2003.
_DOCUMENT = "-DOCSTART-"

#: A label as the file has it: a name, or the number of one.
_Raw = Union[str, int]


@dataclass(frozen=True)
class Sentence:
    """Words and their labels; ``line`` is where the sentence starts."""

    line: int
    words: Tuple[str, ...]
    labels: Tuple[str, ...]


@dataclass(frozen=True)
class _RawSentence:
    """The same with labels as the file has them, and the key they were under."""

    line: int
    words: Tuple[str, ...]
    labels: Tuple[_Raw, ...]
    key: str = ""


def read_files(source: Path, names: Optional[Sequence[str]] = None) -> Dict[str, List[Sentence]]:
    """The sentences of each split; sentences without words are passed over.

    Numbers are turned into names by ``names``, or by the :data:`FEATURES_FILE` beside the files.

    Args:
        source: a folder that holds a file for each split, or one file, which is split ``train``.
        names: class names by number, which all labels must be among.

    Raises:
        DataError: a file is missing, a line is not as it must be, or nothing says what numbers mean.
    """
    if source.is_file() and plain_suffix(source) == ".csv":
        raise DataError(
            f"{source} is a CSV; task tokens reads files of {', '.join(_SUFFIXES[::2])}, also with .gz",
            hint="write a word and its label on each line of a .conll, or on each line of a .jsonl "
            '{"words": ["..."], "labels": ["..."]}',
        )
    files = {"train": source} if source.is_file() else find_splits(source, _SUFFIXES)
    splits = {}
    for split, path in files.items():
        export = _export(path)
        rows = _read(path) if export is None else _from_export(export, path)
        sentences = [sentence for sentence in rows if sentence.words]
        if not sentences:
            raise DataError(f"{path} holds no sentences", hint="add sentences to the file")
        splits[split] = _named(path, sentences, names, (export or {}).get("features"))
    return splits


def _read(path: Path) -> Iterator[_RawSentence]:
    if plain_suffix(path) in (".json", ".jsonl"):
        for line, values in read_rows(path):
            yield _from_row(values, line, f"{path}, line {line}")
    else:
        yield from _read_conll(path)


def _export(path: Path) -> Optional[Dict[str, Any]]:
    """A ``.json`` that is one object with ``rows``, and maybe with ``features`` that name their numbers."""
    if plain_suffix(path) != ".json":
        return None
    with open_text(path) as stream:
        text = stream.read()
    try:
        content = json.loads(text) if text.lstrip().startswith("{") else None
    except (ValueError, RecursionError):
        return None  # lines of JSON; what else it may be is said where it is read as such
    return content if isinstance(content, dict) and isinstance(content.get("rows"), list) else None


def _from_export(export: Mapping[str, Any], path: Path) -> Iterator[_RawSentence]:
    """The rows of an export of the Hub's data set viewer, each of which may be below a key ``row``."""
    for number, item in enumerate(export["rows"], start=1):
        values = item.get("row", item) if isinstance(item, dict) else None
        if not isinstance(values, dict):
            raise DataError(
                f"{path}, row {number}: no object", hint='write {"words": ["..."], "labels": ["..."]}'
            )
        yield _from_row(values, number, f"{path}, row {number}")


def _from_row(values: Mapping[str, Any], line: int, where: str) -> _RawSentence:
    words_key, labels_key = _key(values, _WORD_KEYS, where), _key(values, _LABEL_KEYS, where)
    words, labels = values[words_key], values[labels_key]
    if not isinstance(words, list) or not isinstance(labels, list) or len(words) != len(labels):
        raise DataError(
            f"{where}: no two lists of one length in {json.dumps(values, default=str)[:60]}",
            hint='write {"words": ["..."], "labels": ["..."]}',
        )
    for number, (word, label) in enumerate(zip(words, labels), start=1):
        if not isinstance(word, str):
            raise DataError(
                f"{where}, word {number}: {json.dumps(word, default=str)[:60]} where a word was expected",
                hint="write every word in quotes",
            )
        whole_text(word, f"{where}, word {number}")
        if isinstance(label, bool) or not isinstance(label, (str, int)) or label == "":
            found = json.dumps(label, default=str)[:60]
            raise DataError(
                f"{where}, word {number}: the label is {found}; expected a name, or the number of one",
                hint="give every word a label; O for words that are in no entity",
            )
    return _RawSentence(line, tuple(words), tuple(labels), labels_key)


def _key(values: Mapping[str, Any], keys: Sequence[str], where: str) -> str:
    """The one key of several spellings that a row has."""
    present = [key for key in keys if values.get(key) is not None]
    if len(present) == 1:
        return present[0]
    what = f"has {' and '.join(present)}" if present else f"has none of {', '.join(keys)}"
    raise DataError(
        f"{where}: the row {what}; it has the keys {', '.join(map(str, values))}",
        hint=f"keep one of {', '.join(keys)}",
    )


def _read_conll(path: Path) -> Iterator[_RawSentence]:
    """Columns separated by tabs, or by spaces: any other white space, such as U+00A0, is part of a word."""
    with open_text(path) as stream:
        lines = [_cells(line) for line in stream]
    width = _width(lines)
    words: List[str] = []
    labels: List[str] = []
    start = 1
    for number, cells in enumerate([*lines, []], start=1):
        if not cells or cells[0] == _DOCUMENT:
            if words:
                yield _RawSentence(start, tuple(words), tuple(labels))
            words, labels, start = [], [], number + 1
            continue
        if cells[0].startswith("#") and len(cells) != width:
            continue  # a comment, as CoNLL-U and its kin have before a sentence
        _check_columns(path, number, cells, width)
        words.append(cells[0])
        labels.append(cells[-1])


def _cells(line: str) -> List[str]:
    """The columns of a line; none for a blank one."""
    text = line.rstrip(" \t\r\n")
    if "\t" in text:
        return [cell.strip(" ") for cell in text.split("\t")]
    return [cell for cell in text.split(" ") if cell] if text.strip() else []


def _width(lines: Sequence[Sequence[str]]) -> int:
    """How many columns most lines have."""
    counts = Counter(len(cells) for cells in lines if cells)
    return counts.most_common(1)[0][0] if counts else 0


def _check_columns(path: Path, number: int, cells: Sequence[str], width: int) -> None:
    if len(cells) < 2:
        raise DataError(
            f"{path}, line {number}: {cells[0]!r} has no label",
            hint="write the word and its label, separated by a space or tab",
        )
    if len(cells) != width:
        found = " ".join(cells)[:60]
        raise DataError(
            f"{path}, line {number}: {len(cells)} columns where most lines have {width}: {found}",
            hint="give every line the same columns; if a word holds a space, separate columns by tabs",
        )
    if not cells[0]:
        raise DataError(
            f"{path}, line {number}: the word is empty", hint="write the word, or leave the line out"
        )


def _named(
    path: Path, sentences: Sequence[_RawSentence], names: Optional[Sequence[str]], features: Any
) -> List[Sentence]:
    """Sentences with labels as names.

    Args:
        path: of the file.
        sentences: its sentences.
        names: class names by number; ``None``: those that features have.
        features: what the file itself says of its columns; ``None``: nothing.

    Raises:
        DataError: names and numbers are mixed, or a number has no name.
    """
    if not all(_is_number(label) for sentence in sentences for label in sentence.labels):
        _refuse_numbers(path, sentences)
        return [Sentence(s.line, s.words, tuple(map(str, s.labels))) for s in sentences]
    known = names or _names_of_features(path, sentences[0].key, features)
    if known is None:
        found = sorted({int(label) for sentence in sentences for label in sentence.labels})
        raise DataError(
            f"{path}, line {sentences[0].line}: the labels are numbers ({', '.join(map(str, found[:12]))}), "
            "and nothing says what they mean",
            hint="name all classes in the order of their numbers, 0 first: --label O --label B-PER ... (a "
            "checkpoint of this task has them under id2label); or put the "
            f"{FEATURES_FILE} of `datasets` beside the files",
        )
    return [Sentence(s.line, s.words, _by_number(path, s, known)) for s in sentences]


def _is_number(label: _Raw) -> bool:
    return isinstance(label, int) or label.lstrip("-").isdecimal()


def _refuse_numbers(path: Path, sentences: Sequence[_RawSentence]) -> None:
    """Raise :class:`DataError` where a label is a number, in a file that has names too."""
    for sentence in sentences:
        for number, label in enumerate(sentence.labels, start=1):
            if isinstance(label, int):
                raise DataError(
                    f"{path}, line {sentence.line}, word {number}: the label is the number {label}, and "
                    "elsewhere in the file labels are names",
                    hint="write names everywhere",
                )


def _by_number(path: Path, sentence: _RawSentence, names: Sequence[str]) -> Tuple[str, ...]:
    for number, label in enumerate(sentence.labels, start=1):
        if not 0 <= int(label) < len(names):
            raise DataError(
                f"{path}, line {sentence.line}, word {number}: the label {label} is none of the {len(names)} "
                f"classes 0 to {len(names) - 1} ({', '.join(names[:12])})",
                hint="name all classes; -100, which marks tokens for training, is no label of a word",
            )
    return tuple(names[int(label)] for label in sentence.labels)


def check_labels(where: object, sentence: Sentence, names: Sequence[str]) -> None:
    """Raise :class:`DataError` where a label of a sentence is not among ``names``."""
    for number, (word, label) in enumerate(zip(sentence.words, sentence.labels), start=1):
        if label not in names:
            raise DataError(
                f"{where}, line {sentence.line}: unknown label {label!r} of word {number}, {word!r}; known "
                f"are {', '.join(names)}",
                hint="correct the label, add sentences with it to train, or name all classes with --label",
            )


def _names_of_features(path: Path, key: str, features: Any) -> Optional[List[str]]:
    """The class names that `datasets` wrote for a column; ``None`` where it wrote nothing.

    Args:
        path: of a file, beside which there may be the :data:`FEATURES_FILE`.
        key: the column; empty for a file without column names.
        features: what the file itself says of its columns; ``None``: nothing.
    """
    if features is None:
        path = path.parent / FEATURES_FILE
        if not path.is_file():
            return None
        with open_text(path) as stream:
            content = read_json(stream.read(), path)
        features = content.get("features") if isinstance(content, dict) else None
    if isinstance(features, list) and all(isinstance(feature, dict) for feature in features):
        features = {str(feature.get("name")): feature.get("type") for feature in features}
    if not isinstance(features, dict):
        raise DataError(f"{path} has no 'features'", hint="use the file that `datasets` wrote with the data")
    columns = [key] if key else [name for name in _LABEL_KEYS if name in features]
    names = _class_names(features.get(columns[0])) if columns else None
    if names is None:
        raise DataError(
            f"{path} names no classes of {key or ' or '.join(_LABEL_KEYS)}; it has {', '.join(features)}",
            hint="name all classes in the order of their numbers with --label",
        )
    return names


def _class_names(feature: Any) -> Optional[List[str]]:
    """The names of a ClassLabel, or of a sequence of some."""
    if isinstance(feature, list) and feature:
        return _class_names(feature[0])
    if not isinstance(feature, dict):
        return None
    names = feature.get("names")
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        return names
    return _class_names(feature.get("feature"))
