"""Masked language modeling on plain text, for pruning upstream, before any task (oBERT, section 4.2)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np
from tokenizers import Tokenizer

from obert_edge.errors import DataError
from obert_edge.host.data.base import IGNORED, MASKED_LM, Answer, Feature, Task, Text
from obert_edge.host.data.held_out import with_tune
from obert_edge.host.data.tables import find_splits, open_text

#: BERT's masking (Devlin et al. 2018, section 3.1): the share of tokens that is chosen; of those, the share
#: that becomes [MASK], and the share that becomes a random token. The others stay, and are predicted too.
_SHARE, _MASKED, _RANDOM = 0.15, 0.8, 0.1
_SUFFIXES = (".txt", ".txt.gz")
#: Of a single file, every tenth line becomes split ``dev``.
_DEV_EVERY = 10
#: Lines tokenized at once: bounds the memory of encodings, keeps all cores busy.
_CHUNK = 512


class MaskedLanguageModel(Task):
    """Predict masked tokens of running text.

    Lines are joined and cut into rows of the full length. Which tokens of a row are masked follows
    from the row and the epoch alone, so a run that is resumed sees what it would have seen; rows of
    other splits than ``train`` always have the same ones.

    Args:
        splits: lines of text by split.
    """

    def __init__(self, splits: Mapping[str, Sequence[str]]) -> None:
        self.name, self.head, self.metric = "mlm", MASKED_LM, "accuracy"
        self._splits = dict(splits)
        self._mask_id, self._vocabulary = 0, 0
        self._special: frozenset[int] = frozenset()

    @property
    def splits(self) -> Tuple[str, ...]:
        """The splits there is text for."""
        return tuple(self._splits)

    def rows(self, split: str) -> Sequence[object]:
        """The lines of a split."""
        self.require(split)
        return self._splits[split]

    def texts_of(self, row: str) -> Sequence[Text]:
        """A line as it is."""
        return [row]

    def features(
        self,
        split: str,
        tokenizer: Tokenizer,
        *,
        max_length: Optional[int] = None,
        limit: Optional[int] = None,
    ) -> List[Feature]:
        """Rows of ``max_length`` tokens; ``limit`` counts rows. See :meth:`Task.features`."""
        self.require(split)
        first, last = self._ends(tokenizer)
        room = (max_length or self.default_length) - 2
        rows: List[List[int]] = []
        held: List[int] = []
        lines = self._splits[split]
        for start in range(0, len(lines), _CHUNK):
            for encoding in tokenizer.encode_batch(
                list(lines[start : start + _CHUNK]), add_special_tokens=False
            ):
                held += [*encoding.ids, last]
            while len(held) >= room:
                rows.append([first, *held[:room], last])
                held = held[room:]
            if limit is not None and len(rows) >= limit:
                break
        if len(held) > 1 and (limit is None or len(rows) < limit):
            rows.append([first, *held[:room]] if held[-1] == last else [first, *held[:room], last])
        features = [
            {"input_ids": row, "token_type_ids": [0] * len(row), "_id": str(index)}
            for index, row in enumerate(rows[:limit])
        ]
        if split == "train":
            return features
        return [self.augment(feature, index) for index, feature in enumerate(features)]

    def augment(self, feature: Feature, seed: int) -> Feature:
        """The row with tokens masked, and ``labels`` of those (-100 elsewhere)."""
        ids = np.array(feature["input_ids"])
        chance = np.random.default_rng((seed, len(ids)))
        eligible = np.flatnonzero(~np.isin(ids, list(self._special)))
        count = min(len(eligible), max(1, round(_SHARE * len(eligible))))
        chosen = chance.permutation(eligible)[:count]
        labels = np.full(len(ids), IGNORED)
        labels[chosen] = ids[chosen]
        fate = chance.random(count)
        ids[chosen[fate < _MASKED]] = self._mask_id
        other = chosen[(fate >= _MASKED) & (fate < _MASKED + _RANDOM)]
        ids[other] = chance.integers(0, self._vocabulary, len(other))
        return {**feature, "input_ids": ids.tolist(), "labels": labels.tolist()}

    def condense(self, feature: Feature, answer: Answer) -> Answer:
        """The logits of masked tokens alone; those of all tokens would not fit into memory."""
        chosen = np.flatnonzero(np.array(feature["labels"]) != IGNORED)
        return {"logits": np.asarray(answer["logits"])[chosen]}

    def score(self, split: str, features: Sequence[Feature], answers: Sequence[Answer]) -> Dict[str, float]:
        """Share of masked tokens that are found, in percent, and the perplexity of the right one."""
        right, loss, total = 0, 0.0, 0
        for feature, answer in zip(features, answers):
            labels = np.array(feature["labels"])
            labels = labels[labels != IGNORED]
            logits = np.asarray(answer["logits"], np.float64)
            right += int((logits.argmax(axis=-1) == labels).sum())
            largest = logits.max(axis=-1)
            normalizer = largest + np.log(np.exp(logits - largest[:, None]).sum(axis=-1))
            loss += float((normalizer - logits[np.arange(len(labels)), labels]).sum())
            total += len(labels)
        if total == 0:
            raise DataError(
                f"split {split!r} has no token that could be masked and found",
                hint="pass texts whose words the tokenizer knows",
            )
        return {
            "accuracy": 100.0 * right / total,
            "perplexity": float(np.exp(min(loss / total, 700.0))),
        }

    def predictions(
        self, split: str, features: Sequence[Feature], answers: Sequence[Answer]
    ) -> List[Tuple[str, Any]]:
        """Per row its id, and the ids of the tokens predicted for its masked ones."""
        return [
            (feature["_id"], np.asarray(answer["logits"]).argmax(axis=-1).tolist())
            for feature, answer in zip(features, answers)
        ]

    def _ends(self, tokenizer: Tokenizer) -> Tuple[int, int]:
        """The ids that begin and end a row. Also remembers what :meth:`augment` needs of the tokenizer."""
        for first, last, mask in (("[CLS]", "[SEP]", "[MASK]"), ("<s>", "</s>", "<mask>")):
            found = [tokenizer.token_to_id(token) for token in (first, last, mask)]
            ids = [identifier for identifier in found if identifier is not None]
            if len(ids) == len(found):
                others = [tokenizer.token_to_id(token) for token in ("[PAD]", "[UNK]", "<pad>", "<unk>")]
                self._mask_id, self._vocabulary = ids[2], tokenizer.get_vocab_size()
                self._special = frozenset(i for i in (*ids, *others) if i is not None)
                return ids[0], ids[1]
        raise DataError(
            "the tokenizer has no [MASK] token, and masked language modeling needs one",
            hint="use the tokenizer of a masked language model, such as BERT's or RoBERTa's",
        )


def load_mlm(source: Path, *, tune: int = 0) -> MaskedLanguageModel:
    """A masked language modeling task from plain text, one passage per line.

    Args:
        source: a folder with ``train.txt`` and optionally ``dev.txt`` (or ``.txt.gz``, or another usual name
            of the split), or one file, of which every tenth line becomes ``dev``.
        tune: lines of train held out as split ``tune``.

    Raises:
        DataError: there is no such text, or it is empty.
        UsageError: there are too few lines to hold some out.
    """
    source = Path(source)
    splits: Dict[str, List[str]] = {}
    if source.is_dir():
        splits = {split: _lines(path) for split, path in find_splits(source, _SUFFIXES).items()}
    else:
        splits["train"] = _lines(source)
    if "train" not in splits:
        raise DataError(
            f"{source} holds no train.txt", hint="give a text file, or a folder with train.txt and dev.txt"
        )
    if list(splits) == ["train"] and len(splits["train"]) > 1:
        lines = splits["train"]
        every = min(_DEV_EVERY, len(lines))
        splits["dev"] = lines[every - 1 :: every]
        splits["train"] = [line for index, line in enumerate(lines) if (index + 1) % every]
    return MaskedLanguageModel(with_tune(splits, str, tune))


def _lines(path: Path) -> List[str]:
    with open_text(path) as stream:
        lines = [line.strip() for line in stream]
    lines = [line for line in lines if line]
    if not lines:
        raise DataError(f"{path} holds no text", hint="write one passage per line")
    return lines
