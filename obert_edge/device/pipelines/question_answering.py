"""Extractive question answering: the best span of a context, however long."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar, List, Optional, Sequence, Tuple

import numpy as np

from obert_edge.device.pipelines.base import Prediction, WindowedPipeline, batches, softmax
from obert_edge.device.tokenizers.tokenizer import Encoding, Windows


@dataclass(frozen=True)
class Answer(Prediction):
    """A span of a context.

    Args:
        text: the span; empty when there is no answer.
        score: probability of its start times that of its end, 0..1; of no answer the same of the first token,
            in the window where its logits are least. As in transformers' pipeline, probabilities add up to 1
            over the first token and the context of a window.
        start: its first character in the context.
        end: one past its last character.
        alternatives: the next best spans, the best first.
    """

    text: str
    score: float
    start: int
    end: int
    alternatives: Tuple[Answer, ...] = ()


#: The sum of a span's start and end logits, and the answer it stands for.
_Scored = Tuple[float, Answer]


@dataclass(frozen=True)
class QuestionAnswerer(WindowedPipeline):
    """Questions with contexts to spans, as BERT does for SQuAD (Devlin et al. 2019, section 4.2).

    A context that does not fit is read in overlapping windows; the span with the highest sum of start and end
    logits over all windows is the answer.

    Args:
        stride: tokens that neighboring windows share, at most two thirds of one.
        max_length: tokens of a window; ``None``: what the model takes, at most 384.
        max_answer_tokens: the longest span.
        no_answer_margin: when set, "no answer" (the sum of the first token's logits, least of all windows)
            wins unless the best span's sum is higher by at least this much; for models trained on SQuAD 2.
            0 is transformers' ``handle_impossible_answer``; the margin for a threshold of SQuAD 2's null
            score difference is its negative.
        top_k: how many spans to give; all but the best are its ``alternatives``.
    """

    stride: int = field(default=128, metadata={"minimum": 0})
    max_length: Optional[int] = field(default=None, metadata={"minimum": 1})
    max_answer_tokens: int = field(default=30, metadata={"minimum": 1})
    no_answer_margin: Optional[float] = None
    top_k: int = field(default=1, metadata={"minimum": 1})

    KEYS: ClassVar[Tuple[str, str]] = ("question", "context")
    PAIR: ClassVar[Optional[bool]] = True

    @property
    def window_length(self) -> int:
        """Tokens of a window, at most."""
        return min(self.max_length or 384, self.manifest.model.max_length)

    def windows(self, text: str, pair: Optional[str]) -> Windows:
        """The question with each window of the context."""
        return self.tokenizer.encode_windows(text, pair or "", self.window_length, self.stride)

    def answer_characters(self, text: str, pair: Optional[str]) -> int:
        """Those of all spans: each may be the whole context."""
        length = len(pair or "")
        return min(self.top_k, length * min(self.max_answer_tokens, length)) * length

    def predict(self, texts: Sequence[Tuple[str, Optional[str]]]) -> List[Prediction]:
        """One answer per question and context."""
        return [self._answer(question, context or "") for question, context in texts]

    def _answer(self, question: str, context: str) -> Answer:
        windows = self.windows(question, context)
        spans: List[_Scored] = []
        no_answer: _Scored = (float("inf"), Answer("", 0.0, 0, 0))
        for batch in batches(windows):
            results = self.model.run_encodings(batch)
            for window, start, end in zip(batch, results["start_logits"], results["end_logits"]):
                found, null = self._spans(window, start, end, context)
                # Those that are behind already are let go: together all windows may find very many.
                spans = _distinct(sorted(spans + found, key=lambda scored: -scored[0]))[: self.top_k]
                no_answer = min(no_answer, null, key=lambda scored: scored[0])
        margin = self.no_answer_margin
        beaten = margin is not None and spans and spans[0][0] < no_answer[0] + margin
        answers = [answer for _, answer in spans]
        if not answers or beaten:
            return replace(no_answer[1], alternatives=tuple(answers))
        return replace(answers[0], alternatives=tuple(answers[1:]))

    def _spans(
        self, window: Encoding, start: np.ndarray, end: np.ndarray, context: str
    ) -> Tuple[List[_Scored], _Scored]:
        """The ``top_k`` best spans of one window, and no answer as it scores there."""
        positions = [position for position, sequence in enumerate(window.sequences) if sequence == 1]
        chosen = [0, *positions]
        probabilities = softmax(start[chosen]), softmax(end[chosen])
        nothing = Answer("", float(probabilities[0][0] * probabilities[1][0]), 0, 0)
        null = (float(start[0]) + float(end[0]), nothing)
        if not positions:
            return [], null
        first, last = positions[0], positions[-1] + 1
        starts, ends = start[first:last].astype(np.float64), end[first:last].astype(np.float64)
        sums = starts[:, None] + ends[None, :]
        length = np.arange(len(positions))[None, :] - np.arange(len(positions))[:, None]
        sums[(length < 0) | (length >= self.max_answer_tokens)] = -np.inf
        spans: List[_Scored] = []
        for flat in np.argsort(-sums, axis=None, kind="stable")[: self.top_k]:
            i, j = divmod(int(flat), len(positions))
            if not np.isfinite(sums[i, j]):
                break
            a, b = window.offsets[first + i][0], window.offsets[first + j][1]
            score = float(probabilities[0][1 + i] * probabilities[1][1 + j])
            spans.append((float(sums[i, j]), Answer(context[a:b], score, a, b)))
        return spans, null


def _distinct(ranked: Sequence[_Scored]) -> List[_Scored]:
    """Drop spans that an overlapping window has found already."""
    seen = set()
    kept: List[_Scored] = []
    for total, answer in ranked:
        if (answer.start, answer.end) not in seen:
            seen.add((answer.start, answer.end))
            kept.append((total, answer))
    return kept
