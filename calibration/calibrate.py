"""``calibrate``: quantize a model without training it, by running texts through it to find every range."""

from __future__ import annotations

import inspect
from typing import Any, FrozenSet, Iterable, Mapping

import torch

from obert_edge.calibration.observers import MovingAverageObserver, make_observer
from obert_edge.errors import DataError
from obert_edge.host.quantization.convert import quantize_model, quantizers, set_observers


def calibrate(
    model: Any,
    batches: Iterable[Mapping[str, torch.Tensor]],
    observer: str = "mse",
    activations: str = "static",
    embeddings: str = "int8",
) -> Any:
    """Quantize ``model`` in place with ranges found on ``batches``; padding is left out.

    While observing, weights and embeddings are quantized already and activations still float.

    Args:
        model: a float model (or one already quantized with the same ``activations`` and ``embeddings``).
        batches: what ``model(**batch)`` takes (``labels`` are ignored); a few hundred texts do.
        observer: ``minmax``, ``percentile`` or ``mse``; see :mod:`obert_edge.calibration.observers`.
        activations: ``static`` or ``dynamic`` (per token; only queries, keys and values are observed).
        embeddings: ``int8`` or ``int4`` word embeddings.

    Returns:
        ``model``, in eval mode with frozen ranges.

    Raises:
        DataError: there is no batch.
        UsageError: no such observer, activations or embeddings.
    """
    make_observer(observer)  # complain before the model is touched
    quantize_model(model, activations, embeddings)
    model.eval()
    device = next(model.parameters()).device
    static = {name: quantizer for name, quantizer in quantizers(model).items() if not quantizer.dynamic}
    for quantizer in static.values():
        quantizer.observer = make_observer(observer).to(device)
    set_observers(model, "calibrating")
    accepted = input_names(model)
    seen = 0
    with torch.no_grad():
        for batch in batches:
            inputs = {key: value.to(device) for key, value in batch.items() if key in accepted}
            mask = inputs.get("attention_mask")
            for quantizer in static.values():
                quantizer.valid = None if mask is None or bool(mask.all()) else mask.bool()
            model(**inputs)
            seen += 1
    for quantizer in static.values():
        quantizer.valid = None
    if not seen:
        raise DataError("there is no batch to calibrate with", hint="give at least one text")
    for quantizer in static.values():
        quantizer.update_params()
        # The histogram has served; training may go on from the range it gave.
        low, high = quantizer.observer.range()
        quantizer.observer = MovingAverageObserver().to(device)
        quantizer.observer.observe(torch.tensor([low, high], device=device))
    set_observers(model, "frozen")
    return model


def input_names(model: Any) -> FrozenSet[str]:
    """The arguments of a transformers model's forward pass that are inputs, not labels or options."""
    # A forward pass also takes labels and switches such as output_attentions, which batches must not set.
    known = {"input_ids", "attention_mask", "token_type_ids", "position_ids", "inputs_embeds"}
    return frozenset(known & set(inspect.signature(model.forward).parameters))
