"""Embedded cases keep every bit, and a damaged member never gives an array."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from obert_edge.bundle.cases import Case, read_cases, write_cases
from obert_edge.errors import BundleError
from tests.bundle.samples import sample_cases

BLOB = write_cases(sample_cases() * 2)


@given(st.lists(st.floats(width=32), min_size=1, max_size=8), st.integers(1, 3))
def test_every_bit_comes_back(values: list[float], cases: int) -> None:
    logits = np.array(values, np.float32).reshape(1, -1)
    case = Case(
        np.array([0, 1], np.int32), np.array([7], np.int32), np.array([1], np.int32), {"logits": logits}
    )
    for read in read_cases(memoryview(write_cases([case] * cases))):
        assert read.outputs["logits"].tobytes() == logits.tobytes()
        assert (read.ids[0], read.token_types[0], read.starts.tolist()) == (7, 1, [0, 1])


def test_there_are_as_many_cases_as_were_written() -> None:
    assert len(read_cases(memoryview(BLOB))) == 2
    assert read_cases(memoryview(write_cases([]))) == []


@given(st.integers(0, len(BLOB) - 1))
def test_a_truncated_member_is_refused(length: int) -> None:
    with pytest.raises(BundleError, match="test cases"):
        read_cases(memoryview(BLOB)[:length])


def with_header(header: object) -> memoryview:
    text = json.dumps(header).encode()
    return memoryview(len(text).to_bytes(8, "little") + text)


@pytest.mark.parametrize(
    "header",
    [
        [],
        {"0.starts": 3},
        {"0.starts": {"dtype": "O", "shape": [1], "data_offsets": [0, 8]}},
        {"0.starts": {"dtype": "I32", "shape": [-1], "data_offsets": [0, 4]}},
        {"0.starts": {"dtype": "I32", "shape": [1], "data_offsets": [0, 4]}},
        {"0.starts": {"dtype": "I32", "shape": [0], "data_offsets": [0, 0]}},
        {"0.starts": {"dtype": "I32", "shape": [0], "data_offsets": "ab"}},
    ],
)
def test_a_hostile_header_is_refused(header: object) -> None:
    with pytest.raises(BundleError, match="test cases"):
        read_cases(with_header(header))


BATCH = {"starts": [0, 3], "ids": [2, 5, 3], "token_types": [0, 0, 0]}


def with_arrays(**changes: object) -> bytes:
    arrays = {name: np.array(values, np.int32) for name, values in {**BATCH, **changes}.items()}
    outputs = {"logits": np.zeros((1, 2), np.float32)}
    return write_cases([Case(arrays["starts"], arrays["ids"], arrays["token_types"], outputs)])


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"starts": [1, 3]}, "do not ascend from 0"),
        ({"starts": [0, 3, 2]}, "do not ascend from 0"),
        ({"starts": [0, 0, 3]}, "do not ascend from 0"),
        ({"starts": [0]}, "do not ascend from 0"),
        ({"starts": [0, 2**31 - 1]}, "3 ids and 3 token types for 2147483647 tokens"),
        ({"ids": [2]}, "1 ids and 3 token types for 3 tokens"),
        ({"ids": [[2, 5, 3]]}, "ids of case 0 is int32 with 2 axes"),
        ({"token_types": []}, "3 ids and 0 token types"),
    ],
)
def test_arrays_that_are_no_batch_are_refused(changes: dict[str, object], complaint: str) -> None:
    with pytest.raises(BundleError, match=complaint):
        read_cases(memoryview(with_arrays(**changes)))


def test_whole_numbers_are_asked_of_a_header() -> None:
    for header in (
        {"0.starts": {"dtype": "I32", "shape": [1.5], "data_offsets": [0, 4]}},
        {"0.starts": {"dtype": "I32", "shape": ["1"], "data_offsets": [0, 4]}},
        {"0.starts": {"dtype": "I32", "shape": [1], "data_offsets": [0.0, 4.0]}},
        {"0.starts": {"dtype": "I32", "shape": [10**30], "data_offsets": [0, 4]}},
    ):
        with pytest.raises(BundleError, match="test cases"):
            read_cases(memoryview(bytes(with_header(header)) + bytes(4)))
