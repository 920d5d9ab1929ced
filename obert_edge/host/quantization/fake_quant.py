"""The arithmetic of ``docs/reference/numerics.md`` in float32 torch, with straight-through gradients.

A quantized activation is carried as *codes*: a float tensor of whole numbers ``q - zero_point``,
and the scale that turns codes into values. Products of codes are then exact in float32 (sums stay
below 2**24 for all but absurd layers), as they are in the engine, and no pass over memory is spent
on multiplying by the scale.

Gradients: a gradient that flows into codes is, by convention, that of the *values* they stand
for (``codes * scale``). Rounding is passed straight through; clamping is not: where a value was
clamped its gradient is 0 (the clipped straight-through estimator).
"""

from __future__ import annotations

from typing import Any, NamedTuple, Optional, Tuple, Union, cast

import numpy as np
import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from obert_edge.host.quantization.embedding_rows import int4_rows

#: Largest code of a weight, and of a key or value: S8 codes are -127..127.
WEIGHT_MAX = 127


class Codes(NamedTuple):
    """An activation in 8 bits.

    Attributes:
        codes: float32 of any shape, whole numbers ``q - zero_point``.
        scale: what a code is multiplied by to get the value: a float, or float32 ``[..., 1]`` where every
            token has its own.
    """

    codes: torch.Tensor
    scale: Union[float, torch.Tensor]


def row_scales(weight: torch.Tensor) -> torch.Tensor:
    """The scale of every row (docs/reference/numerics.md, Weights): ``max |w| / 127``, 1 for a row of zeros.

    Args:
        weight: float ``[..., k]``.

    Returns:
        float32 ``[..., 1]``.
    """
    largest = weight.detach().abs().amax(-1, keepdim=True)
    # Divide by a tensor: by a number, a GPU multiplies by its inverse, which rounds twice.
    scales = largest / torch.full_like(largest, WEIGHT_MAX)
    return torch.where(scales > 0, scales, torch.ones_like(scales))


def row_codes(weight: torch.Tensor, scale: Optional[float] = None) -> Tuple[torch.Tensor, torch.Tensor]:
    """INT8 codes of a weight, as float32 whole numbers, and its row scales ``[..., 1]``.

    Args:
        weight: float ``[..., k]``.
        scale: of all rows, in place of each row's own.

    Returns:
        Codes of the shape of ``weight``, -127..127, and scales float32 ``[..., 1]``; neither has a gradient.
    """
    if scale is not None:
        scales = torch.full_like(weight.detach()[..., :1], scale)
        return torch.div(weight.detach(), scales).round_().clamp_(-WEIGHT_MAX, WEIGHT_MAX), scales
    scales = row_scales(weight)
    # No clamp is needed: w / (max |w| / 127) is at most 127 up to one rounding.
    return torch.div(weight.detach(), scales).round_(), scales


def inverse(scale: float) -> float:
    """``1 / scale`` in one float32 division, as the compiler computes it."""
    return float(np.float32(1) / np.float32(scale))


def clip_bounds(scale: float, low: float, high: float) -> Tuple[float, float]:
    """The ends of the range of values that round to a code in ``[low, high]`` without being clamped."""
    return (low - 0.5) * scale, (high + 0.5) * scale


def to_codes(x: torch.Tensor, scale: float, low: float, high: float) -> torch.Tensor:
    """``rne(clamp(x / scale, low, high))`` in a new float32 tensor of the same shape; no gradient."""
    codes = torch.empty(x.shape, dtype=torch.float32, device=x.device)
    torch.mul(x, inverse(scale), out=codes)
    return codes.clamp_(low, high).round_()


class _Static(torch.autograd.Function):
    """Codes of ``x`` for a fixed scale; the gradient stops where a value was clamped."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, scale: float, low: float, high: float) -> torch.Tensor:
        ctx.save_for_backward(x)
        ctx.bounds = clip_bounds(scale, low, high)
        return to_codes(x.detach(), scale, low, high)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> Tuple[Optional[torch.Tensor], ...]:
        (x,) = ctx.saved_tensors
        return pass_unclipped(gradient, x, ctx.bounds), None, None, None


def pass_unclipped(gradient: torch.Tensor, x: torch.Tensor, bounds: Tuple[float, float]) -> torch.Tensor:
    """``gradient`` where ``x`` lies strictly inside ``bounds``, else 0; one pass over memory."""
    return cast(torch.Tensor, torch.ops.aten.hardtanh_backward(gradient, x, *bounds))


class _Identity(torch.autograd.Function):
    """Replaces a tensor by another whose gradient goes to the first, unchanged."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return value

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Tuple[torch.Tensor, None]:
        return gradient, None


