"""``choose_per_token``: the linears of a calibrated model that need a scale per token, and no others."""

from __future__ import annotations

import logging
from typing import Any, Callable, Dict, Iterable, List, Mapping, Sequence

import torch

from obert_edge.calibration.sensitivity import everything_float, outputs_of
from obert_edge.errors import DataError, UsageError
from obert_edge.host.quantization.convert import input_quantizers, is_quantized
from obert_edge.host.quantization.modules import ActivationQuantizer

_log = logging.getLogger(__name__)

#: Of the squared error that scales per token take away from all linears, the chosen ones take so much.
SHARE = 0.9
#: Fixed ranges stay where scales per token take away less than this share of the squared error: the texts
#: cannot tell so small a difference.
WORTHWHILE = 0.1
#: Every measurement is a pass over so many texts at most.
_TEXTS = 32


@torch.no_grad()
def choose_per_token(model: Any, batches: Iterable[Mapping[str, torch.Tensor]]) -> List[str]:
    """Let the linears that lose most by a fixed range find a scale per token instead, in place.

    With e(S) the squared change of the outputs, beside the float model, where the linears of S have a scale
    per token: linears are sorted by ``e({}) - e({linear})``, and the fewest from the first are taken for
    which ``e(S) <= e({}) - SHARE (e({}) - e(all))``, found by halving. One pass over at most 32 texts for
    each tensor that linears read, and for each halving.

    Args:
        model: a calibrated model with static activations, in eval mode.
        batches: as for ``calibrate``.

    Returns:
        The quantizers' names, the one that gains most first; one for each tensor that is read. Empty: fixed
        ranges are as good everywhere.

    Raises:
        UsageError: the model is not quantized, or not with static activations.
        DataError: there is no batch.
    """
    if not is_quantized(model):
        raise UsageError("the model is not quantized", hint="calibrate it first")
    # Linears that read one tensor share a quantizer, of which the first name is taken.
    names: Dict[ActivationQuantizer, str] = {}
    for name, quantizer in input_quantizers(model).items():
        if quantizer.dynamic:
            raise UsageError(f"{name} has a scale per token already", hint="start from static activations")
        names.setdefault(quantizer, name)
    measure = _error(model, _some(batches))
    static, dynamic = measure([]), measure(list(names))
    if static - dynamic < WORTHWHILE * static:
        _log.info("fixed ranges are as good as scales per token in all %d places", len(names))
        return []
    errors = {quantizer: measure([quantizer]) for quantizer in names}
    order = sorted(names, key=errors.__getitem__)
    target = static - SHARE * (static - dynamic)
    few, enough, reached = 0, len(order), dynamic  # so many are too few; so many are enough, with this error
    while enough - few > 1:
        middle = (few + enough) // 2
        error = measure(order[:middle])
        if error <= target:
            enough, reached = middle, error
        else:
            few = middle
    chosen = order[:enough]
    for quantizer in chosen:
        quantizer.dynamic = True
    _log.info(
        "scales per token in %d of %d places: a relative change of the outputs of %.4f, for %.4f with fixed "
        "ranges and %.4f with scales per token everywhere",
        len(chosen),
        len(names),
        reached**0.5,
        static**0.5,
        dynamic**0.5,
    )
    return [names[quantizer] for quantizer in chosen]


def _some(batches: Iterable[Mapping[str, torch.Tensor]]) -> List[Mapping[str, torch.Tensor]]:
    """So many batches from the first that they have :data:`_TEXTS` texts, if there are that many."""
    found: List[Mapping[str, torch.Tensor]] = []
    texts = 0
    for batch in batches:
        if texts >= _TEXTS:
            break
        found.append(batch)
        texts += len(batch["input_ids"])
    if not found:
        raise DataError("there is no batch to measure with", hint="give at least one text")
    return found


def _error(
    model: Any, batches: Sequence[Mapping[str, torch.Tensor]]
) -> Callable[[Sequence[ActivationQuantizer]], float]:
    """A function: quantizers with a scale per token, to the squared relative change of the outputs."""
    with everything_float(model):
        reference = outputs_of(model, batches)
    size = float(reference.square().mean().clamp(min=1e-30))

    def measure(per_token: Sequence[ActivationQuantizer]) -> float:
        for quantizer in per_token:
            quantizer.dynamic = True
        try:
            return float((outputs_of(model, batches) - reference).square().mean()) / size
        finally:
            for quantizer in per_token:
                quantizer.dynamic = False

    return measure
