"""Evaluates a float graph in float64: what each node means, in the simplest numpy."""

from __future__ import annotations

import math
from typing import Any, Callable, Dict, List, Type

import numpy as np

from obert_edge.bundle.ops import Activation, NormKind
from obert_edge.host.compiler import ir

_erf = np.vectorize(math.erf)

FUNCTIONS = {
    Activation.NONE: lambda x: x,
    Activation.GELU: lambda x: x * 0.5 * (1 + _erf(x / math.sqrt(2))),
    Activation.GELU_TANH: lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    Activation.RELU: lambda x: np.maximum(x, 0),
    Activation.TANH: np.tanh,
    Activation.SILU: lambda x: x / (1 + np.exp(-x)),
}


def evaluate(
    graph: ir.Graph, ids: List[int], token_types: List[int], values: Dict[str, np.ndarray] | None = None
) -> Dict[str, np.ndarray]:
    """Results of one sequence by name, [tokens or 1, channels]; ``values`` collects every value."""
    values = {} if values is None else values
    results = {}
    for node in graph.nodes:
        if isinstance(node, ir.Result):
            results[node.name] = values[node.input.name]
        elif isinstance(node, ir.Embedding):
            positions = graph.position_offset + np.arange(len(ids))
            total = np.zeros((len(ids), node.output.channels))
            if node.neighbors:
                own, none = node.word[ids], np.zeros_like(node.word[:1])
                total = np.hstack([np.vstack([own[1:], none]), own, np.vstack([none, own[:-1]])])
            elif node.word is not None:
                total = node.word[ids].astype(np.float64)
            if node.position is not None:
                total = total + node.position[positions]
            values[node.output.name] = (
                total if node.token_type is None else total + node.token_type[token_types]
            )
        else:
            (output,) = node.outputs
            values[output.name] = MEANINGS[type(node)](node, *(values[tensor.name] for tensor in node.inputs))
    return results


def _linear(node: ir.Linear, x: np.ndarray, *residual: np.ndarray) -> np.ndarray:
    y = FUNCTIONS[node.activation](x @ node.weight.T.astype(np.float64) + node.bias)
    return y + residual[0] if residual else y


def _layer_norm(node: ir.LayerNorm, x: np.ndarray) -> np.ndarray:
    if node.kind is NormKind.NONE:
        return x * node.gamma + node.beta
    centered = x - x.mean(axis=1, keepdims=True) if node.kind is NormKind.LAYER else x
    variance = (centered**2).mean(axis=1, keepdims=True)
    return centered / np.sqrt(variance + node.epsilon) * node.gamma + node.beta


def _self_attention(node: ir.SelfAttention, *operands: np.ndarray) -> np.ndarray:
    tokens = len(operands[0])
    q, k, v = (operand.reshape(tokens, node.heads, -1).transpose(1, 0, 2) for operand in operands)
    scores = q @ k.transpose(0, 2, 1)
    if node.positions is not None:
        most = node.positions.distances - 1
        behind = np.arange(tokens) - np.arange(tokens)[:, None]
        row = node.positions.row_of_distance[np.clip(behind, -most, most) + most]
        scores = scores + np.einsum("hid,hijd->hij", q, node.positions.key[:, row].astype(np.float64))
        scores = scores + np.einsum("hjd,hijd->hij", k, node.positions.query[:, row].astype(np.float64))
    scores = scores / math.sqrt(node.parts * q.shape[2])
    if node.bias is not None:
        most = node.bias.distances - 1
        behind = np.arange(tokens) - np.arange(tokens)[:, None]
        scores = scores + node.bias.by_distance[:, np.clip(behind, -most, most) + most]
    if node.window:
        behind = np.arange(tokens) - np.arange(tokens)[:, None]
        scores = np.where(np.abs(behind) > node.window, -np.inf, scores)
    weights = np.exp(scores - scores.max(axis=2, keepdims=True))
    context = weights / weights.sum(axis=2, keepdims=True) @ v
    return context.transpose(1, 0, 2).reshape(tokens, -1)


def _rotate(node: ir.Rotate, x: np.ndarray) -> np.ndarray:
    tokens = len(x)
    first, second = x.reshape(tokens, node.heads, 2, -1).transpose(2, 0, 1, 3)
    cosine, sine = node.cosine[:tokens, None].astype(np.float64), node.sine[:tokens, None].astype(np.float64)
    turned = np.stack([first * cosine - second * sine, second * cosine + first * sine], axis=2)
    return turned.reshape(tokens, -1)


#: Node -> its output from its inputs, all float64 [tokens or 1, channels].
MEANINGS: Dict[Type[ir.Node], Callable[..., Any]] = {
    ir.Linear: _linear,
    ir.Activate: lambda node, x: FUNCTIONS[node.function](x),
    ir.Add: lambda node, left, right: left + right,
    ir.LayerNorm: _layer_norm,
    ir.SelfAttention: _self_attention,
    ir.Rotate: _rotate,
    ir.Multiply: lambda node, left, right: left * right,
    ir.SelectFirst: lambda node, x: x[:1],
    ir.MeanPool: lambda node, x: x.mean(axis=0, keepdims=True),
}
