"""The dense model in numpy: slow, but needs nothing, and sees every intermediate value.

LiteRT's static INT8 needs ranges that our engine does not keep, because it never rounds there; they are
observed here on the embedded test cases of the bundle.
"""

from __future__ import annotations

import math
from typing import Any, Callable, Dict, List, Optional, Union

import numpy as np
import numpy.typing as npt

from obert_edge.bundle.ops import Activation, NormKind
from obert_edge.device.export.dense import (
    Dense,
    DenseModel,
    Embedding,
    Norm,
    Pool,
    Product,
    Rotation,
    SelfAttention,
)

Floats = npt.NDArray[np.float32]
#: Called for each linear with its input and with its output before activation and residual, both [...,
#: channels].
Observer = Callable[[Dense, Floats, Floats], None]


def evaluate(
    model: DenseModel,
    input_ids: Any,
    attention_mask: Any,
    token_type_ids: Any,
    observe: Optional[Observer] = None,
) -> List[Floats]:
    """Run the model in float32.

    Args:
        model: the dense model.
        input_ids: integers [batch, sequence], padded on the right.
        attention_mask: 0 or 1, of the same shape.
        token_type_ids: integers of the same shape.
        observe: called for every linear.

    Returns:
        The results in order: [batch, sequence, channels] or [batch, channels].
    """
    ids, mask, types = (np.asarray(array) for array in (input_ids, attention_mask, token_type_ids))
    values: Dict[str, Floats] = {}
    for op in model.ops:
        if isinstance(op, Embedding):
            values[op.output] = _embed(ids, types, model.position_offset, op)
        elif isinstance(op, Dense):
            product = values[op.input] @ op.weight.T + op.bias
            if observe is not None:
                observe(op, values[op.input], product)
            result = _activate(product, op.activation)
            values[op.output] = result if op.residual is None else result + values[op.residual]
        elif isinstance(op, SelfAttention):
            values[op.output] = _attention(values[op.query], values[op.key], values[op.value], mask, op)
        elif isinstance(op, Pool):
            values[op.output] = _pool(values[op.input], mask, mean=op.mean)
        elif isinstance(op, Product):
            values[op.output] = values[op.left] * values[op.right]
        elif isinstance(op, (Norm, Rotation)):
            values[op.output] = _changed(values[op.input], op)
    return [values[result.input] for result in model.results]


def _embed(ids: Any, types: Any, first: int, op: Embedding) -> Floats:
    summed: Floats = np.zeros((1, 1, 1), np.float32) if op.word is None else op.word.floats[ids]
    if op.neighbors:
        padded = np.pad(summed, ((0, 0), (1, 1), (0, 0)))
        summed = np.concatenate([padded[:, 2:], summed, padded[:, :-2]], axis=2)
    if op.position is not None:
        summed = summed + op.position.floats[first : first + ids.shape[1]]
    return summed if op.token_type is None else summed + op.token_type.floats[types]


def _changed(x: Floats, op: Union[Norm, Rotation]) -> Floats:
    return _layer_norm(x, op) if isinstance(op, Norm) else _rotate(x, op)


def _layer_norm(x: Floats, op: Norm) -> Floats:
    if op.kind is NormKind.NONE:
        return x * op.gamma + op.beta
    centered = x - x.mean(axis=-1, keepdims=True) if op.kind is NormKind.LAYER else x
    variance = np.square(centered).mean(axis=-1, keepdims=True)
    result: Floats = centered / np.sqrt(variance + np.float32(op.epsilon)) * op.gamma + op.beta
    return result


def _rotate(x: Floats, op: Rotation) -> Floats:
    batch, tokens = x.shape[:2]
    first, second = np.moveaxis(x.reshape(batch, tokens, op.heads, 2, -1), 3, 0)
    cosine, sine = op.cosine[:tokens, None], op.sine[:tokens, None]
    turned = np.stack([first * cosine - second * sine, second * cosine + first * sine], axis=3)
    result: Floats = turned.reshape(x.shape)
    return result


def _activate(x: Floats, activation: Activation) -> Floats:
    if activation is Activation.RELU:
        return np.maximum(x, 0)
    if activation is Activation.TANH:
        return np.tanh(x)
    if activation is Activation.SILU:
        half = x * np.float32(0.5)
        gated: Floats = half * (1 + np.tanh(half))
        return gated
    if activation is Activation.GELU:
        return np.float32(0.5) * x * (1 + _erf(x / np.float32(math.sqrt(2))))
    if activation is Activation.GELU_TANH:
        inner = np.float32(math.sqrt(2 / math.pi)) * (x + np.float32(0.044715) * x * x * x)
        result: Floats = np.float32(0.5) * x * (1 + np.tanh(inner))
        return result
    return x


def _erf(x: Floats) -> Floats:
    """Abramowitz and Stegun 7.1.26: absolute error below 1.5e-7."""
    coefficients = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)
    t = 1 / (1 + np.float32(0.3275911) * np.abs(x))
    polynomial = np.zeros_like(t)
    for coefficient in reversed(coefficients):
        polynomial = (polynomial + np.float32(coefficient)) * t
    result: Floats = np.copysign(1 - polynomial * np.exp(-x * x), x)
    return result


def _attention(query: Floats, key: Floats, value: Floats, mask: Any, op: SelfAttention) -> Floats:
    def heads(x: Floats) -> Floats:
        return x.reshape(*x.shape[:2], op.heads, op.head_dim).transpose(0, 2, 1, 3)

    scores = heads(query) @ heads(key).transpose(0, 1, 3, 2) / np.float32(math.sqrt(op.head_dim))
    added = op.added(query.shape[1])
    if added is not None:
        scores = scores + added
    scores = np.where(mask[:, None, None, :] != 0, scores, np.float32(-1e9))
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    contexts = weights / weights.sum(axis=-1, keepdims=True) @ heads(value)
    result: Floats = contexts.transpose(0, 2, 1, 3).reshape(query.shape)
    return result


def _pool(x: Floats, mask: Any, *, mean: bool) -> Floats:
    if not mean:
        return x[:, 0]
    kept = mask[:, :, None].astype(np.float32)
    result: Floats = (x * kept).sum(axis=1) / kept.sum(axis=1)
    return result
