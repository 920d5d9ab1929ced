"""Where a build gets its activation ranges: given, read from the model folder, or found by calibration."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Dict, List, Optional, Union

from obert_edge.errors import DataError, UsageError
from obert_edge.host.architectures.base import Norm
from obert_edge.host.checkpoints.checkpoint import Checkpoint
from obert_edge.host.checkpoints.model_config import ModelConfig
from obert_edge.host.checkpoints.quantization_format import (
    EMBEDDINGS,
    OPERANDS,
    input_quantizer,
    operand_quantizer,
)
from obert_edge.host.checkpoints.scales import Scales
from obert_edge.host.checkpoints.tokenizer_files import has_tokenizer

_log = logging.getLogger(__name__)

#: A file that ``obert_edge.calibration.read_texts`` reads, or the texts themselves.
Texts = Union[str, Path, Sequence[str]]

#: Calibration texts are cut to so many tokens.
_LONGEST = 128
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


def find_scales(
    checkpoint: Checkpoint,
    config: ModelConfig,
    *,
    ranges: Optional[Mapping[str, Any]] = None,
    calibration: Optional[Texts] = None,
    embeddings: Optional[str] = None,
) -> Scales:
    """The quantization parameters to compile a model with.

    Args:
        checkpoint: the model folder.
        config: what is compiled of it.
        ranges: the content of a ``quantization.json``, taken before everything else.
        calibration: texts to calibrate with, or a file of them; default: ``quantization.json`` of the
            folder, then the scales among its weights (SparseML), then :data:`DEFAULT_TEXTS`.
        embeddings: ``int8`` or ``int4``, in place of what the model was quantized with.

    Raises:
        UsageError: calibration is needed, but torch and transformers are not installed; both
            ``ranges`` and ``calibration`` are given; or there are no such ``embeddings``.
        DataError: the texts cannot be read, or the model has no tokenizer for them.
        CheckpointError: ``quantization.json`` is not as documented.
    """
    if embeddings not in (None, *EMBEDDINGS):
        raise UsageError(
            f"embeddings is {embeddings!r}; expected one of {', '.join(EMBEDDINGS)}",
            hint="leave it out to keep what the model was quantized with",
        )
    found = _find_scales(checkpoint, config, ranges, calibration, embeddings or EMBEDDINGS[0])
    return found if embeddings is None else dataclasses.replace(found, embeddings=embeddings)


def _find_scales(
    checkpoint: Checkpoint,
    config: ModelConfig,
    ranges: Optional[Mapping[str, Any]],
    calibration: Optional[Texts],
    embeddings: str,
) -> Scales:
    """See :func:`find_scales`; ``embeddings`` is what a calibration quantizes the word embeddings to."""
    prefix = f"{config.architecture.prefix}."
    if ranges is not None:
        if calibration is not None:
            raise UsageError("ranges and calibration texts were both given", hint="give one of them")
        return Scales.from_mapping(ranges, prefix)
    if calibration is None:
        found = Scales.load(checkpoint.folder, prefix)
        if found is not None:
            return found
    trained = checkpoint.quantization if calibration is None else None
    if trained is not None and set(required_quantizers(config)) <= set(trained["sites"]):
        return Scales.from_mapping(trained, prefix, str(checkpoint.folder))
    record = _calibrate(checkpoint, config, calibration, embeddings)
    if trained is not None:
        # A scale the checkpoint was trained with is better than a calibrated one; the others need one.
        record = {
            **record,
            "format": 3,
            "weights": trained["weights"],
            "sites": {**record["sites"], **trained["sites"]},
        }
    return Scales.from_mapping(record, prefix, "the calibration")


def required_quantizers(config: ModelConfig) -> List[str]:
    """The names of all quantizers of a model whose activations are quantized statically."""
    architecture = config.architecture
    modules = architecture.modules
    linears: List[str] = []
    operands: List[str] = []
    if architecture.projection and config.embedding != config.hidden:
        linears.append(f"{config.base}{architecture.projection}")
    for i in range(config.layers):
        layer = config.base + architecture.layer.format(i=i)
        linears += [f"{layer}.{module}" for module in modules.linears]
        operands += [operand_quantizer(f"{layer}.{modules.attention}", operand) for operand in OPERANDS]
    if config.task != "encoder":
        steps = architecture.heads[config.task].steps
        linears += [step.module.format(base=config.base) for step in steps if not isinstance(step, Norm)]
    elif config.pooling == "pooler":
        linears.append(f"{config.base}{architecture.pooler}")
    return [input_quantizer(linear) for linear in linears] + operands


def _calibrate(
    checkpoint: Checkpoint, config: ModelConfig, texts: Optional[Texts], embeddings: str
) -> Dict[str, Any]:
    """Calibrate the float model on texts; returns the content of a ``quantization.json``."""
    try:
        from obert_edge.calibration import calibrate
        from obert_edge.host.checkpoints.pytorch import load_pytorch
        from obert_edge.host.quantization.checkpoint import quantization_record
    except ImportError as error:
        raise UsageError(
            f"{checkpoint.folder} has no quantization.json, and calibrating needs {error.name}, which is not "
            "installed",
            hint="pip install 'obert-edge[host]', or run `obert-edge quantize` where it is installed",
        ) from error
    model = load_pytorch(checkpoint, config.class_for_task)[0].eval()
    batches = _batches(checkpoint, config, texts)
    calibrated = calibrate(model, batches, embeddings=embeddings)
    return quantization_record(calibrated, "calibrate")


def _batches(checkpoint: Checkpoint, config: ModelConfig, texts: Optional[Texts]) -> List[Dict[str, Any]]:
    from transformers import AutoTokenizer

    from obert_edge.calibration import calibration_batches, read_texts

    if not has_tokenizer(checkpoint.folder):
        if texts is not None:
            raise DataError(
                f"{checkpoint.folder} has no tokenizer for the calibration texts",
                hint="save the tokenizer into the model folder",
            )
        _log.warning(
            "%s has no tokenizer and no quantization.json: calibrating on random ids", checkpoint.folder
        )
        return _random_batches(config)
    if texts is None:
        _log.warning(
            "%s has no quantization.json: calibrating on %d built-in sentences; texts like yours "
            "(--calibration-data) will serve accuracy better",
            checkpoint.folder,
            len(DEFAULT_TEXTS),
        )
        texts = DEFAULT_TEXTS
    chosen: Sequence[Any] = read_texts(texts) if isinstance(texts, (str, Path)) else texts
    tokenizer = AutoTokenizer.from_pretrained(checkpoint.folder, trust_remote_code=False)
    if tokenizer.pad_token is None:  # the attention mask hides padding, so any token serves
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(checkpoint.config.get("pad_token_id") or 0)
    longest = min(_LONGEST, config.longest)
    batches: List[Dict[str, Any]] = calibration_batches(chosen, tokenizer, max_length=longest)
    return batches


def _random_batches(config: ModelConfig) -> List[Dict[str, Any]]:
    import torch

    generator = torch.Generator().manual_seed(0)
    length = min(_LONGEST, config.longest)
    first = min(5, config.vocabulary - 1)  # leave out padding, which moves RoBERTa's positions
    return [
        {"input_ids": torch.randint(first, config.vocabulary, (2, length), generator=generator)}
        for _ in range(_RANDOM_BATCHES)
    ]
