"""``sensitivity``: which layers change the model's answers most when they alone are quantized."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Tuple

import torch
from torch import nn

from obert_edge.calibration.inputs import inputs_of
from obert_edge.errors import DataError, UsageError
from obert_edge.host.quantization.attention import AttentionQuantizers
from obert_edge.host.quantization.convert import is_quantized, quantizers
from obert_edge.host.quantization.modules import QuantEmbedding, QuantLinear, quantized_modules


@dataclass(frozen=True)
class LayerError:
    """What quantizing one layer alone does to the model's output.

    Attributes:
        name: path of the linear, embedding or self-attention module.
        kind: ``linear``, ``embedding`` or ``attention`` (its two products).
        error: root mean square change of the outputs, relative to their root mean square.
    """

    name: str
    kind: str
    error: float


@torch.no_grad()
def sensitivity(model: Any, batches: Iterable[Mapping[str, torch.Tensor]]) -> List[LayerError]:
    """Quantize one layer at a time, and measure the change of the float model's output.

    Takes one pass over ``batches`` per layer; a few batches tell enough.

    Args:
        model: a calibrated or trained quantized model; it is left as it was.
        batches: as for ``calibrate``; positions masked out do not count.

    Returns:
        One entry per layer, the largest error first.

    Raises:
        UsageError: the model is not quantized.
        DataError: there is no batch.
    """
    if not is_quantized(model):
        raise UsageError("the model is not quantized", hint="pass the result of calibrate")
    batches = list(batches)
    if not batches:
        raise DataError("there is no batch to measure with", hint="give at least one text")
    training = model.training
    model.eval()
    try:
        with everything_float(model):
            reference = outputs_of(model, batches)
            scale = float(reference.square().mean().sqrt().clamp(min=1e-30))
            errors = []
            for name, module in _layers(model):
                with _quantized(module):
                    change = float((outputs_of(model, batches) - reference).square().mean().sqrt())
                errors.append(LayerError(name, _kind(module), change / scale))
    finally:
        model.train(training)
    return sorted(errors, key=lambda layer: -layer.error)


def _layers(model: nn.Module) -> Iterator[Tuple[str, nn.Module]]:
    for name, module in model.named_modules():
        if isinstance(module, (QuantLinear, QuantEmbedding, AttentionQuantizers)):
            yield name[: -len(".quantizers")] if isinstance(module, AttentionQuantizers) else name, module


def _kind(module: nn.Module) -> str:
    if isinstance(module, AttentionQuantizers):
        return "attention"
    return "embedding" if isinstance(module, QuantEmbedding) else "linear"


@contextlib.contextmanager
def everything_float(model: nn.Module) -> Iterator[None]:
    """Switch all quantization off while the context lasts."""
    modes: Dict[Any, str] = {quantizer: quantizer.mode for quantizer in quantizers(model).values()}
    layers = [module for _, module in quantized_modules(model)]
    for quantizer in modes:
        quantizer.mode = "float"
    for layer in layers:
        layer.quantize_weight = False
    try:
        yield
    finally:
        for quantizer, mode in modes.items():
            quantizer.mode = mode
        for layer in layers:
            layer.quantize_weight = True


@contextlib.contextmanager
def _quantized(module: Any) -> Iterator[None]:
    """Quantize one layer while the context lasts: its weights and input, or the operands of an attention."""
    if isinstance(module, AttentionQuantizers):
        chosen = [module.query, module.key, module.value]
    else:
        chosen = [module.input] if isinstance(module, QuantLinear) else []
        module.quantize_weight = True
    for quantizer in chosen:
        quantizer.mode = "frozen"
    try:
        yield
    finally:
        for quantizer in chosen:
            quantizer.mode = "float"
        if not isinstance(module, AttentionQuantizers):
            module.quantize_weight = False


def outputs_of(model: Any, batches: Iterable[Mapping[str, torch.Tensor]]) -> torch.Tensor:
    """Every output for every token (or sequence) that is not padding, in one flat float64 tensor."""
    parts: List[torch.Tensor] = []
    for batch in batches:
        inputs, _ = inputs_of(model, batch)
        mask = inputs.get("attention_mask")
        for output in model(**inputs).values():
            if mask is not None and output.shape[:2] == mask.shape:
                output = output[mask.bool()]
            parts.append(output.flatten().double())
    return torch.cat(parts)
