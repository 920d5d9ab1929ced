"""Extractive question answering on SQuAD 1.1 and 2.0, scored by the official rules of each.

Questions that the context does not answer are what SQuAD 2 adds. A model learns to point at the first token
([CLS]) for them, as for windows that lack the answer, and gives no answer where that scores higher than the
best span (Devlin et al. 2019, section 4.3).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from obert_edge.errors import UsageError
from obert_edge.host.data import metrics
from obert_edge.host.data.base import QUESTION_ANSWERING, Answer, Feature, Task, Text, truncate
from obert_edge.host.data.held_out import dev_share
from obert_edge.host.data.squad_files import (
    Question,
    describe,
    read_folder,
    read_hub,
    read_squad,
    refuse_twins,
)
from obert_edge.host.data.squad_score import squad2
from obert_edge.host.data.tables import HUB

#: Tokens of the shortest window whose stride is a third.
_SHORTEST = 32
#: Questions tokenized at once: bounds the memory of encodings, keeps all cores busy.
_CHUNK = 512
#: How the name of a single file begins that is there to be scored, and not to be learned from.
_SCORED = ("dev", "val", "test", "eval")


@dataclass(frozen=True)
class BestSpan:
    """What a model makes of a question over all windows of its context.

    Attributes:
        text: of the best span; empty where no window has one.
        score: its start logit plus its end logit; -inf where there is none.
        null: the least sum of the first token's logits over the windows: how well no answer does.
    """

    text: str = ""
    score: float = -np.inf
    null: float = np.inf

    @property
    def null_odds(self) -> float:
        """How much better no answer is than the span; SQuAD 2's null score difference."""
        return self.null - self.score


class QuestionAnswering(Task):
    """Questions answered by a span of their context, or by none.

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
        for split, questions in self._splits.items():
            refuse_twins(questions, f"split {split!r}")
        self._by_id = {split: {q.id: q for q in questions} for split, questions in self._splits.items()}

    @property
    def splits(self) -> Tuple[str, ...]:
        """The splits there is data for."""
        return tuple(self._splits)

    def describe(self) -> str:
        """The task in one line: its questions, and how many of them are impossible."""
        return f"{self.name}: {describe(self._splits)}"

    def rows(self, split: str) -> Sequence[object]:
        """See :meth:`Task.rows`."""
        return self.questions(split)

    def questions(self, split: str) -> Sequence[Question]:
        """The questions of a split."""
        self.require(split)
        return self._splits[split]

    def texts_of(self, row: Question) -> Sequence[Text]:
        """A question with its context."""
        return [(row.question, row.context)]

    def features(
        self,
        split: str,
        tokenizer: Tokenizer,
        *,
        max_length: Optional[int] = None,
        limit: Optional[int] = None,
    ) -> List[Feature]:
        """One feature per window; ``start_positions`` and ``end_positions`` point into it.

        They are 0, the first token, for an impossible question and in a window without the answer. In split
        ``train``, questions are left out whose answer cannot be found in the context.
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
            questions = [q for q in questions if q.trainable]
        features: List[Feature] = []
        for start in range(0, len(questions), _CHUNK):
            chunk = questions[start : start + _CHUNK]
            for question, encoding in zip(chunk, _encode(tokenizer, chunk, length, stride)):
                windows = [encoding, *encoding.overflowing]
                features.extend(_feature(question, window) for window in windows)
        return features

    def score(self, split: str, features: Sequence[Feature], answers: Sequence[Answer]) -> Dict[str, float]:
        """SQuAD's official scores; see :meth:`Task.score`.

        A split without impossible questions is scored by the rules of version 1.1 (``exact_match`` and
        ``f1``), one with some by those of 2.0: see :func:`obert_edge.host.data.squad_score.squad2`.
        """
        best = self._best(split, features, answers)
        references = {key: self._by_id[split][key].answers for key in best}
        if not self.with_impossible(split):
            return metrics.squad({key: span.text for key, span in best.items()}, dict(references))
        return squad2(
            {key: span.text for key, span in best.items()},
            references,
            {key: span.null_odds for key, span in best.items()},
        )

    def with_impossible(self, split: str) -> bool:
        """Whether a split has questions without an answer."""
        return any(question.impossible for question in self.questions(split))

    def predictions(
        self, split: str, features: Sequence[Feature], answers: Sequence[Answer]
    ) -> List[Tuple[str, Any]]:
        """The best-scoring span over all windows of each question, as text of the context.

        In a split with impossible questions it is empty where no answer scores higher.
        """
        found = self._best(split, features, answers)
        none_allowed = self.with_impossible(split)
        return [(key, "" if none_allowed and s.null_odds > 0 else s.text) for key, s in found.items()]

    def _best(
        self, split: str, features: Sequence[Feature], answers: Sequence[Answer]
    ) -> Dict[str, BestSpan]:
        """The best span of each question, and how well no answer does."""
        best: Dict[str, BestSpan] = {}
        for feature, answer in zip(features, answers):
            key = feature["_id"]
            found = best.get(key, BestSpan())
            null = float(answer["start_logits"][0]) + float(answer["end_logits"][0])
            span = best_span(
                answer["start_logits"],
                answer["end_logits"],
                feature["_offsets"],
                n_best=self._n_best,
                max_length=self._max_answer_length,
            )
            if span is not None and span[0] > found.score:
                text = self._by_id[split][key].context[span[1] : span[2]]
                found = replace(found, text=text, score=span[0])
            best[key] = replace(found, null=min(null, found.null))
        return best


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
    """SQuAD of version 1.1 or 2.0, or data in its form, from a folder, a file or the Hub.

    A folder holds files whose names begin with ``train`` and ``dev`` (or ``val``), such as
    ``train-v2.0.json``; see :func:`obert_edge.host.data.squad_files.read_squad` for what is read. A
    ``split.json`` beside them divides the articles of dev further: articles under its ``train_titles`` join
    the train split, and dev keeps those under ``eval_titles``.

    Args:
        source: folder; file, of which a random tenth of the paragraphs becomes ``dev``, unless it is called
            ``dev``, ``val`` or ``test`` as those of SQuAD are: then it is split ``dev``, whole; or
            ``hub:[owner/set]``.
        tune: paragraphs of train held out, with all their questions, as split ``tune``.

    Raises:
        DataError: a file is missing or is not SQuAD.
        UsageError: there are too few paragraphs to hold some out.
    """
    if source.startswith(HUB):
        splits = read_hub(source[len(HUB) :] or "rajpurkar/squad")
    elif Path(source).is_file():
        splits = _of_one_file(Path(source))
    else:
        splits = read_folder(Path(source))
    if tune:
        splits = _hold_out_contexts(splits, "tune", tune)
    return QuestionAnswering("squad", splits)


def _of_one_file(path: Path) -> Dict[str, List[Question]]:
    questions = read_squad(path)
    if path.name.lower().startswith(_SCORED):
        return {"dev": questions}
    contexts = {question.context for question in questions}
    return _hold_out_contexts({"train": questions}, "dev", dev_share(len(contexts)))


def _hold_out_contexts(
    splits: Dict[str, List[Question]], target: str, count: int
) -> Dict[str, List[Question]]:
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
        target: [q for q in splits["train"] if q.context in chosen],
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
