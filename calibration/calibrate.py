"""``calibrate``: quantize a model without training it, by running texts through it to find every range."""

from __future__ import annotations

from typing import Any, Iterable, Mapping

import torch

from obert_edge.calibration.activations import choose_per_token
from obert_edge.calibration.equalize import equalize
from obert_edge.calibration.inputs import inputs_of
from obert_edge.calibration.observers import MovingAverageObserver, make_observer
from obert_edge.errors import DataError
from obert_edge.host.checkpoints.quantization_format import ACTIVATIONS, AUTO
from obert_edge.host.quantization.convert import (
    check_options,
    is_quantized,
    quantize_model,
    quantizers,
    set_observers,
)


def calibrate(
    model: Any,
    batches: Iterable[Mapping[str, torch.Tensor]],
    observer: str = "mse",
    activations: str = "static",
    embeddings: str = "int8",
) -> Any:
    """Quantize ``model`` in place with ranges found on ``batches``; padding is left out.

    A float model is first rewritten so that no channel stands out, which changes its weights and not what it
    computes; see :func:`~obert_edge.calibration.equalize.equalize`.
    While observing, weights and embeddings are quantized already and activations still float.

    Args:
        model: a float model (or one already quantized with the same ``activations`` and ``embeddings``).
        batches: what ``model(**batch)`` takes (``labels`` are ignored); a few hundred texts do.
        observer: ``minmax``, ``percentile`` or ``mse``; see :mod:`obert_edge.calibration.observers`.
        activations: ``static``, ``dynamic`` (per token; only queries, keys and values are observed), or
            ``auto``: static, and dynamic for the linears that need it; see
            :func:`~obert_edge.calibration.activations.choose_per_token`.
        embeddings: ``int8`` or ``int4`` word embeddings.

    Returns:
        ``model``, in eval mode with frozen ranges.

    Raises:
        DataError: there is no batch.
        UsageError: no such observer, activations or embeddings.
    """
    make_observer(observer)  # complain before the model is touched
    automatic = activations == AUTO
    if automatic:
        activations = ACTIVATIONS[0]
    check_options(activations, embeddings)
    batches = list(batches)
    if not batches:
        raise DataError("there is no batch to calibrate with", hint="give at least one text")
    if not is_quantized(model):
        equalize(model, batches)
    quantize_model(model, activations, embeddings)
    model.eval()
    device = next(model.parameters()).device
    static = {name: quantizer for name, quantizer in quantizers(model).items() if not quantizer.dynamic}
    for quantizer in static.values():
        quantizer.observer = make_observer(observer).to(device)
    set_observers(model, "calibrating")
    with torch.no_grad():
        for batch in batches:
            inputs, valid = inputs_of(model, batch)
            for quantizer in static.values():
                quantizer.valid = valid
            model(**inputs)
    for quantizer in static.values():
        quantizer.valid = None
    for quantizer in static.values():
        quantizer.update_params()
        # The histogram has served; training may go on from the range it gave.
        low, high = quantizer.observer.range()
        quantizer.observer = MovingAverageObserver().to(device)
        quantizer.observer.observe(torch.tensor([low, high], device=device))
    set_observers(model, "frozen")
    if automatic:
        choose_per_token(model, batches)
    return model
