"""From padded arrays to packed tokens and back.

The engine computes real tokens only. A batch ``[B, S]`` becomes one row of tokens with the place where each
sequence starts; per-token results go back to ``[B, S, C]`` with 0 where the mask is 0. The rules (masks,
positions, ranges) are the engine's own: ``oe_pack`` of ``obert_edge.h``. Here any array becomes one it takes.
"""

from __future__ import annotations

from typing import Any, Tuple

import numpy as np

from obert_edge.bundle.manifest import ModelFacts
from obert_edge.device.runtime import native
from obert_edge.device.runtime.abi import InputRules
from obert_edge.device.runtime.native import Library, Packed
from obert_edge.errors import InputError

#: The types that the engine reads as they are.
_TAKEN = frozenset(map(np.dtype, (np.bool_, np.uint8, np.int32, np.int64)))


class Packer:
    """Packs the batches of one model.

    Args:
        library: the engine.
        model: the shape of the model.
        uses_first_token: the model's result is taken from column 0, which must then be real.

    Raises:
        UnsupportedDeviceError: the library is older than the functions this needs.
    """

    def __init__(self, library: Library, model: ModelFacts, *, uses_first_token: bool = False) -> None:
        self._packer = native.Packer(library, _rules(model, uses_first_token))

    def pack(self, input_ids: Any, attention_mask: Any = None, token_type_ids: Any = None) -> Packed:
        """Check the arrays of a batch and pack their unmasked tokens.

        Args:
            input_ids: integers ``[B, S]`` or ``[S]``.
            attention_mask: 0 or 1, or bool, of the same shape; ``None``: all 1.
            token_type_ids: integers of the same shape; ``None``: all 0.

        Raises:
            InputError: anything about the arrays that the model cannot take. Ids and token types of masked
                tokens may be anything.
        """
        ids = _integers(input_ids, "input_ids")
        if ids.ndim == 1:
            ids = ids[None]
        if ids.ndim != 2 or ids.size == 0:
            raise InputError(
                f"input_ids has shape {np.shape(input_ids)}; "
                "expected [batch, sequence] with at least one token",
                hint="pass one row of token ids per text",
            )
        mask = types = None
        if attention_mask is not None:
            mask = _alike(_integers(attention_mask, "attention_mask", or_bool=True), ids, "attention_mask")
        if token_type_ids is not None:
            types = _alike(_integers(token_type_ids, "token_type_ids"), ids, "token_type_ids")
        return self._packer.pack(ids, mask, types)


def case_positions(library: Library, model: ModelFacts, starts: np.ndarray) -> np.ndarray:
    """Positions of the sequences of an embedded test case: they count every token, padding ids too.

    Args:
        library: the engine.
        model: the shape of the model.
        starts: int32 ``[B + 1]``.

    Returns:
        int32 ``[tokens]``.

    Raises:
        UnsupportedDeviceError: the library is older than the function this needs.
    """
    return native.count_positions(library, _rules(model, False), starts)


def _rules(model: ModelFacts, uses_first_token: bool) -> InputRules:
    return InputRules(
        vocabulary=model.vocabulary,
        max_length=model.max_length,
        type_vocabulary=model.type_vocabulary,
        position_offset=model.position_offset,
        pad_id=model.pad_id,
        uses_first_token=uses_first_token,
    )


def _integers(value: Any, name: str, *, or_bool: bool = False) -> np.ndarray:
    """A contiguous array of a type that the engine reads, with the same values."""
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InputError(
            f"{name} is not a rectangular array: {error}", hint="pad the rows to one length and mask them"
        ) from error
    kind = array.dtype.kind
    if kind == "O":
        raise InputError(
            f"{name} is not a rectangular array of integers", hint="pad the rows to one length and mask them"
        )
    if kind not in ("iub" if or_bool else "iu") and array.size:
        raise InputError(
            f"{name} has dtype {array.dtype}; expected integers", hint=f"pass {name}.astype(numpy.int64)"
        )
    if array.dtype not in _TAKEN:
        if array.dtype == np.uint64:  # larger values stay as out of range as they were
            array = np.minimum(array, np.uint64(2**63 - 1))
        array = array.astype(np.int64)
    # The engine reads whole numbers in place: an array of bytes cut at an odd offset is copied, too.
    return np.require(array, requirements=["C_CONTIGUOUS", "ALIGNED"])


def _alike(array: np.ndarray, ids: np.ndarray, name: str) -> np.ndarray:
    shape: Tuple[int, ...] = ids.shape
    if array.ndim == 1 and shape[0] == 1:
        array = array[None]
    if array.shape != shape:
        raise InputError(
            f"{name} has shape {array.shape}; input_ids has {shape}",
            hint=f"give {name} the shape of input_ids",
        )
    return array
