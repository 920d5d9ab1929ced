"""From padded arrays to packed tokens and back, against the rules written down once more in numpy."""

from __future__ import annotations

from typing import Any, Optional

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obert_edge.device.runtime.abi import InputRules
from obert_edge.device.runtime.native import Library, Packed, Packer, count_positions
from obert_edge.errors import InputError, UnsupportedDeviceError

BERT = {"vocabulary": 50, "max_length": 12, "type_vocabulary": 2}
ROBERTA = {"vocabulary": 50, "max_length": 12, "position_offset": 2, "pad_id": 1}


def pack(
    library: Library, rules: Any, ids: np.ndarray, mask: Any = None, types: Any = None, **more: int
) -> Packed:
    return Packer(library, InputRules(**{**rules, **more})).pack(ids, mask, types)


def positions_of(ids: np.ndarray, rules: Any) -> np.ndarray:
    """[rows, columns], as docs and transformers define them."""
    if not rules.get("position_offset"):
        return np.broadcast_to(np.arange(ids.shape[1]), ids.shape)
    real = ids != rules["pad_id"]
    return np.cumsum(real, axis=1) * real + rules["position_offset"] - 1


@st.composite
def batches(draw: st.DrawFn) -> tuple[np.ndarray, Optional[np.ndarray], Optional[np.ndarray]]:
    shape = draw(st.integers(1, 5)), draw(st.integers(1, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    width = st.sampled_from([np.uint8, np.int32, np.int64])
    ids = rng.integers(0, 6, shape).astype(draw(width))
    mask = (rng.random(shape) < draw(st.sampled_from([0.3, 0.9, 1.0]))).astype(draw(width))
    mask[:, draw(st.integers(0, shape[1] - 1))] = 1
    types = rng.integers(0, 2, shape).astype(draw(width))
    return ids, draw(st.sampled_from([mask, None])), draw(st.sampled_from([types, None]))


@settings(max_examples=200, deadline=None)
@given(batch=batches(), rules=st.sampled_from([BERT, ROBERTA]))
def test_real_tokens_are_taken_in_order_and_put_back(library: Library, batch: Any, rules: Any) -> None:
    ids, mask, types = batch
    if "type_vocabulary" not in rules:
        types = None
    real = np.ones(ids.shape, bool) if mask is None else mask.astype(bool)
    packed = pack(library, rules, ids, mask, types)
    assert packed.batch.starts.tolist() == [0, *np.cumsum(real.sum(axis=1))]
    assert packed.batch.ids.tolist() == ids[real].tolist()
    assert packed.batch.positions.tolist() == positions_of(ids, rules)[real].tolist()
    if types is None:
        assert packed.batch.token_types is None
    else:
        assert packed.batch.token_types.tolist() == types[real].tolist()
    rows = np.random.default_rng(0).normal(size=(packed.batch.tokens, 3)).astype(np.float32)
    expected = np.zeros((*ids.shape, 3), np.float32)
    expected[real] = rows
    assert np.array_equal(packed.unpack(rows), expected)


def test_values_of_masked_tokens_may_be_anything(library: Library) -> None:
    ids, mask, types = np.array([[5, -100]]), np.array([[1, 0]]), np.array([[1, 99]])
    assert pack(library, BERT, ids, mask, types).batch.ids.tolist() == [5]


def test_token_types_of_a_model_without_them_may_be_zero(library: Library) -> None:
    ids = np.array([[5, 6]])
    assert pack(library, ROBERTA, ids, None, np.zeros_like(ids)).batch.token_types is None


REFUSED = {
    "id": ([[5, 50]], None, None, {}, r"input_ids\[0\]\[1\] is 50; it must be 0 to 49"),
    "negative id": ([[-1]], None, None, {}, r"input_ids\[0\]\[0\] is -1; it must be 0 to 49"),
    "wide id": ([[2**32]], None, None, {"vocabulary": 0}, "is 4294967296, which is no 32-bit integer"),
    "mask": ([[5], [5]], [[1], [2]], None, {}, r"attention_mask\[1\]\[0\] is 2; it must be 0 or 1"),
    "no token": ([[5], [5]], [[1], [0]], None, {}, "row 1 of attention_mask has no token"),
    "first": ([[5, 5]], [[0, 1]], None, {"uses_first_token": 1}, "result is taken from column 0"),
    "type": ([[5]], None, [[2]], {}, r"token_type_ids\[0\]\[0\] is 2; it must be 0 to 1"),
    "no types": ([[5]], None, [[1]], {"type_vocabulary": 0}, "but this model has no token types"),
    "length": ([[5] * 13], None, None, {}, "the sequences have 13 tokens; this model takes up to 12"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_the_place_and_a_fix(library: Library, case: str) -> None:
    ids, mask, types, rules, message = REFUSED[case]
    mask, types = (None if values is None else np.array(values) for values in (mask, types))
    with pytest.raises(InputError, match=message) as caught:
        pack(library, BERT, np.array(ids), mask, types, **rules)
    assert caught.value.hint


def test_arrays_of_another_width_are_refused(library: Library) -> None:
    with pytest.raises(InputError, match="another width than 1, 4 or 8 bytes"):
        pack(library, BERT, np.array([[5]], np.int16))


def test_positions_of_cases_count_every_token(library: Library) -> None:
    starts = np.array([0, 3, 4], np.int32)
    assert count_positions(library, InputRules(**BERT), starts).tolist() == [0, 1, 2, 0]
    assert count_positions(library, InputRules(**ROBERTA), starts).tolist() == [2, 3, 4, 2]


def test_a_library_from_before_this_says_what_to_do(library: Library) -> None:
    class Old:
        """The functions of an engine library from before this one."""

    older = object.__new__(Library)
    older.path, older._functions = library.path, Old()  # type: ignore[assignment]
    with pytest.raises(UnsupportedDeviceError, match="older than this obert-edge") as caught:
        Packer(older, InputRules(**BERT))
    assert "rebuild the bundle" in caught.value.hint
