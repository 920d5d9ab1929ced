"""From padded arrays to packed tokens and back.

The engine computes real tokens only. A batch ``[B, S]`` becomes one row of tokens with the place where each
sequence starts; per-token results go back to ``[B, S, C]`` with 0 where the mask is 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Optional, Tuple

import numpy as np

from obert_edge.bundle.manifest import ModelFacts
from obert_edge.device.runtime.native import PackedBatch
from obert_edge.errors import InputError

#: Values of which Python's own minimum is faster: after a run numpy's code is no longer in the caches.
_FEW = 512


@dataclass(frozen=True)
class PackedInputs:
    """The unmasked tokens of a batch, and where they came from.

    Args:
        shape: ``(B, S)`` of the arrays it was made from.
        mask: bool ``[B, S]``, or ``None`` when every token is real.
        batch: what the engine takes; positions are the columns the tokens had, counted as the model counts.
    """

    shape: Tuple[int, int]
    mask: Optional[np.ndarray]
    batch: PackedBatch

    def scatter(self, rows: np.ndarray) -> np.ndarray:
        """Put per-token rows back in their places.

        Args:
            rows: float32 ``[tokens, C]``.

        Returns:
            float32 ``[B, S, C]``, 0 where the mask is 0.
        """
        if self.mask is None:
            return rows.reshape(*self.shape, rows.shape[-1])
        result = np.zeros((*self.shape, rows.shape[-1]), np.float32)
        result[self.mask] = rows
        return result


def pack(
    model: ModelFacts,
    input_ids: Any,
    attention_mask: Any = None,
    token_type_ids: Any = None,
    *,
    uses_first_token: bool = False,
) -> PackedInputs:
    """Check the arrays of a batch and pack their unmasked tokens.

    Args:
        model: the shape of the model.
        input_ids: integers ``[B, S]`` or ``[S]``.
        attention_mask: 0 or 1, of the same shape; ``None``: all 1.
        token_type_ids: integers of the same shape; ``None``: all 0.
        uses_first_token: the model's result is taken from column 0, which must then be real.

    Raises:
        InputError: anything about the arrays that the model cannot take.
    """
    ids = _integers(input_ids, "input_ids")
    if ids.ndim == 1:
        ids = ids[None]
    if ids.ndim != 2 or ids.size == 0:
        raise InputError(
            f"input_ids has shape {np.shape(input_ids)}; expected [batch, sequence] with at least one token",
            hint="pass one row of token ids per text",
        )
    shape = (int(ids.shape[0]), int(ids.shape[1]))
    if shape[1] > model.max_length:
        raise InputError(
            f"the sequences have {shape[1]} tokens; this model takes up to {model.max_length}",
            hint=f"truncate to {model.max_length} tokens, or split the text (predict() does, for answers)",
        )
    _check_range(ids, model.vocabulary, "input_ids", "use the tokenizer the model was trained with")
    mask = _mask(attention_mask, ids, uses_first_token) if attention_mask is not None else None
    types = _token_types(token_type_ids, shape, model) if token_type_ids is not None else None
    if mask is None:
        starts, columns = _unmasked(shape)
        positions = columns if model.position_offset == 0 else _flat(_positions(ids, model))
        flat_types = None if types is None else _flat(types)
        return PackedInputs(shape, None, PackedBatch(starts, _flat(ids), positions, flat_types))
    positions = _positions(ids, model)
    starts = np.zeros(shape[0] + 1, np.int32)
    np.cumsum(mask.sum(axis=1), out=starts[1:])
    real_types = None if types is None else _flat(types[mask])
    return PackedInputs(
        shape, mask, PackedBatch(starts, _flat(ids[mask]), _flat(positions[mask]), real_types)
    )


def case_positions(model: ModelFacts, starts: np.ndarray) -> np.ndarray:
    """Positions of the sequences of an embedded test case: they count every token, padding ids too.

    Args:
        model: the shape of the model.
        starts: int32 ``[B + 1]``.

    Returns:
        int32 ``[tokens]``.
    """
    columns = np.arange(starts[-1]) - np.repeat(starts[:-1], np.diff(starts))
    return _flat(columns + model.position_offset)


@lru_cache(maxsize=16)
def _unmasked(shape: Tuple[int, int]) -> Tuple[np.ndarray, np.ndarray]:
    """Starts and columns of rows that are all real, int32 and read-only: the same for every batch of a shape.

    A short text runs in 2 ms, after which all code here is out of the caches: every call of numpy counts.
    """
    starts = np.arange(0, shape[0] * shape[1] + 1, shape[1], dtype=np.int32)
    columns = np.tile(np.arange(shape[1], dtype=np.int32), shape[0])
    starts.setflags(write=False)
    columns.setflags(write=False)
    return starts, columns


def _positions(ids: np.ndarray, model: ModelFacts) -> np.ndarray:
    """Columns; or RoBERTa's count of tokens that are not padding, which starts at ``pad_id + 1``."""
    if model.position_offset == 0:
        return np.broadcast_to(np.arange(ids.shape[1], dtype=np.int32), ids.shape)
    real = ids != model.pad_id
    counted = np.cumsum(real, axis=1, dtype=np.int32)
    return np.asarray(counted * real + np.int32(model.position_offset - 1))