def static_codes(x: torch.Tensor, scale: float, zero_point: int, *, signed: bool) -> Codes:
    """Quantize with a fixed scale: U8 with a zero point, or S8 with zero point 0.

    Args:
        x: float, any shape.
        scale: a float32 value above 0.
        zero_point: 0..255, and 0 when ``signed``.
        signed: S8 (-127..127) instead of U8 (0..255).

    Returns:
        Codes of the shape of ``x``, and ``scale``. The gradient is 0 where a value was clamped.
    """
    low, high = (-WEIGHT_MAX, WEIGHT_MAX) if signed else (-zero_point, 255 - zero_point)
    return Codes(cast(torch.Tensor, _Static.apply(x, scale, low, high)), scale)  # type: ignore[no-untyped-call]


def dynamic_codes(x: torch.Tensor) -> Codes:
    """Quantize with a scale and zero point of each token's own (``docs/reference/numerics.md``, Dynamic).

    Args:
        x: float ``[..., channels]``.

    Returns:
        Codes of the shape of ``x``, and scales float32 ``[..., 1]``. Nothing is clamped, so the gradient is
        the identity's.
    """
    with torch.no_grad():
        low, high = torch.aminmax(x.detach(), dim=-1, keepdim=True)
        low, high = low.clamp_(max=0), high.clamp_(min=0)
        span = high - low
        empty = span == 0
        # Tokens of nothing but zeros have span 0: any finite factor gives them codes of 0.
        safe = torch.where(empty, torch.ones_like(span), span)
        factor = torch.full_like(safe, 255) / safe  # `255 / safe` would round twice
        scale = torch.where(empty, torch.ones_like(span), span * float(np.float32(1) / np.float32(255)))
        zero_point = (-low * factor).clamp_(0, 255).round_()
        codes = torch.minimum(torch.maximum(x.detach() * factor, -zero_point), 255 - zero_point).round_()
    return Codes(cast(torch.Tensor, _Identity.apply(x, codes)), scale)  # type: ignore[no-untyped-call]


def fake_quant_rows(rows: torch.Tensor, int4: bool = False) -> torch.Tensor:
    """Rows as the engine reads them from an embedding table: quantized, and back in float.

    Args:
        rows: float ``[..., k]``.
        int4: four bits (docs/reference/numerics.md, INT4 word embeddings) instead of eight.

    Returns:
        float32 of the same shape; the gradient is the identity's.
    """
    if int4:
        return cast(torch.Tensor, _Identity.apply(rows, int4_rows(rows)))  # type: ignore[no-untyped-call]
    codes, scales = row_codes(rows)
    return cast(torch.Tensor, _Identity.apply(rows, codes.mul_(scales)))  # type: ignore[no-untyped-call]


class _Linear(torch.autograd.Function):
    """A linear on codes with exact integer sums; forward and backward by hand.

    The quantized weights are found again in every step from the float master weights, which get the gradient.
    """

    @staticmethod
    def forward(
        ctx: Any,
        codes: torch.Tensor,
        scale: Union[float, torch.Tensor],
        weight: torch.Tensor,
        bias: Optional[torch.Tensor],
        weight_scale: Optional[float],
    ) -> torch.Tensor:
        weight_codes, weight_scales = row_codes(weight, weight_scale)
        ctx.save_for_backward(codes, weight_codes, weight_scales)
        ctx.scale = scale
        y = F.linear(codes, weight_codes)
        if isinstance(scale, torch.Tensor):
            y.mul_(scale)
            out_scales = weight_scales.flatten()
        else:
            out_scales = weight_scales.flatten() * scale
        # y * scale + bias in one pass over memory.
        return y.mul_(out_scales) if bias is None else torch.addcmul(bias, y, out_scales, out=y)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> Tuple[Optional[torch.Tensor], ...]:
        codes, weight_codes, weight_scales = ctx.saved_tensors
        needs_input, _, needs_weight, needs_bias, _ = ctx.needs_input_grad
        flat = gradient.reshape(-1, gradient.shape[-1])
        to_weight = to_bias = None
        if needs_bias:
            to_bias = flat.sum(0)
        if needs_weight:
            flat_codes = codes.reshape(-1, codes.shape[-1])
            if isinstance(ctx.scale, torch.Tensor):
                to_weight = (flat * ctx.scale.reshape(-1, 1)).t() @ flat_codes
            else:
                to_weight = (flat.t() @ flat_codes).mul_(ctx.scale)
        to_input = gradient @ (weight_codes * weight_scales) if needs_input else None
        return to_input, None, to_weight, to_bias, None


def quantized_linear(
    x: Codes, weight: torch.Tensor, bias: Optional[torch.Tensor], weight_scale: Optional[float] = None
) -> torch.Tensor:
    """``x W^T + bias`` with INT8 weights per output channel and exact sums.

    The rule is in docs/reference/numerics.md (Linear).

    Args:
        x: codes ``[..., k]``.
        weight: float ``[n, k]``, the master weights; quantized here.
        bias: float ``[n]`` or None.
        weight_scale: of all weights, in place of each channel's own.

    Returns:
        float32 ``[..., n]``.
    """
    arguments = (x.codes, x.scale, weight, bias, weight_scale)
    return cast(torch.Tensor, _Linear.apply(*arguments))  # type: ignore[no-untyped-call]
