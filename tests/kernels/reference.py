"""The kernels' functions in numpy float64.

They are written from the definitions of the functions and not from ``docs/reference/numerics.md``, so that a
mistake there does not repeat here.
"""

from __future__ import annotations

import math
from typing import Tuple

import numpy as np

from obert_edge.bundle.ops import Activation, NormKind


def activate(y: np.ndarray, activation: Activation) -> np.ndarray:
    if activation is Activation.GELU:
        erf = np.vectorize(math.erf, otypes=[np.float64])
        return y * 0.5 * (1 + erf(y / math.sqrt(2)))
    if activation is Activation.GELU_TANH:
        return 0.5 * y * (1 + np.tanh(math.sqrt(2 / math.pi) * (y + 0.044715 * y**3)))
    if activation is Activation.RELU:
        return np.maximum(y, 0)
    if activation is Activation.TANH:
        return np.tanh(y)
    if activation is Activation.SILU:
        return y / (1 + np.exp(-y))
    return y


def quantize(t: np.ndarray, zero_point: int, lo: int, hi: int) -> np.ndarray:
    """In float64, so that a tie in float32 may round to the neighbor: compare within 1."""
    return np.clip(np.rint(t) + zero_point, lo, hi)


def layer_norm(
    x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, epsilon: float, kind: NormKind = NormKind.LAYER
) -> np.ndarray:
    normal = x.astype(np.float64)
    if kind is NormKind.NONE:
        return normal * gamma[:, None] + beta[:, None]
    if kind is NormKind.LAYER:
        normal = normal - normal.mean(axis=0)
    normal = normal / np.sqrt((normal**2).mean(axis=0) + epsilon)
    return normal * gamma[:, None] + beta[:, None]


def softmax(x: np.ndarray) -> np.ndarray:
    """Over the last axis, of base-2 exponents."""
    e = np.exp2(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def dynamic_scale(x: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Scale and zero point per token of float32 [channels, tokens]."""
    lo = np.minimum(x.min(axis=0), 0).astype(np.float64)
    hi = np.maximum(x.max(axis=0), 0).astype(np.float64)
    spread = hi - lo
    scale = np.where(spread == 0, 1.0, spread / 255)
    return scale, np.rint(np.where(spread == 0, 0.0, -lo / scale))
