"""Embeddings: texts to learn from a dense model with, and pairs of texts to score with.

Nothing is labeled: an embedder learns from the vectors that the dense model gives, so texts are all that
training needs. Pairs, scored or not, say how good the embeddings are.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from obert_edge.device.pipelines.ranking import similarities
from obert_edge.errors import DataError, UsageError
from obert_edge.host.data import metrics
from obert_edge.host.data.base import ENCODER, Answer, Feature, Task, Text, truncate
from obert_edge.host.data.classification import Example, texts_of
from obert_edge.host.data.held_out import with_dev, with_tune
from obert_edge.host.data.tables import (
    HUB,
    TABLE_SUFFIXES,
    Row,
    find_splits,
    hub_rows,
    is_number,
    no_column,
    open_text,
    read_rows,
    text_of,
)

#: The answer of an embedder to one text: float32 [channels].
EMBEDDING = "embedding"
#: Key of a feature: the tokens at its start that are not pooled.
PROMPT_TOKENS = "prompt_tokens"
#: Columns that hold texts, where none are named; of these the first that a file has.
TEXT_COLUMNS = (
    ("text",),
    ("sentence1", "sentence2"),
    ("anchor", "positive"),
    ("query", "passage"),
    ("query", "answer"),
    ("question", "answer"),
    ("question", "sentence"),
    ("sentence",),
)
#: Columns that hold the score of a pair, where none is named.
SCORE_COLUMNS = ("score", "label", "similarity_score", "similarity")

_TEXT_SUFFIXES = (".txt", ".txt.gz")
#: Rows of a single file that become split ``dev``, at most.
_DEV_ROWS = 1000
#: Share of the highest score from which on the texts of a pair count as each other's answer.
_ALIKE = 0.8
#: Texts tokenized at once, and vectors compared with all others at once.
_CHUNK, _ROWS = 4096, 256

Floats = NDArray[np.float32]


class Prompts(NamedTuple):
    """What an embedder puts before texts.

    Attributes:
        by_name: its prompts.
        default: the name of the one for texts without another; empty: none.
        pooled: whether the tokens of a prompt count in the pooling.
        similarity: how it compares embeddings, as a bundle's manifest names it; empty: by their cosine.
    """

    by_name: Mapping[str, str]
    default: str = ""
    pooled: bool = True
    similarity: str = ""


class _Text(NamedTuple):
    """A text with the prompt it gets, the first or the second of those asked for."""

    text: str
    side: int


class Embeddings(Task):
    """Texts and pairs for an embedder.

    Args:
        splits: rows of one text or two; the label is the score of a pair, ``None`` where there is none.
        unrelated: splits whose pairs may be of unlike texts without a score that says so: no retrieval.
        prompt_names: the model's prompts to put before texts; two: before the first and the second of a pair,
            and in turn before single texts; empty: the model's default.
    """

    name = "embedding"
    head = ENCODER
    metric = "spearman"
    #: As long as the model takes.
    default_length = 512

    def __init__(
        self,
        splits: Mapping[str, Sequence[Example]],
        *,
        unrelated: Sequence[str] = (),
        prompt_names: Sequence[str] = (),
    ) -> None:
        if len(prompt_names) > 2:
            raise UsageError(
                f"--prompt-name names {len(prompt_names)} prompts: {', '.join(prompt_names)}",
                hint="name one for all texts, or two for the first and the second text of a pair",
            )
        self._splits = dict(splits)
        self._unrelated = frozenset(unrelated)
        self.prompt_names = tuple(prompt_names)
        self._prompts: Tuple[str, ...] = ("",)
        self._pools_prompt = True
        self._similarity = ""

    @property
    def labeled(self) -> bool:
        """There is always the dense model to learn from."""
        return True

    def describe(self) -> str:
        """How many texts there are, and pairs."""
        parts = []
        for split, rows in self._splits.items():
            scored = sum(row.label is not None for row in rows)
            kind = "scored pairs" if scored else "pairs" if self._paired(split) else "texts"
            parts.append(f"{len(rows):,} {kind} in {split}")
        return f"{self.name}: {', '.join(parts)}"

    @property
    def splits(self) -> Tuple[str, ...]:
        """The splits there is data for."""
        return tuple(self._splits)

    def rows(self, split: str) -> Sequence[object]:
        """See :meth:`Task.rows`."""
        return self.examples(split)

    def texts_of(self, row: Example) -> Sequence[Text]:
        """The texts of a row, each of which is embedded alone."""
        return [text for text in row.texts if text.strip()]

    def examples(self, split: str) -> Sequence[Example]:
        """The rows of a split."""
        self.require(split)
        return self._splits[split]

    def identity(self) -> List[Any]:
        """See :meth:`Task.identity`; what is put before texts counts, too."""
        return [*super().identity(), list(self.prompt_names), list(self._prompts), self._pools_prompt]

    def for_embedder(self, prompts: Prompts, where: str) -> Embeddings:
        """The same task for a model with these prompts.

        Args:
            prompts: those of the model.
            where: the model, for messages.

        Raises:
            UsageError: it has no such prompt.
        """
        unknown = [name for name in self.prompt_names if name not in prompts.by_name]
        if unknown:
            raise UsageError(
                f"{where} has no prompt {unknown[0]!r}; it has {', '.join(prompts.by_name) or 'none'}",
                hint="name one of these with --prompt-name, or leave it out",
            )
        fitted = copy.copy(self)
        names = self.prompt_names or ((prompts.default,) if prompts.default else ())
        texts = tuple(prompts.by_name[name] for name in names) or ("",)
        # Two prompts of the same text are one, so that no text is embedded twice.
        fitted._prompts = tuple(dict.fromkeys(texts))
        fitted._pools_prompt = prompts.pooled
        fitted._similarity = prompts.similarity
        fitted._classes = ()
        return fitted

    def features(
        self,
        split: str,
        tokenizer: Tokenizer,
        *,
        max_length: Optional[int] = None,
        limit: Optional[int] = None,
    ) -> List[Feature]:
        """A feature for every different text; see :meth:`Task.features`."""
        self.require(split)
        truncate(tokenizer, max_length or self.default_length)
        texts: Dict[_Text, Feature] = {}
        for number, row in enumerate(self._splits[split][:limit]):
            for place, text in enumerate(row.texts):
                if not text.strip():
                    continue
                turn = number if len(row.texts) == 1 else place
                key = _Text(text, turn % len(self._prompts))
                feature = texts.setdefault(key, {"_id": f"{row.id}.{place + 1}", "_at": [], "_key": key})
                feature["_at"].append((number, place))
        features = list(texts.values())
        skipped = [self._tokens_of(prompt, tokenizer) for prompt in self._prompts]
        for start in range(0, len(features), _CHUNK):
            chunk = features[start : start + _CHUNK]
            keys = [feature["_key"] for feature in chunk]
            encodings = tokenizer.encode_batch([self._prompts[key.side] + key.text for key in keys])
            for feature, key, encoding in zip(chunk, keys, encodings):
                feature.update(input_ids=encoding.ids, token_type_ids=encoding.type_ids)
                if not self._pools_prompt:
                    # A text that is cut within its prompt is pooled over its last token.
                    feature[PROMPT_TOKENS] = min(skipped[key.side], len(encoding.ids) - 1)
        return features

    def score(self, split: str, features: Sequence[Feature], answers: Sequence[Answer]) -> Dict[str, float]:
        """Spearman's correlation with the scores, and how well one text of a pair finds the other.

        ``recall_at_1`` and ``mrr`` (the mean of one over the rank) look for the second text of a pair among
        all other texts of the split. Of scored pairs those count whose score is at least 80 % of the highest.

        Raises:
            DataError: there are no pairs.
        """
        vectors = vectors_of(answers)
        rows = self._splits[split]
        pairs: Dict[int, Dict[int, int]] = {}
        for index, feature in enumerate(features):
            for number, place in feature["_at"]:
                pairs.setdefault(number, {})[place] = index
        whole = {number: (found[0], found[1]) for number, found in pairs.items() if len(found) == 2}
        labels = {number: _score(rows[number]) for number in whole}
        scores = {number: score for number, score in labels.items() if score is not None}
        found: Dict[str, float] = {}
        if len(set(scores.values())) > 1:
            first, second = (np.array([whole[number][side] for number in scores]) for side in (0, 1))
            alike = _pairwise(self._similarity, vectors[first], vectors[second])
            found["spearman"] = metrics.spearman(alike, np.array(list(scores.values())))
        if self._paired(split):
            least = _ALIKE * max(scores.values()) if scores else 0.0
            right = [whole[n] for n in whole if n not in scores or scores[n] >= least]
            right = [(one, other) for one, other in right if one != other]
            if right:
                ranks = _ranks(self._similarity, vectors, right)
                found["recall_at_1"] = 100.0 * float(np.mean(ranks == 1))
                found["mrr"] = 100.0 * float(np.mean(1.0 / ranks))
        return found

    def compare(self, ours: Sequence[Answer], theirs: Sequence[Answer]) -> Dict[str, float]:
        """How near embeddings are to those of another model, for the same texts.

        Returns:
            ``mean_cosine`` and ``least_cosine``, times 100, where both are as wide; and ``same_nearest``, the
            percentage of texts whose nearest other text is that of the other model.
        """
        mine, other = vectors_of(ours), vectors_of(theirs)
        found: Dict[str, float] = {}
        if mine.shape == other.shape:
            cosines = np.sum(_unit(mine) * _unit(other), axis=1)
            found = {
                "mean_cosine": 100.0 * float(cosines.mean()),
                "least_cosine": 100.0 * float(cosines.min()),
            }
        if len(mine) > 2:
            same = _nearest(self._similarity, mine) == _nearest(self._similarity, other)
            found["same_nearest"] = 100.0 * float(np.mean(same))
        return found

    def predictions(
        self, split: str, features: Sequence[Feature], answers: Sequence[Answer]
    ) -> List[Tuple[str, Any]]:
        """The row and the place of every text (``3.2``: the second of row 3), and its embedding as a list."""
        return [
            (feature["_id"], [float(value) for value in answer[EMBEDDING]])
            for feature, answer in zip(features, answers)
        ]

    def scores(self, split: str) -> bool:
        """Whether the pairs of a split have scores that differ."""
        return len({row.label for row in self._splits[split]} - {None}) > 1

    def _paired(self, split: str) -> bool:
        """Whether rows are pairs of which each text answers the other."""
        return split not in self._unrelated and any(len(row.texts) == 2 for row in self._splits[split])

    def _tokens_of(self, prompt: str, tokenizer: Tokenizer) -> int:
        """Tokens of a prompt at the start of a text, the special ones before it included."""
        if not prompt:
            return 0
        encoding = tokenizer.encode(prompt)
        return len(encoding.ids) - encoding.special_tokens_mask[-1]


def load_embedding(
    source: str,
    *,
    text_columns: Tuple[str, ...] = (),
    score_column: Optional[str] = None,
    prompt_names: Sequence[str] = (),
    tune: int = 0,
) -> Embeddings:
    """Texts and pairs from files.

    Args:
        source: a folder with ``train``, ``dev`` and ``test`` files, each a table or a ``.txt`` (a text per
            line); one file, of which a random tenth, 1000 rows at most, becomes ``dev``; or
            ``hub:owner/set[:configuration]``.
        text_columns: one column, or two for pairs; default: the first of :data:`TEXT_COLUMNS` in the file.
        score_column: the column with the score of a pair, a number; default: the first of
            :data:`SCORE_COLUMNS` in the file that holds numbers.
        prompt_names: see :class:`Embeddings`.
        tune: rows of train held out as split ``tune``.

    Raises:
        DataError: a file or a column is missing, or a score is no number.
        UsageError: there are too few rows to hold out, or too many prompts.
    """
    splits: Dict[str, List[Example]] = {}
    unrelated: List[str] = []
    for split, where, read in _sources(source):
        if isinstance(where, Path) and where.name.endswith(_TEXT_SUFFIXES):
            splits[split] = _lines(where)
            continue
        splits[split], alike = _examples(where, read(), text_columns, score_column)
        if not alike:
            unrelated.append(split)
    if list(splits) == ["train"]:
        unrelated += ["dev"] if unrelated else []
        splits = with_dev(splits, texts_of, most=_DEV_ROWS)
    if tune:
        unrelated += ["tune"] if "train" in unrelated else []
        splits = with_tune(splits, texts_of, tune)
    return Embeddings(splits, unrelated=unrelated, prompt_names=prompt_names)


def vectors_of(answers: Sequence[Answer]) -> Floats:
    """The embeddings of answers, float32 [texts, channels]."""
    return np.stack([np.asarray(answer[EMBEDDING], np.float32) for answer in answers])


def _sources(source: str) -> List[Tuple[str, object, Callable[[], List[Row]]]]:
    """Every split with the place of its rows and what reads them."""
    if source.startswith(HUB):
        name = source[len(HUB) :]
        found: List[Tuple[str, object, Callable[[], List[Row]]]] = []
        for split, theirs in (("train", "train"), ("dev", "validation"), ("test", "test")):
            try:
                rows = list(hub_rows(name, theirs))
            except DataError:
                if split == "train":
                    raise  # the others are optional
                continue
            found.append((split, f"{name} {theirs}", lambda rows=rows: rows))  # type: ignore[misc]
        return found
    path = Path(source)
    suffixes = (*TABLE_SUFFIXES, *_TEXT_SUFFIXES)
    files = {"train": path} if path.is_file() else find_splits(path, suffixes)
    return [(split, file, lambda file=file: list(read_rows(file))) for split, file in files.items()]  # type: ignore[misc]


def _lines(file: Path) -> List[Example]:
    with open_text(file) as stream:
        lines = [line.strip() for line in stream]
    found = [Example(str(number), (line,), None) for number, line in enumerate(lines, start=1) if line]
    if not found:
        raise DataError(f"{file} holds no text", hint="write one text per line")
    return found


def _examples(
    where: object, rows: List[Row], text_columns: Tuple[str, ...], score_column: Optional[str]
) -> Tuple[List[Example], bool]:
    """The rows of a table, and whether the texts of every pair belong together as far as their scores say."""
    names = rows[0][1]
    columns = text_columns or next((c for c in TEXT_COLUMNS if all(name in names for name in c)), ())
    if not columns:
        known = "; ".join(", ".join(found) for found in TEXT_COLUMNS)
        raise DataError(
            f"{where}: no column is known to hold texts; there are {', '.join(map(str, names))}, and known "
            f"are {known}",
            hint="name the column, or the two columns of pairs, with --text-column",
        )
    labels = next((c for c in ([score_column] if score_column else SCORE_COLUMNS) if c in names), None)
    if score_column and labels is None:
        raise DataError(
            no_column(rows[0], score_column, where).message,
            hint="name the column of the score with --label-column, or leave it out",
        )
    scores: List[Optional[float]] = [None] * len(rows)
    if labels is not None and len(columns) == 2:
        scores = [_number(row[1].get(labels)) for row in rows]
        wrong = next((row for row, score in zip(rows, scores) if score is None), None)
        if wrong is not None and score_column:
            raise DataError(
                f"{where}, line {wrong[0]}: column {labels!r} holds {wrong[1].get(labels)!r}; expected a "
                "number",
                hint="write how alike the texts are as a number, or name another --label-column",
            )
        if wrong is not None:
            scores = [None] * len(rows)
    found = [
        Example(str(row[0]), tuple(text_of(row, name, where) for name in columns), score)
        for row, score in zip(rows, scores)
    ]
    if not any(text.strip() for example in found for text in example.texts):
        raise DataError(
            f"{where}: {' and '.join(map(repr, columns))} is empty in every row",
            hint="name the column of the text with --text-column, or write the texts into it",
        )
    # A label that is no score may say that the texts of a pair do not belong together.
    return found, labels is None or scores[0] is not None


def _number(value: Any) -> Optional[float]:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if is_number(number) and not isinstance(value, bool) else None


def _score(row: Example) -> Optional[float]:
    return None if row.label is None else float(row.label)  # type: ignore[arg-type]


def _unit(vectors: Floats) -> NDArray[np.float64]:
    wide = vectors.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    return np.asarray(wide / np.maximum(lengths, 1e-12))


def _pairwise(similarity: str, left: Floats, right: Floats) -> Floats:
    """How alike two vectors are, row by row; more is more alike."""
    found = [
        similarities(similarity, left[at : at + _ROWS], right[at : at + _ROWS]).diagonal()
        for at in range(0, len(left), _ROWS)
    ]
    return np.concatenate(found)


def _table(similarity: str, vectors: Floats, rows: NDArray[np.int64]) -> Floats:
    """Some vectors against all: [rows, texts], a text never alike itself."""
    found = np.array(similarities(similarity, vectors[rows], vectors))
    found[np.arange(len(rows)), rows] = -np.inf
    return found


def _ranks(similarity: str, vectors: Floats, pairs: Sequence[Tuple[int, int]]) -> NDArray[np.int64]:
    """The rank of the second text of every pair among all but the first, from 1."""
    ranks: List[int] = []
    for start in range(0, len(pairs), _ROWS):
        chunk = pairs[start : start + _ROWS]
        table = _table(similarity, vectors, np.array([one for one, _ in chunk]))
        wanted = table[np.arange(len(chunk)), [other for _, other in chunk]]
        ranks += (1 + (table > wanted[:, None]).sum(axis=1)).tolist()
    return np.array(ranks)


def _nearest(similarity: str, vectors: Floats) -> NDArray[np.int64]:
    """For every text the one that is most alike it."""
    found = [
        _table(similarity, vectors, np.arange(start, min(start + _ROWS, len(vectors)))).argmax(axis=1)
        for start in range(0, len(vectors), _ROWS)
    ]
    return np.concatenate(found)
