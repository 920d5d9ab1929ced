"""Masked language modeling: the likeliest tokens of masked places."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, List, Optional, Sequence, Tuple

import numpy as np

from obert_edge.device.pipelines.base import Pipeline, Prediction, batches, softmax
from obert_edge.device.tokenizers.tokenizer import Encoding
from obert_edge.errors import InputError


@dataclass(frozen=True)
class Candidate:
    """A token for a masked place.

    Args:
        token: its spelling.
        id: its number in the vocabulary.
        score: its probability, 0..1.
        text: the text with the token in that place; one that goes on with a word stands right behind it.
    """

    token: str
    id: int
    score: float
    text: str


@dataclass(frozen=True)
class Fillings(Prediction):
    """What fits the masked places of a text.

    Args:
        masks: for each masked place, in order, its likeliest tokens, the best first.
    """

    masks: List[List[Candidate]]


@dataclass(frozen=True)
class MaskFiller(Pipeline):
    """Texts with ``[MASK]`` (or ``<mask>``) to candidates for each.

    Args:
        top_k: candidates per masked place.
    """

    top_k: int = field(default=5, metadata={"minimum": 1})

    PAIR: ClassVar[Optional[bool]] = False

    def answer_characters(self, text: str, pair: Optional[str]) -> int:
        """Those of the text with each candidate in its place."""
        (encoding,) = self.encode([(text, pair)])
        candidates = min(self.top_k, self.manifest.model.vocabulary)
        return encoding.ids.count(self._mask_id()) * candidates * len(text)

    def predict(self, texts: Sequence[Tuple[str, Optional[str]]]) -> List[Prediction]:
        """The candidates of each text."""
        encodings = self.encode(texts)
        mask = self._mask_id()
        for encoding in encodings:
            if mask not in encoding.ids:
                raise InputError(
                    f"a text has no {self.tokenizer.token(mask)} in its first {len(encoding)} tokens",
                    hint=f"put {self.tokenizer.token(mask)} where a token is to be filled in",
                )
        results: List[Prediction] = []
        for batch in batches(list(zip(texts, encodings))):
            logits = self.model.run_encodings([encoding for _, encoding in batch])["logits"]
            for ((text, _), encoding), rows in zip(batch, logits):
                results.append(self._fill(text, encoding, rows, mask))
        return results

    def _fill(self, text: str, encoding: Encoding, logits: np.ndarray, mask: int) -> Fillings:
        places = []
        for position in [at for at, identifier in enumerate(encoding.ids) if identifier == mask]:
            probabilities = softmax(logits[position])
            best = np.argsort(-probabilities, kind="stable")[: self.top_k]
            start, end = encoding.offsets[position]
            if self.tokenizer.marks_spaces:  # a mask such as RoBERTa's takes the space before it, too
                start = encoding.offsets[position - 1][1] if position else 0
            candidates = []
            for identifier in map(int, best):
                token = self.tokenizer.token(identifier)
                filled = self._joined(text[:start], identifier) + text[end:]
                candidates.append(Candidate(token, identifier, float(probabilities[identifier]), filled))
            places.append(candidates)
        return Fillings(places)

    def _joined(self, before: str, identifier: int) -> str:
        """A text with a token behind it: right behind where it goes on with a word."""
        token, mark = self.tokenizer.text_of(identifier), self.tokenizer.continuation_mark
        if mark and token.startswith(mark) and before.strip():
            return before.rstrip() + token[len(mark) :]
        if token.startswith(" "):
            return (before.rstrip(" ") + token) if before.strip() else before + token.lstrip(" ")
        return before + token

    def _mask_id(self) -> int:
        named = (self.manifest.tokenizer.get("special_tokens") or {}).get("mask_token")
        for spelling in (named, "[MASK]", "<mask>"):
            identifier = self.tokenizer.token_id(spelling) if spelling else None
            if identifier is not None:
                return identifier
        raise InputError(
            "this bundle's tokenizer has no mask token", hint="use `Session.run` with token ids instead"
        )