def _flat(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array, dtype=np.int32).reshape(-1)


def _integers(value: Any, name: str) -> np.ndarray:
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InputError(
            f"{name} is not a rectangular array: {error}", hint="pad the rows to one length and mask them"
        ) from error
    if array.dtype == object:
        raise InputError(
            f"{name} is not a rectangular array of integers", hint="pad the rows to one length and mask them"
        )
    if array.dtype.kind not in "iu" and array.size:
        raise InputError(
            f"{name} has dtype {array.dtype}; expected integers", hint=f"pass {name}.astype(numpy.int64)"
        )
    return array


def _check_range(array: np.ndarray, limit: int, name: str, hint: str) -> None:
    if array.size <= _FEW:
        values = array.ravel().tolist()
        low, high = min(values), max(values)
    else:
        low, high = int(array.min()), int(array.max())
    if low < 0 or high >= limit:
        raise InputError(
            f"{name} holds {low if low < 0 else high}; expected values from 0 to {limit - 1}", hint=hint
        )


def _same_shape(array: np.ndarray, shape: Tuple[int, int], name: str) -> np.ndarray:
    if array.ndim == 1 and shape[0] == 1:
        array = array[None]
    if array.shape != shape:
        raise InputError(
            f"{name} has shape {array.shape}; input_ids has {shape}",
            hint=f"give {name} the shape of input_ids",
        )
    return array


def _mask(value: Any, ids: np.ndarray, uses_first_token: bool) -> Optional[np.ndarray]:
    array = np.asarray(value)
    if array.dtype != bool:
        array = _integers(value, "attention_mask")
    array = _same_shape(array, (ids.shape[0], ids.shape[1]), "attention_mask")
    if array.dtype != bool:
        _check_range(array, 2, "attention_mask", "pass 1 for real tokens and 0 for padding")
        array = array.astype(bool)
    if array.all():
        return None
    empty = np.flatnonzero(~array.any(axis=1))
    if empty.size:
        raise InputError(
            f"row {int(empty[0])} of attention_mask has no token", hint="leave empty texts out of the batch"
        )
    if uses_first_token and not array[:, 0].all():
        raise InputError(
            f"row {int(np.flatnonzero(~array[:, 0])[0])} masks column 0, whose output is this model's result",
            hint="pad on the right, so that column 0 holds the first special token",
        )
    return array


def _token_types(value: Any, shape: Tuple[int, int], model: ModelFacts) -> Optional[np.ndarray]:
    array = _same_shape(_integers(value, "token_type_ids"), shape, "token_type_ids")
    if model.type_vocabulary == 0:
        if array.any():
            raise InputError(
                "token_type_ids holds values other than 0, but this model has no token types",
                hint="leave token_type_ids out",
            )
        return None
    _check_range(
        array, model.type_vocabulary, "token_type_ids", "use the tokenizer the model was trained with"
    )
    return array
