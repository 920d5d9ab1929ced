"""The modules of sentence-transformers behind an encoder, which run once per text and not once per token.

They are what the manifest lists under ``task.modules``, with float32 weights in ``modules.bin``. Sums are
taken in float64 and rounded to float32, so that they hardly depend on the batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Callable, Dict, List, Optional, Sequence

import numpy as np

from obert_edge.bundle.manifest import ModuleFacts
from obert_edge.errors import BundleError, InputError

_erf = np.vectorize(math.erf, otypes=[np.float64])


def sigmoid(values: np.ndarray) -> np.ndarray:
    """``1 / (1 + exp(-x))`` in float64, for values of any size."""
    small = np.exp(-np.abs(values.astype(np.float64)))
    result: np.ndarray = np.where(values >= 0, 1.0, small) / (1.0 + small)
    return result


def _gelu(values: np.ndarray) -> np.ndarray:
    result: np.ndarray = 0.5 * values * (1.0 + _erf(values / math.sqrt(2.0)))
    return result


#: The element-wise functions of a dense module, float64 to float64.
ACTIVATIONS: Dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "identity": lambda values: values,
    "tanh": np.tanh,
    "relu": lambda values: np.maximum(values, 0.0),
    "gelu": _gelu,
    "sigmoid": sigmoid,
    "silu": lambda values: values * sigmoid(values),
}


def normalized(vectors: np.ndarray) -> np.ndarray:
    """Vectors divided by their Euclidean lengths, float32; a vector of zeros stays one.

    Args:
        vectors: ``[n, channels]``.
    """
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=-1, keepdims=True)
    result: np.ndarray = (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)
    return result


@dataclass(frozen=True)
class Modules:
    """The modules behind a program.

    Args:
        facts: of each, in order.
        weights: of each, as ``ModuleFacts.shapes`` has them.
    """

    facts: Sequence[ModuleFacts] = ()
    weights: Sequence[Sequence[np.ndarray]] = ()

    @classmethod
    def read(cls, facts: Sequence[ModuleFacts], data: bytes) -> Modules:
        """Modules with the weights of a bundle's ``modules.bin``.

        Args:
            facts: from the manifest.
            data: the member; empty where no module has weights.

        Raises:
            BundleError: the member has another size than the manifest implies.
        """
        expected = 4 * sum(math.prod(shape) for module in facts for shape in module.shapes)
        if len(data) != expected:
            raise BundleError(
                f"modules.bin has {len(data)} bytes; the manifest implies {expected}",
                hint="rebuild the bundle with `obert-edge build`",
            )
        weights: List[List[np.ndarray]] = []
        at = 0
        for module in facts:
            weights.append([])
            for shape in module.shapes:
                count = math.prod(shape)
                values = np.frombuffer(data, "<f4", count, at).reshape(shape)
                weights[-1].append(values.astype(np.float64))
                at += 4 * count
        return cls(facts, weights)

    @property
    def pools(self) -> bool:
        """Whether the first module makes a vector of token vectors."""
        return bool(self.facts) and self.facts[0].type == "pooling"

    @property
    def include_prompt(self) -> bool:
        """Whether the tokens of a prompt count in the pooling."""
        return not self.pools or self.facts[0].include_prompt

    def pool(
        self, tokens: np.ndarray, lengths: Sequence[int], skipped: Optional[Sequence[int]] = None
    ) -> np.ndarray:
        """What the pooling makes of token vectors.

        Args:
            tokens: float32 ``[n, longest, channels]``.
            lengths: tokens of each text, of which the first are real.
            skipped: tokens at the start of each text that do not count; ``None``: all count.

        Returns:
            Float32 ``[n, modes * channels]``.

        Raises:
            InputError: no token of a text is left.
        """
        left_out = [0] * len(lengths) if skipped is None else skipped
        short = next(((length, n) for length, n in zip(lengths, left_out) if length <= n), None)
        if short is not None:
            raise InputError(
                f"a text has {short[0]} tokens, and the prompt takes {short[1]}: none is left to pool",
                hint="shorten the prompt, or leave empty texts out",
            )
        pooled = [
            np.concatenate([_POOLINGS[mode](row[:length], n) for mode in self.facts[0].modes])
            for row, length, n in zip(tokens, lengths, left_out)
        ]
        return np.stack(pooled).astype(np.float32)

    def apply(self, vectors: np.ndarray) -> np.ndarray:
        """What the modules behind the pooling make of one vector per text.

        Args:
            vectors: float32 ``[n, channels]``.

        Returns:
            Float32 ``[n, channels of the last module]``.
        """
        for facts, weights in zip(self.facts, self.weights):
            if facts.type != "pooling":
                vectors = _STEPS[facts.type](facts, weights, vectors).astype(np.float32)
        return vectors


def _dense(facts: ModuleFacts, weights: Sequence[np.ndarray], vectors: np.ndarray) -> np.ndarray:
    values = vectors.astype(np.float64)
    sums = values @ weights[0].T
    if facts.bias:
        sums = sums + weights[1]
    result = ACTIVATIONS[facts.activation](sums)
    if facts.residual:
        result = result + (values if facts.inputs == facts.outputs else values @ weights[-1].T)
    return result


def _layer_norm(facts: ModuleFacts, weights: Sequence[np.ndarray], vectors: np.ndarray) -> np.ndarray:
    values = vectors.astype(np.float64)
    centered = values - values.mean(axis=-1, keepdims=True)
    variance = np.mean(centered**2, axis=-1, keepdims=True)
    result: np.ndarray = centered / np.sqrt(variance + facts.epsilon) * weights[0] + weights[1]
    return result


def _normalize(facts: ModuleFacts, weights: Sequence[np.ndarray], vectors: np.ndarray) -> np.ndarray:
    return normalized(vectors)


_STEPS: Dict[str, Callable[[ModuleFacts, Sequence[np.ndarray], np.ndarray], np.ndarray]] = {
    "dense": _dense,
    "layer_norm": _layer_norm,
    "normalize": _normalize,
}


def _sum(tokens: np.ndarray) -> np.ndarray:
    result: np.ndarray = tokens.sum(axis=0, dtype=np.float64)
    return result


def _weighted_mean(tokens: np.ndarray, skipped: int) -> np.ndarray:
    # A token's weight is its place in the text, the prompt counted.
    places = np.arange(skipped + 1, len(tokens) + 1, dtype=np.float64)
    result: np.ndarray = (places @ tokens[skipped:].astype(np.float64)) / places.sum()
    return result


#: Pooling mode -> the function of a text's tokens and of how many of them do not count.
_POOLINGS: Dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "cls": lambda tokens, skipped: tokens[skipped],
    "max": lambda tokens, skipped: tokens[skipped:].max(axis=0),
    "mean": lambda tokens, skipped: _sum(tokens[skipped:]) / (len(tokens) - skipped),
    "mean_sqrt_len_tokens": lambda tokens, skipped: _sum(tokens[skipped:]) / math.sqrt(len(tokens) - skipped),
    "weightedmean": _weighted_mean,
    "lasttoken": lambda tokens, skipped: tokens[-1],
}
