"""Evaluates a compiler graph in float64: what a graph means, in the simplest numpy."""

from __future__ import annotations

import math
from typing import Dict, List

import numpy as np

from obert_edge.bundle.program import Activation
from obert_edge.host.compiler import ir

_erf = np.vectorize(math.erf)

FUNCTIONS = {
    Activation.NONE: lambda x: x,
    Activation.GELU: lambda x: x * 0.5 * (1 + _erf(x / math.sqrt(2))),
    Activation.GELU_TANH: lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    Activation.RELU: lambda x: np.maximum(x, 0),
    Activation.TANH: np.tanh,
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
            total = node.word[ids].astype(np.float64) + node.position[positions]
            values[node.output.name] = (
                total if node.token_type is None else total + node.token_type[token_types]
            )
        else:
            values[node.output.name] = _compute(node, [values[tensor.name] for tensor in node.inputs])
    return results


def _compute(node: ir.Node, inputs: List[np.ndarray]) -> np.ndarray:
    x = inputs[0]
    if isinstance(node, ir.Linear):
        y = FUNCTIONS[node.activation](x @ node.weight.T.astype(np.float64) + node.bias)
        return y if node.residual is None else y + inputs[1]
    if isinstance(node, ir.Activate):
        return FUNCTIONS[node.function](x)
    if isinstance(node, ir.Add):
        return x + inputs[1]
    if isinstance(node, ir.LayerNorm):
        centered = x - x.mean(axis=1, keepdims=True)
        return (
            centered / np.sqrt((centered**2).mean(axis=1, keepdims=True) + node.epsilon) * node.gamma
            + node.beta
        )
    if isinstance(node, ir.SelectFirst):
        return x[:1]
    if isinstance(node, ir.MeanPool):
        return x.mean(axis=0, keepdims=True)
    assert isinstance(node, ir.SelfAttention)
    q, k, v = (part.reshape(len(part), node.heads, -1).transpose(1, 0, 2) for part in inputs)
    scores = q @ k.transpose(0, 2, 1) / math.sqrt(q.shape[2])
    weights = np.exp(scores - scores.max(axis=2, keepdims=True))
    context = weights / weights.sum(axis=2, keepdims=True) @ v
    return context.transpose(1, 0, 2).reshape(len(x), -1)
