"""Embeddings of fewer bits, as ``sentence_transformers.util.quantize_embeddings`` makes them."""

from __future__ import annotations

import logging
from typing import Optional

import numpy as np

from obert_edge.errors import InputError, UsageError

PRECISIONS = ("float32", "int8", "uint8", "binary", "ubinary")
#: With fewer embeddings the ranges of int8 and uint8 are a poor guess.
_FEW = 100

_log = logging.getLogger(__name__)


def check_precision(precision: str) -> None:
    """Refuse a precision there is not.

    Raises:
        UsageError: it is none of ``PRECISIONS``.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"precision is {precision!r}", hint=f"use one of {', '.join(PRECISIONS)}")


def quantize_embeddings(
    embeddings: np.ndarray, precision: str, ranges: Optional[np.ndarray] = None
) -> np.ndarray:
    """Embeddings of another precision.

    Args:
        embeddings: float32 ``[n, channels]``.
        precision: ``float32``; ``int8`` or ``uint8``, 256 steps between the least and the largest value of
            every channel; ``binary`` or ``ubinary``, a bit for each channel, set where it is above 0, eight
            in a byte (``binary``: the byte less 128).
        ranges: the least and the largest value of every channel, ``[2, channels]``, for int8 and uint8;
            default: those of ``embeddings``. Embeddings to compare must be made with the same ranges.

    Returns:
        ``[n, channels]`` of that dtype; for bits int8 or uint8 ``[n, (channels + 7) // 8]``.

    Raises:
        UsageError: there is no such precision.
        InputError: ranges cannot be taken from one embedding, or are not ``[2, channels]``.
    """
    check_precision(precision)
    if precision == "float32":
        return embeddings.astype(np.float32, copy=False)
    if precision.endswith("binary"):
        packed: np.ndarray = np.packbits(embeddings > 0, axis=-1)
        return packed if precision == "ubinary" else (packed.astype(np.int16) - 128).astype(np.int8)
    dtype = np.int8 if precision == "int8" else np.uint8
    if not len(embeddings):
        return np.zeros(embeddings.shape, dtype)
    lowest, highest = _ranges(embeddings, precision, ranges)
    steps = (highest - lowest) / np.float32(255)
    steps = np.where(steps == 0, np.float32(1), steps)
    codes = np.clip(np.floor((embeddings - lowest) / steps), 0, 255)
    quantized: np.ndarray = (codes - (128 if precision == "int8" else 0)).astype(dtype)
    return quantized


def _ranges(embeddings: np.ndarray, precision: str, ranges: Optional[np.ndarray]) -> np.ndarray:
    if ranges is None:
        if len(embeddings) == 1:
            raise InputError(
                f"the ranges of {precision} cannot be taken from a single embedding",
                hint="encode many texts at once, or quantize float32 embeddings with ranges of many",
            )
        if len(embeddings) < _FEW:
            _log.warning("the ranges of %s are taken from only %d embeddings", precision, len(embeddings))
        return np.stack([embeddings.min(axis=0), embeddings.max(axis=0)])
    given = np.asarray(ranges, np.float32)
    if given.shape != (2, embeddings.shape[1]):
        raise InputError(
            f"ranges have the shape {given.shape}; expected (2, {embeddings.shape[1]})",
            hint="pass the least and the largest value of every channel",
        )
    return given
