"""Extractive question answering on SQuAD v1.1 JSON, scored by the official EM and F1."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from obert_edge.errors import DataError, UsageError
from obert_edge.host.data import metrics
from obert_edge.host.data.base import QUESTION_ANSWERING, Answer, Feature, Task, truncate
from obert_edge.host.data.tables import HUB, find_splits, hub_rows, open_text

#: Tokens of the shortest window whose stride is a third.
_SHORTEST = 32
#: Questions tokenized at once: bounds the memory of encodings, keeps all cores busy.
_CHUNK = 512


@dataclass(frozen=True)
class Question:
    """One question about one context.

    ``answers`` holds the accepted texts; ``starts`` their character offsets in the context, -1
    where an offset in the file was wrong and the text does not occur.
    """

    id: str
    title: str
    context: str
    question: str
    answers: Tuple[str, ...]
    starts: Tuple[int, ...]


class QuestionAnswering(Task):
    """Questions answered by a span of their context.

    Args:
        name: what the user called the task.
        splits: questions by split name.
        stride: tokens two windows of one long context share (the paper: 128).
        n_best: start and end candidates looked at per window.
        max_answer_length: tokens of the longest answer (the paper: 30).
    """

    head = QUESTION_ANSWERING
    metric = "f1"
    default_length = 384

    def __init__(
        self,
        name: str,
        splits: Mapping[str, Sequence[Question]],
        *,
        stride: int = 128,
        n_best: int = 20,
        max_answer_length: int = 30,
    ) -> None:
        self.name = name
        self._splits = dict(splits)
        self._stride = stride
        self._n_best = n_best
        self._max_answer_length = max_answer_length
        self._contexts = {q.id: q for questions in self._splits.values() for q in questions}

    @property
    def splits(self) -> Tuple[str, ...]:
        """The splits there is data for."""
        return tuple(self._splits)

    def questions(self, split: str) -> Sequence[Question]:
        """The questions of a split."""
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
        """One feature per window; ``start_positions`` and ``end_positions`` point into it.

        A window without the answer points at token 0. In split ``train``, questions whose answer
        text is not in the context are left out.
        """
        questions = list(self.questions(split)[:limit])
        length = max_length or self.default_length
        stride = self._stride
        if max_length is None and _SHORTEST <= length <= stride + 3:
            stride = length // 3  # in a model of few positions, as 128 is a third of the paper's 384
        if length <= stride + 3:
            raise UsageError(
                f"a maximum length of {length} tokens leaves no room beside a stride of {self._stride}",
                hint="raise --max-length",
            )
        if split == "train":
            questions = [q for q in questions if any(start >= 0 for start in q.starts)]
        features: List[Feature] = []
        for start in range(0, len(questions), _CHUNK):
            chunk = questions[start : start + _CHUNK]
            for question, encoding in zip(chunk, _encode(tokenizer, chunk, length, stride)):
                windows = [encoding, *encoding.overflowing]
                features.extend(_feature(question, window) for window in windows)
        return features

    def score(self, split: str, features: Sequence[Feature], answers: Sequence[Answer]) -> Dict[str, float]:
        """Official ``exact_match`` and ``f1``; see :meth:`Task.score`."""
        asked = {feature["_id"] for feature in features}
        references: Dict[str, Sequence[str]] = {key: self._contexts[key].answers for key in asked}
        return metrics.squad(dict(self.predictions(split, features, answers)), references)

    def predictions(
        self, split: str, features: Sequence[Feature], answers: Sequence[Answer]
    ) -> List[Tuple[str, Any]]:
        """The best-scoring span over all windows of each question, as text of the context."""
        best: Dict[str, Tuple[float, str]] = {}
        for feature, answer in zip(features, answers):
            key = feature["_id"]
            context = self._contexts[key].context
            span = best_span(
                answer["start_logits"],
                answer["end_logits"],
                feature["_offsets"],
                n_best=self._n_best,
                max_length=self._max_answer_length,
            )
            if span is None:
                best.setdefault(key, (-np.inf, ""))
            elif span[0] > best.get(key, (-np.inf, ""))[0]:
                best[key] = (span[0], context[span[1] : span[2]])
        return [(key, text) for key, (_, text) in best.items()]


def best_span(
    start_logits: NDArray[np.float32],
    end_logits: NDArray[np.float32],
    offsets: Sequence[Optional[Tuple[int, int]]],
    *,
    n_best: int = 20,
    max_length: int = 30,
) -> Optional[Tuple[float, int, int]]:
    """The span with the largest ``start_logit + end_logit`` among the best of each.

    Args:
        start_logits: float32[tokens].
        end_logits: float32[tokens].
        offsets: characters of the context per token; ``None`` for tokens outside it.
        n_best: candidates looked at on either side.
        max_length: tokens of the longest span.

    Returns:
        Score, first and last+1 character; ``None`` when no candidate is a span.
    """
    inside = np.array([offset is not None for offset in offsets])
    starts = np.where(inside, start_logits[: len(offsets)], -np.inf)
    ends = np.where(inside, end_logits[: len(offsets)], -np.inf)
    best: Optional[Tuple[float, int, int]] = None
    for first in np.argsort(-starts, kind="stable")[:n_best]:
        for last in np.argsort(-ends, kind="stable")[:n_best]:
            opening, closing = offsets[int(first)], offsets[int(last)]
            if opening is None or closing is None or not 0 <= last - first < max_length:
                continue
            score = float(starts[first] + ends[last])
            if best is None or score > best[0]:
                best = (score, opening[0], closing[1])
    return best


def load_squad(source: str, *, tune: int = 0) -> QuestionAnswering:
    """SQuAD v1.1 from a folder, a file or the Hub.

    A folder holds ``train*.json`` and ``dev*.json``, each also gzipped. A ``split.json`` beside
    them divides the articles of dev further: articles under its ``train_titles`` join the train
    split, and dev keeps those under ``eval_titles``.

    Args:
        source: folder, file (becomes split ``dev``), or ``hub:[owner/set]``.
        tune: paragraphs of train held out, with all their questions, as split ``tune``.

    Raises:
        DataError: a file is missing or is not SQuAD v1.1.
    """
    if source.startswith(HUB):
        splits = _from_hub(source[len(HUB) :] or "rajpurkar/squad")
    elif Path(source).is_file():
        splits = {"dev": read_squad(Path(source))}
    else:
        splits = _from_folder(Path(source))
    if tune:
        splits = _hold_out_contexts(splits, tune)
    return QuestionAnswering("squad", splits)


def read_squad(path: Path) -> List[Question]:
    """All questions of one SQuAD v1.1 file.

    Raises:
        DataError: the file is not SQuAD v1.1 JSON.
    """
    with open_text(path) as stream:
        try:
            content = json.load(stream)
        except json.JSONDecodeError as error:
            raise DataError(f"{path} is not JSON: {error}", hint="copy the file again") from error
    questions: List[Question] = []
    try:
        for article in content["data"]:
            for paragraph in article["paragraphs"]:
                for qa in paragraph["qas"]:
                    questions.append(_question(article.get("title", ""), paragraph["context"], qa))
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is not SQuAD v1.1: {error!r} at question {len(questions) + 1}",
            hint="expected the layout of the files on the SQuAD site: data, paragraphs, context, qas",
        ) from error
    if not questions:
        raise DataError(f"{path} holds no questions", hint="pass the SQuAD JSON with its questions")
    return questions


def _question(title: str, context: str, qa: Mapping[str, Any]) -> Question:
    texts = tuple(answer["text"] for answer in qa["answers"])
    starts = tuple(_locate(context, answer["text"], int(answer["answer_start"])) for answer in qa["answers"])
    return Question(str(qa["id"]), title, context, qa["question"], texts, starts)


def _locate(context: str, text: str, start: int) -> int:
    """The given offset if the text is there, else the nearest place where it is, else -1."""
    if context[start : start + len(text)] == text:
        return start
    places = []
    at = context.find(text)
    while at >= 0:
        places.append(at)
        at = context.find(text, at + 1)
    return min(places, key=lambda place: abs(place - start)) if places else -1


def _from_folder(folder: Path) -> Dict[str, List[Question]]:
    files = _json_files(folder)
    splits = {split: read_squad(path) for split, path in files.items()}
    division = folder / "split.json"
    if division.is_file() and "dev" in splits:
        with open_text(division) as stream:
            titles: Dict[str, List[str]] = json.load(stream)
        train, evaluation = (
            _titles(division, titles, "train_titles"),
            _titles(division, titles, "eval_titles"),
        )
        if train & evaluation:
            raise DataError(
                f"{division}: {', '.join(sorted(train & evaluation))} is in train_titles and in eval_titles",
                hint="an article may be trained on or evaluated on, not both",
            )
        dev = splits["dev"]
        splits["train"] = splits.get("train", []) + [q for q in dev if q.title in train]
        splits["dev"] = [q for q in dev if q.title in evaluation]
    return splits


def _titles(path: Path, content: Any, key: str) -> Set[str]:
    if not isinstance(content, dict) or not isinstance(content.get(key), list):
        raise DataError(
            f"{path} has no list {key!r}", hint="write article titles under train_titles and eval_titles"
        )
    return set(content[key])


def _json_files(folder: Path) -> Dict[str, Path]:
    if folder.is_dir():
        found: Dict[str, Path] = {}
        for split in ("train", "dev"):
            matches = sorted(p for s in (".json", ".json.gz") for p in folder.glob(f"{split}*{s}"))
            if matches:
                found[split] = matches[0]
        if found:
            return found
    return find_splits(folder, (".json", ".json.gz"))  # says what is missing


def _from_hub(name: str) -> Dict[str, List[Question]]:
    splits: Dict[str, List[Question]] = {}
    for split, hub_split in (("train", "train"), ("dev", "validation")):
        splits[split] = [
            Question(
                row["id"],
                row["title"],
                row["context"],
                row["question"],
                tuple(row["answers"]["text"]),
                tuple(row["answers"]["answer_start"]),
            )
            for _, row in hub_rows(name, hub_split)
        ]
    return splits


def _hold_out_contexts(splits: Dict[str, List[Question]], count: int) -> Dict[str, List[Question]]:
    contexts = sorted({q.context for q in splits.get("train", [])})
    if not 0 < count < len(contexts):
        raise UsageError(
            f"{count} paragraphs cannot be held out of the {len(contexts)} of split 'train'",
            hint="hold out fewer",
        )
    chosen = {contexts[int(i)] for i in np.random.default_rng(0).permutation(len(contexts))[:count]}
    return {
        **splits,
        "train": [q for q in splits["train"] if q.context not in chosen],
        "tune": [q for q in splits["train"] if q.context in chosen],
    }


def _encode(
    tokenizer: Tokenizer, questions: Sequence[Question], length: int, stride: int
) -> Iterable[Encoding]:
    """Question and context, the context in windows; a very long question is cut to its first quarter."""
    room = max(8, length - stride - 4)  # the context needs more room than the stride
    truncate(tokenizer, room)
    bare = tokenizer.encode_batch([q.question.strip() for q in questions], add_special_tokens=False)
    texts = [
        q.question.strip()[: e.offsets[-1][1]] if e.overflowing and e.offsets else q.question.strip()
        for q, e in zip(questions, bare)
    ]
    truncate(tokenizer, length, stride=stride, strategy="only_second")
    return tokenizer.encode_batch([(text, q.context) for text, q in zip(texts, questions)])


def _feature(question: Question, window: Encoding) -> Feature:
    offsets: List[Optional[Tuple[int, int]]] = [
        span if sequence == 1 else None for span, sequence in zip(window.offsets, window.sequence_ids)
    ]
    first, last = _answer_tokens(question, offsets)
    return {
        "input_ids": window.ids,
        "token_type_ids": window.type_ids,
        "start_positions": first,
        "end_positions": last,
        "_id": question.id,
        "_offsets": offsets,
    }


def _answer_tokens(question: Question, offsets: Sequence[Optional[Tuple[int, int]]]) -> Tuple[int, int]:
    """First and last token of the first locatable answer, or (0, 0) when the window lacks it."""
    for text, start in zip(question.answers, question.starts):
        if start < 0:
            continue
        end = start + len(text)
        inside = [i for i, o in enumerate(offsets) if o is not None and o[1] > start and o[0] < end]
        if not inside:
            return 0, 0
        opening, closing = offsets[inside[0]], offsets[inside[-1]]
        whole = opening is not None and closing is not None and opening[0] <= start and closing[1] >= end
        return (inside[0], inside[-1]) if whole else (0, 0)
    return 0, 0
