"""Scales for a model folder: read, given, or found by running texts through the model."""

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
from obert_edge.host.checkpoints.scales import EMBEDDINGS, Scales

_log = logging.getLogger(__name__)

#: A file that ``obert_edge.calibration.read_texts`` reads, or the texts themselves.
Texts = Union[str, Path, Sequence[str]]

_LONGEST = 128
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
    """The scales of a model.

    Args:
        checkpoint: the model folder.
        config: what is compiled of it.
        ranges: the content of a ``quantization.json``, taken before everything else.
        calibration: texts to calibrate with; default: ``quantization.json`` of the folder, and
            where there is none, :data:`DEFAULT_TEXTS`.
        embeddings: ``int8`` or ``int4``, in place of what the model was quantized with.

    Raises:
        UsageError: calibration is needed, but torch and transformers are not installed; both
            ``ranges`` and ``calibration`` are given; or there are no such ``embeddings``.
        DataError: the texts cannot be read, or the model has no tokenizer for them.
        CheckpointError: ``quantization.json`` is not as documented.
    """
    if embeddings not in (None, *EMBEDDINGS):
        raise UsageError(
            f"embeddings is {embeddings!r}", hint=f"embeddings must be one of {', '.join(EMBEDDINGS)}"
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
    """As :func:`find_scales`; ``embeddings`` are what a calibration runs with."""
    prefix = f"{config.architecture.prefix}."
    if ranges is not None:
        if calibration is not None:
            raise UsageError("ranges and calibration texts were both given", hint="give one of them")
        return Scales.from_mapping(ranges, prefix)
    if calibration is None:
        found = Scales.load(checkpoint.folder, prefix)
        if found is not None:
            return found
    found_quantizers = checkpoint.quantization if calibration is None else None
    if found_quantizers is not None and set(required_quantizers(config)) <= set(found_quantizers["sites"]):
        return Scales.from_mapping(found_quantizers, prefix, str(checkpoint.folder))
    record = _calibrate(checkpoint, config, calibration, embeddings)
    if found_quantizers is not None:
        # A quantizer that the checkpoint has knows better than a calibration; the others need one.
        record = {
            **record,
            "format": 3,
            "weights": found_quantizers["weights"],
            "sites": {**record["sites"], **found_quantizers["sites"]},
        }
    return Scales.from_mapping(record, prefix, "the calibration")


def required_quantizers(config: ModelConfig) -> List[str]:
    """Every quantizer of a model that is quantized statically, as quantization.json names it."""
    architecture = config.architecture
    modules = architecture.modules
    names = [f"{config.base}{architecture.projection}:input"] if architecture.projection else []
    if config.embedding == config.hidden:
        names = []
    for i in range(config.layers):
        layer = config.base + architecture.layer.format(i=i)
        linears = (
            modules.query,
            modules.key,
            modules.value,
            modules.attention_output,
            modules.intermediate,
            modules.output,
        )
        names += [f"{layer}.{module}:input" for module in linears]
        names += [f"{layer}.{modules.attention}:{operand}" for operand in ("query", "key", "value")]
    if config.task == "encoder":
        pooler = [f"{config.base}{architecture.pooler}:input"] if config.pooling == "pooler" else []
        return names + pooler
    steps = architecture.heads[config.task].steps
    return names + [
        f"{step.module.format(base=config.base)}:input" for step in steps if not isinstance(step, Norm)
    ]


def _calibrate(
    checkpoint: Checkpoint, config: ModelConfig, texts: Optional[Texts], embeddings: str
) -> Dict[str, Any]:
    """Run the float model over texts; returns the content of a ``quantization.json``."""
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

    has_tokenizer = any(checkpoint.folder.glob("tokenizer*.json")) or any(checkpoint.folder.glob("vocab.*"))
    if not has_tokenizer:
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
    tokenizer = AutoTokenizer.from_pretrained(checkpoint.folder)
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
