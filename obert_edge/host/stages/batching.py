"""From features to padded tensors, and from a model to answers."""

from __future__ import annotations

import inspect
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import Dataset, Sampler

from obert_edge.host.data import Answer, Feature
from obert_edge.host.data.base import IGNORED
from obert_edge.host.data.embedding import PROMPT_TOKENS
from obert_edge.host.pruning.distillation import LABEL_KEYS
from obert_edge.progress import Progress

#: Outputs [batch, tokens], with one value per token; any other output of two axes has one row per sequence.
_PER_TOKEN = ("start_logits", "end_logits")
#: Rows of so many batches are sorted by length together: enough for batches of like lengths, few enough that
#: the order stays random.
_BATCHES_SORTED_TOGETHER = 50


#: From the outputs of a model and the batch they are of to the arrays of answers by name, one row for each.
AnswerReader = Callable[[Any, Mapping[str, torch.Tensor]], Mapping[str, torch.Tensor]]


class FeatureDataset(Dataset):  # type: ignore[type-arg]
    """Features as a map-style data set; keys of the task's own, which start with ``_``, are dropped.

    Args:
        features: the rows.
        augment: turns a row into what the model sees of it in one epoch; see :meth:`Task.augment`.
    """

    def __init__(
        self, features: Sequence[Feature], augment: Optional[Callable[[Feature, int], Feature]] = None
    ) -> None:
        self._features = [
            {key: value for key, value in feature.items() if not key.startswith("_")} for feature in features
        ]
        self._augment = augment
        self.lengths = [len(feature["input_ids"]) for feature in features]

    def __len__(self) -> int:
        return len(self._features)

    def __getitem__(self, index: int) -> Feature:
        """Row ``index % len``; ``augment`` gets the whole ``index``, so that it can differ between epochs."""
        feature = self._features[index % len(self._features)]
        return feature if self._augment is None else self._augment(feature, index)


class LengthGroupedSampler(Sampler[int]):
    """A random order in which rows of similar length come together, so that padding is small.

    The order follows from seed and epoch alone: transformers' own sampler takes it from the global
    random state, which a resumed run does not have at the start of an epoch.

    Args:
        lengths: tokens of each row.
        group: rows of one batch.
        seed: seed of the order, together with the epoch.
    """

    def __init__(self, lengths: Sequence[int], group: int, seed: int) -> None:
        self._lengths = np.asarray(lengths)
        self._group = group
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next iteration is."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        """Indices plus ``epoch * rows``, by which :class:`FeatureDataset` tells epochs apart."""
        chance = np.random.default_rng((self._seed, self._epoch))
        order = chance.permutation(len(self._lengths))
        pool = self._group * _BATCHES_SORTED_TOGETHER
        batches: List[NDArray[np.int64]] = []
        for start in range(0, len(order), pool):
            rows = order[start : start + pool]
            rows = rows[np.argsort(-self._lengths[rows], kind="stable")]
            batches += [rows[at : at + self._group] for at in range(0, len(rows), self._group)]
        whole = [batch for batch in batches if len(batch) == self._group]
        rest = [batch for batch in batches if len(batch) < self._group]
        chosen = [whole[i] for i in chance.permutation(len(whole))] + rest
        for batch in chosen:
            for row in batch:
                yield int(row) + self._epoch * len(self._lengths)


class PadCollator:
    """Pad a batch to its own longest row.

    Args:
        pad_token_id: written into ``input_ids`` where ``attention_mask`` is 0.
    """

    def __init__(self, pad_token_id: int = 0) -> None:
        self.pad_token_id = pad_token_id

    def __call__(self, features: Sequence[Feature]) -> Dict[str, torch.Tensor]:
        """Features to tensors: ``input_ids``, ``attention_mask`` int64[batch, longest], and labels."""
        length = max(len(feature["input_ids"]) for feature in features)
        batch: Dict[str, torch.Tensor] = {}
        for key in (key for key in features[0] if not key.startswith("_")):
            values = [feature[key] for feature in features]
            if isinstance(values[0], list):
                fill = self._fill(key)
                batch[key] = torch.tensor([value + [fill] * (length - len(value)) for value in values])
            else:
                batch[key] = torch.tensor(values)
        sizes = torch.tensor([len(feature["input_ids"]) for feature in features])
        batch["attention_mask"] = (torch.arange(length)[None, :] < sizes[:, None]).long()
        return batch

    def _fill(self, key: str) -> int:
        return {"input_ids": self.pad_token_id, "labels": IGNORED}.get(key, 0)


def inputs_alone(
    model: nn.Module, batches: Iterable[Mapping[str, torch.Tensor]]
) -> Iterator[Dict[str, torch.Tensor]]:
    """Batches without labels, and without what the model does not take."""
    accepted = set(inspect.signature(model.forward).parameters) - LABEL_KEYS
    for batch in batches:
        yield {key: value for key, value in batch.items() if key in accepted}


def answer_features(
    model: nn.Module,
    features: Sequence[Feature],
    *,
    pad_token_id: int = 0,
    batch_size: int = 32,
    precision: str = "fp32",
    condense: Optional[Callable[[Feature, Answer], Answer]] = None,
    read: Optional[AnswerReader] = None,
    progress: Optional[Progress] = None,
) -> List[Answer]:
    """Run a model over features, longest first so that padding is small; answers in feature order.

    The model is put in evaluation mode and left as it was found. ``condense`` makes an answer smaller
    before it is kept; see :meth:`Task.condense`. ``read`` makes answers of outputs; default: the logits.
    ``progress`` is told how many features are answered.
    """
    accepted = inspect.signature(model.forward).parameters
    collate = PadCollator(pad_token_id)
    order = sorted(range(len(features)), key=lambda i: -len(features[i]["input_ids"]))
    answers: List[Optional[Answer]] = [None] * len(features)
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            for start in range(0, len(order), batch_size):
                chosen = order[start : start + batch_size]
                batch = {k: v.to(device) for k, v in collate([_inputs(features[i]) for i in chosen]).items()}
                output = model(**{k: v for k, v in batch.items() if k in accepted})
                arrays = _arrays(output if read is None else read(output, batch), "" if read else "logits")
                for row, index in enumerate(chosen):
                    answer = _unpad(arrays, row, len(features[index]["input_ids"]))
                    answers[index] = condense(features[index], answer) if condense else answer
                if progress is not None:
                    progress("answering", start + len(chosen), len(order))
    finally:
        model.train(was_training)
    return [answer for answer in answers if answer is not None]


def _inputs(feature: Feature) -> Feature:
    return {key: feature[key] for key in ("input_ids", "token_type_ids", PROMPT_TOKENS) if key in feature}


def _arrays(output: Mapping[str, Any], ending: str) -> Dict[str, NDArray[np.float32]]:
    return {key: value.float().cpu().numpy() for key, value in output.items() if key.endswith(ending)}


def _unpad(arrays: Mapping[str, NDArray[np.float32]], row: int, length: int) -> Answer:
    return {
        key: value[row, :length] if key in _PER_TOKEN or value.ndim == 3 else value[row]
        for key, value in arrays.items()
    }
