"""The texts a build finds ranges with, and measures the bundle on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple, Union

from obert_edge.errors import DataError
from obert_edge.host.checkpoints.checkpoint import Checkpoint
from obert_edge.host.checkpoints.model_config import ModelConfig
from obert_edge.host.checkpoints.tokenizer_files import has_tokenizer

_log = logging.getLogger(__name__)

#: A text, or a pair of them.
Text = Union[str, Tuple[str, str]]
#: A file that ``obert_edge.calibration.read_texts`` reads, or the texts themselves.
Texts = Union[str, Path, Sequence[Text]]

#: What a model is run on: keyword arguments of its forward pass, int64 tensors ``[texts, tokens]``.
Batch = Dict[str, Any]

#: Texts are cut to so many tokens.
_LONGEST = 128
#: Fewer calibration texts than these are likely to miss what the model will meet.
_FEW = 16
#: So many of the given texts, evenly spread, are measured on, beside the built-in ones.
_MEASURED = 32
#: Batches of random token ids that a model without a tokenizer is calibrated on.
_RANDOM_BATCHES = 4

#: What a model is calibrated with when nobody gives texts: short and long, plain and odd.
DEFAULT_TEXTS = (
    "The film is a gripping, funny and deeply human story about two brothers who lose everything.",
    "I would not recommend this restaurant: the soup was cold and nobody came to take our order.",
    "How many people lived in the city at the beginning of the nineteenth century?",
    "The committee will meet again on 14 March 2019 to discuss the budget of 3.5 million euros.",
    "Returns the number of items in the list; raises an error if the list was never initialized.",
    "Oxygen is a chemical element with symbol O and atomic number 8, and a highly reactive nonmetal.",
    "Yes.",
    "She had walked along the river for an hour before she noticed that the bridge was closed, and that "
    "the only way back led through the old town, where the market was already packing up for the night.",
    "Dear Mr. O'Neill, thank you for your letter! We've attached the signed contract (see page 12).",
    "Barcelona beat Real Madrid 3-1 on Saturday, with two goals in the last ten minutes of the match.",
    "Is it possible to change the password without the old one? I forgot mine, and support is closed.",
    "In 1687 Isaac Newton published the Principia, in which he described universal gravitation and the "
    "three laws of motion, laying the groundwork for most of classical mechanics.",
    "The patient was given 20 mg of the drug twice a day; no side effects were observed.",
    "what a waste of time and money , the plot makes no sense and the acting is worse",
    "Stock markets fell sharply after the central bank announced that interest rates would rise again.",
    "Photosynthesis converts light energy into chemical energy that is stored in carbohydrate molecules.",
)


def calibration_batches(checkpoint: Checkpoint, config: ModelConfig, texts: Optional[Texts]) -> List[Batch]:
    """What to find activation ranges on; says in the log where that is less than it should be.

    Args:
        checkpoint: the model folder, with its tokenizer.
        config: what is compiled of it.
        texts: what the user gives; None: :data:`DEFAULT_TEXTS`, or random ids where there is no tokenizer.

    Raises:
        DataError: the texts cannot be read, or the model has no tokenizer for them.
    """
    if not has_tokenizer(checkpoint.folder):
        _refuse_texts(checkpoint, texts)
        _log.warning(
            "%s has no tokenizer and no quantization.json: calibrating on random ids", checkpoint.folder
        )
        return _random_batches(config)
    if texts is None:
        _log.warning(
            "%s has no quantization.json: calibrating on %d built-in sentences; texts like yours "
            "(--calibration-data; in a recipe a train split, or build.calibration_data) will serve accuracy "
            "better",
            checkpoint.folder,
            len(DEFAULT_TEXTS),
        )
    chosen = _read(texts)
    if len(chosen) < _FEW:
        _log.warning("calibrating on only %d texts; some hundred like yours serve better", len(chosen))
    return _tokenized(checkpoint, config, [chosen, _default_pairs(config) if texts is None else ()])


def measured_batches(checkpoint: Checkpoint, config: ModelConfig, texts: Optional[Texts]) -> List[Batch]:
    """What to compare the bundle and the model on: some of the user's texts, and the built-in ones.

    The built-in ones show ranges that fit the calibration texts and little else.

    Raises:
        DataError: the texts cannot be read, or the model has no tokenizer for them.
    """
    if not has_tokenizer(checkpoint.folder):
        _refuse_texts(checkpoint, texts)
        return _random_batches(config)
    chosen = [] if texts is None else _read(texts)
    step = max(1.0, len(chosen) / _MEASURED)
    some = [chosen[int(i * step)] for i in range(min(_MEASURED, len(chosen)))]
    return _tokenized(checkpoint, config, [some, DEFAULT_TEXTS, _default_pairs(config)])


def _default_pairs(config: ModelConfig) -> List[Text]:
    """The built-in texts two by two, for tasks whose inputs often are pairs, of two token types."""
    if config.task not in ("question-answering", "sequence-classification"):
        return []
    return list(zip(DEFAULT_TEXTS[::2], DEFAULT_TEXTS[1::2]))


def _refuse_texts(checkpoint: Checkpoint, texts: Optional[Texts]) -> None:
    if texts is not None:
        raise DataError(
            f"{checkpoint.folder} has no tokenizer for the calibration texts",
            hint="save the tokenizer into the model folder",
        )


def _read(texts: Optional[Texts]) -> Sequence[Text]:
    from obert_edge.calibration import read_texts

    if texts is None:
        return DEFAULT_TEXTS
    return read_texts(texts) if isinstance(texts, (str, Path)) else list(texts)


def _tokenized(checkpoint: Checkpoint, config: ModelConfig, sets: Sequence[Sequence[Text]]) -> List[Batch]:
    """Batches of several sets of texts, each of single texts or of pairs."""
    from transformers import AutoTokenizer

    from obert_edge import calibration

    tokenizer = AutoTokenizer.from_pretrained(checkpoint.folder, trust_remote_code=False)
    # Padding on the left would move positions and the first token, which the engine knows without padding.
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:  # the attention mask hides padding, so any token serves
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(checkpoint.config.get("pad_token_id") or 0)
    longest = min(_LONGEST, config.longest)
    return [
        batch
        for texts in sets
        if texts
        for batch in calibration.calibration_batches(texts, tokenizer, max_length=longest)
    ]


def _random_batches(config: ModelConfig) -> List[Batch]:
    import torch

    generator = torch.Generator().manual_seed(0)
    shape = (2, min(_LONGEST, config.longest))
    first = min(5, config.vocabulary - 1)  # leave out padding, which moves RoBERTa's positions
    batches: List[Batch] = [
        {"input_ids": torch.randint(first, config.vocabulary, shape, generator=generator)}
        for _ in range(_RANDOM_BATCHES)
    ]
    if config.type_vocabulary > 1:
        for batch in batches:
            batch["token_type_ids"] = torch.randint(0, config.type_vocabulary, shape, generator=generator)
    return batches
