"""Reading questions with contexts and answers: SQuAD JSON of versions 1.1 and 2.0, and rows of `datasets`."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

from obert_edge.errors import DataError
from obert_edge.host.data.tables import (
    find_splits,
    hub_rows,
    only_one,
    open_text,
    plain_suffix,
    read_json,
    read_rows,
    whole_text,
)

_SUFFIXES = (".json", ".json.gz", ".jsonl", ".jsonl.gz")
#: Our split -> how the name of its file begins, since SQuAD's own files are called ``train-v2.0.json``.
_BEGINNINGS = {"train": ("train",), "dev": ("dev", "val"), "test": ("test",)}
_IMPOSSIBLE = 'for a question that the context does not answer write "answers": [] and "is_impossible": true'


@dataclass(frozen=True)
class Question:
    """One question about one context.

    Attributes:
        id: unlike that of any other question of its split.
        title: of the article.
        context: the text that may hold the answer.
        question: what is asked.
        answers: the accepted texts; none for an impossible question.
        starts: their character offsets in the context; -1 where the text is not in the context, or where no
            offset is given and it is there several times.
        moved: whether an offset of the file was wrong and another was found.
    """

    id: str
    title: str
    context: str
    question: str
    answers: Tuple[str, ...]
    starts: Tuple[int, ...]
    moved: bool = False

    @property
    def impossible(self) -> bool:
        """Whether the context does not answer it, as SQuAD 2 asks such questions."""
        return not self.answers

    @property
    def trainable(self) -> bool:
        """Whether it is known where the answer stands, or that there is none."""
        return self.impossible or any(start >= 0 for start in self.starts)


def read_squad(path: Path) -> List[Question]:
    """All questions of one file, in its order.

    Args:
        path: SQuAD JSON (``data``, ``paragraphs``, ``qas``), or rows as `datasets` writes them, in a list,
            below ``data`` or one on each line: ``{"question": ..., "context": ..., "answers": {"text": [...],
            "answer_start": [...]}}``.

    Raises:
        DataError: the file is none of these, holds no questions, or holds one that cannot be used.
    """
    questions = list(_questions(path))
    if not questions:
        raise DataError(f"{path} holds no questions", hint="pass the SQuAD JSON with its questions")
    refuse_twins(questions, path)
    return questions


def refuse_twins(questions: Sequence[Question], where: object) -> None:
    """Raise :class:`DataError` where two questions have one id."""
    counts = Counter(question.id for question in questions)
    twice = [key for key, count in counts.items() if count > 1]
    if twice:
        raise DataError(
            f"{where}: {len(twice)} ids belong to several questions, the first is {twice[0]!r}",
            hint="give each question an id of its own, and leave copies out",
        )


def read_folder(folder: Path) -> Dict[str, List[Question]]:
    """The splits of a folder; see :func:`obert_edge.host.data.question_answering.load_squad`."""
    splits = {split: read_squad(path) for split, path in _split_files(folder).items()}
    division = folder / "split.json"
    if division.is_file() and "dev" in splits:
        with open_text(division) as stream:
            titles = read_json(stream.read(), division)
        train = _titles(division, titles, "train_titles")
        evaluation = _titles(division, titles, "eval_titles")
        if train & evaluation:
            raise DataError(
                f"{division}: {', '.join(sorted(train & evaluation))} is in train_titles and in eval_titles",
                hint="an article may be trained on or evaluated on, not both",
            )
        dev = splits["dev"]
        splits["train"] = splits.get("train", []) + [q for q in dev if q.title in train]
        splits["dev"] = [q for q in dev if q.title in evaluation]
        refuse_twins(splits["train"], f"the train split of {division}")
    return splits


def read_hub(name: str) -> Dict[str, List[Question]]:
    """The splits train and validation of a set on the Hub, the latter as ``dev``."""
    return {
        split: [
            _from_row(row, f"{name} {hub_split}, row {number}") for number, row in hub_rows(name, hub_split)
        ]
        for split, hub_split in (("train", "train"), ("dev", "validation"))
    }


def describe(splits: Mapping[str, Sequence[Question]]) -> str:
    """The questions of each split, with what a reader of scores must know of them."""
    return "; ".join(_described(split, questions) for split, questions in splits.items())


def _described(split: str, questions: Sequence[Question]) -> str:
    said = [f"{len(questions)} question{'' if len(questions) == 1 else 's'} of {split}"]
    impossible = sum(question.impossible for question in questions)
    if impossible:
        said.append(f"{impossible} of them impossible")
    moved = sum(question.moved for question in questions)
    if moved:
        said.append(f"{moved} with an answer elsewhere than answer_start says")
    lost = sum(not question.trainable for question in questions)
    if lost and split == "train":
        said.append(f"{lost} left out because their answer cannot be found in the context")
    return ", ".join(said)


def _questions(path: Path) -> Iterator[Question]:
    if plain_suffix(path) == ".jsonl":
        yield from _from_rows(path)
        return
    with open_text(path) as stream:
        text = stream.read()
    if text.lstrip().startswith("[") or _on_lines(text):
        yield from _from_rows(path)
        return
    content = read_json(text, path)
    items = content.get("data") if isinstance(content, dict) else None
    if not isinstance(items, list):
        raise DataError(
            f"{path} is not SQuAD: it has no list 'data', and is no list of rows itself",
            hint="expected the layout of the files on the SQuAD site (data, paragraphs, context, qas), or "
            "rows with question, context and answers",
        )
    for number, item in enumerate(items, start=1):
        where = f"{path}, item {number} of 'data'"
        if isinstance(item, dict) and "paragraphs" in item:
            yield from _from_article(item, where)
        else:
            yield _from_row(item, where)


def _on_lines(text: str) -> bool:
    """Whether a text is JSON Lines: its first line is an object of its own, and others follow."""
    first, _, rest = text.strip().partition("\n")
    try:
        return bool(rest) and isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        return False


def _from_rows(path: Path) -> Iterator[Question]:
    for number, row in read_rows(path):
        yield _from_row(row, f"{path}, line {number}", str(number))


def _from_article(article: Mapping[str, Any], where: str) -> Iterator[Question]:
    for number, paragraph in enumerate(_list(article, "paragraphs", where), start=1):
        place = f"{where}, paragraph {number}"
        for count, qa in enumerate(_list(paragraph, "qas", place), start=1):
            title = article.get("title")
            context = _text(paragraph, "context", place)
            yield _question(
                qa, context, title if isinstance(title, str) else "", f"{place}, question {count}"
            )


def _from_row(row: Any, where: str, number: str = "") -> Question:
    context = _text(row, "context", where)
    title = row.get("title")
    return _question(row, context, title if isinstance(title, str) else "", where, number)


def _question(qa: Any, context: str, title: str, where: str, number: str = "") -> Question:
    """A question out of its object.

    Args:
        qa: holds id, question, answers and maybe is_impossible.
        context: what it asks about.
        title: of the article.
        where: file and place, for messages.
        number: the id of a question without one; empty: there must be one.
    """
    text = _text(qa, "question", where)
    key = qa.get("id", number)
    if isinstance(key, bool) or not isinstance(key, (str, int)) or key == "":
        raise DataError(
            f"{where}: the question {text!r} has no id", hint="give each question an id of its own"
        )
    where = f"{where}, id {key!r}"
    answers = _answers(qa, where)
    found = [_locate(context, answer, start) for answer, start in answers]
    moved = any(
        place >= 0 and place != start for place, (_, start) in zip(found, answers) if start is not None
    )
    return Question(str(key), title, context, text, tuple(a for a, _ in answers), tuple(found), moved)


def _answers(qa: Mapping[str, Any], where: str) -> List[Tuple[str, Optional[int]]]:
    """The texts and offsets of the answers; none for an impossible question.

    Raises:
        DataError: they are missing, not as they must be, or contradict ``is_impossible``.
    """
    flag, value = qa.get("is_impossible"), qa.get("answers")
    if flag not in (None, True, False):
        raise DataError(f"{where}: is_impossible is {flag!r}; expected true or false", hint=_IMPOSSIBLE)
    if value is None and not flag:
        found = "is null" if "answers" in qa else "is missing"
        raise DataError(f"{where}: 'answers' {found}; expected a list", hint=_IMPOSSIBLE)
    pairs = [_answer(text, start, where) for text, start in _pairs(value or [], where)]
    if flag is not None and bool(flag) != (not pairs):
        raise DataError(
            f"{where}: is_impossible is {json.dumps(flag)}, and there are {len(pairs)} answers",
            hint=_IMPOSSIBLE,
        )
    return pairs


def _pairs(value: Any, where: str) -> List[Tuple[Any, Any]]:
    """Texts and offsets, as SQuAD writes them (a list of objects) or `datasets` does (an object of lists)."""
    if isinstance(value, list) and all(isinstance(item, dict) for item in value):
        return [(item.get("text"), item.get("answer_start")) for item in value]
    if isinstance(value, dict):
        texts = value.get("text")
        starts = value.get("answer_start", [None] * len(texts) if isinstance(texts, list) else None)
        if isinstance(texts, list) and isinstance(starts, list) and len(texts) == len(starts):
            return list(zip(texts, starts))
    found = json.dumps(value, default=str)[:60]
    raise DataError(
        f"{where}: 'answers' is {found}; expected a list of objects with text and answer_start, or an object "
        "with these two lists",
        hint='write "answers": [{"text": "...", "answer_start": 0}]',
    )


def _answer(text: Any, start: Any, where: str) -> Tuple[str, Optional[int]]:
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{where}: the text of an answer is {text!r}; expected words", hint=_IMPOSSIBLE)
    if start is not None and (isinstance(start, bool) or not isinstance(start, int)):
        raise DataError(
            f"{where}: answer_start is {start!r}; expected a whole number",
            hint="write the place of the answer's first character in the context, counted from 0",
        )
    return whole_text(text, where), start


def _locate(context: str, text: str, start: Optional[int]) -> int:
    """The given offset if the text is there, else the nearest place where it is, else -1.

    Without an offset the text must be there once.
    """
    if start is not None and start >= 0 and context.startswith(text, start):
        return start
    places = []
    at = context.find(text)
    while at >= 0:
        places.append(at)
        at = context.find(text, at + 1)
    if not places or (start is None and len(places) > 1):
        return -1
    return min(places, key=lambda place: abs(place - (start or 0)))


def _list(values: Any, key: str, where: str) -> List[Any]:
    value = values.get(key) if isinstance(values, dict) else None
    if not isinstance(value, list):
        raise DataError(
            f"{where}: there is no list {key!r}", hint="compare the file with one of the SQuAD site"
        )
    return value


def _text(values: Any, key: str, where: str) -> str:
    value = values.get(key) if isinstance(values, dict) else None
    if not isinstance(value, str):
        raise DataError(
            f"{where}: not SQuAD: there is no text {key!r}",
            hint="each question needs id, question, context and answers",
        )
    return whole_text(value, f"{where}: {key!r}")


def _titles(path: Path, content: Any, key: str) -> Set[str]:
    if not isinstance(content, dict) or not isinstance(content.get(key), list):
        raise DataError(
            f"{path} has no list {key!r}", hint="write article titles under train_titles and eval_titles"
        )
    return set(map(str, content[key]))


def _split_files(folder: Path) -> Dict[str, Path]:
    found: Dict[str, Path] = {}
    for split, beginnings in _BEGINNINGS.items() if folder.is_dir() else ():
        patterns = [f"{beginning}*{suffix}" for beginning in beginnings for suffix in _SUFFIXES]
        matches = sorted({path for pattern in patterns for path in folder.glob(pattern)})
        if matches:
            found[split] = only_one(split, matches)
    return found or find_splits(folder, _SUFFIXES)  # says what is missing
