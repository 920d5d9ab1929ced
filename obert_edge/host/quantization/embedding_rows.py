"""Four-bit rows of the word-embedding table in torch, for training.

They are those the compiler makes in numpy (``quantize_rows_int4`` of ``host/compiler/quantized_rows.py``), to
the bit. The rule is in ``docs/reference/numerics.md`` (Quantization, INT4 word embeddings). Only element-wise
float32 operations are used, in one order, so that any device and numpy choose the same scales and
values.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from obert_edge.bundle.ops import INT4_GROUP
from obert_edge.bundle.rows import ROW_STEPS, TRIED_SIXTEENTHS


@torch.no_grad()
def int4_rows(weight: torch.Tensor) -> torch.Tensor:
    """The values that rows stand for once they are quantized to four bits.

    Args:
        weight: float [..., k].

    Returns:
        float32 of the same shape, without a gradient.
    """
    k = weight.shape[-1]
    weight = weight.float()
    largest = weight.abs().amax(-1, keepdim=True)
    # Divide by tensors: by a number, a GPU multiplies by its inverse, which rounds twice.
    scale = largest / torch.full_like(largest, ROW_STEPS)
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    y = F.pad(weight / scale, (0, -k % INT4_GROUP)).reshape(*weight.shape[:-1], -1, INT4_GROUP)
    high, low = y.amax(-1), y.amin(-1)
    positive = high >= -low
    full = (torch.where(positive, high, -low) / 8).round_()
    values, codes = torch.zeros_like(y), torch.zeros_like(full)
    least = torch.full_like(full, torch.inf)
    for sixteenths in TRIED_SIXTEENTHS:
        code = ((full * sixteenths + 8) / 16).floor_().clamp_(1, 127)
        code = torch.where(positive, -code, code)
        tried = (y / code.unsqueeze(-1)).round_().clamp_(-8, 7)
        error = _sum((tried * code.unsqueeze(-1) - y).square_())
        better = error < least
        least = torch.where(better, error, least)
        codes = torch.where(better, code, codes)
        values = torch.where(better.unsqueeze(-1), tried, values)
    return values.mul_((codes * scale).unsqueeze(-1)).flatten(-2)[..., :k]


def _sum(errors: torch.Tensor) -> torch.Tensor:
    """The sum over each group of 32: halves are added until one is left (docs/reference/numerics.md)."""
    width = INT4_GROUP
    while width > 1:
        width //= 2
        errors = errors[..., :width] + errors[..., width:]
    return errors[..., 0]
