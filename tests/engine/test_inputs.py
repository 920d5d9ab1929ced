"""Batches the engine refuses, each with a message that names the value and its range."""

from __future__ import annotations

import dataclasses
from typing import Any, Dict

import numpy as np
import pytest

from obert_edge.device.runtime.native import Library
from obert_edge.errors import InputError
from tests.engine.models import POSITIONS, TYPES, VOCABULARY, EncoderBuilder, batch_of

ENCODER = EncoderBuilder(layers=1)


def changed(name: str, index: int, value: int) -> Dict[str, np.ndarray]:
    array = getattr(batch_of([4, 6]), name).copy()
    array[index] = value
    return {name: array}


REFUSED = [
    (changed("ids", 3, VOCABULARY), r"ids\[3\] is 50; it must be 0 to 49"),
    (changed("ids", 0, -1), r"ids\[0\] is -1"),
    (changed("positions", 9, POSITIONS), r"positions\[9\] is 160; it must be 0 to 159"),
    (changed("positions", 2, -(2**31)), r"positions\[2\] is -2147483648"),
    (changed("token_types", 5, TYPES), r"token_types\[5\] is 2; it must be 0 to 1"),
    (changed("starts", 0, 1), r"starts\[0\] is 1; it must be 0"),
    (changed("starts", 1, 0), "sequence 0 is empty"),
    (changed("starts", 1, 10), "sequence 1 is empty"),
    (changed("starts", 1, 11), "sequence 1 is empty"),
    ({"starts": np.array([0, 2, 1, 10])}, "sequence 1 is empty"),
    ({"starts": np.array([0])}, "the batch is empty"),
    ({"starts": np.zeros(0, np.int32)}, "the batch is empty"),
    ({"starts": np.array([[0, 10]])}, "the batch is empty"),
    ({"ids": np.zeros(9, np.int32)}, r"ids has shape \(9,\); it must be \(10,\)"),
    ({"ids": np.zeros(10, np.float32)}, "ids has dtype float32"),
    ({"ids": np.full(10, 2**32 + 1)}, "4294967297, which is no 32-bit integer"),
    ({"ids": None}, "no ids"),
    ({"positions": None}, "no positions"),
]


@pytest.mark.parametrize("change, message", REFUSED, ids=[message for _, message in REFUSED])
def test_refused(library: Library, change: Dict[str, Any], message: str) -> None:
    batch = dataclasses.replace(batch_of([4, 6]), **change)
    with library.open(ENCODER.program.to_bytes(), ENCODER.weights) as model:
        with pytest.raises(InputError, match=message):
            model.run(batch)
        assert np.isfinite(model.run(batch_of([4, 6]))[0]).all()  # and the model still works


def test_arrays_of_a_packed_batch_at_odd_addresses_are_copied(library: Library) -> None:
    batch = batch_of([4, 6])

    def odd(array: np.ndarray) -> np.ndarray:
        moved = np.frombuffer(b"x" + array.tobytes(), array.dtype, offset=1)
        assert not moved.flags.aligned
        return moved

    names = [field.name for field in dataclasses.fields(batch)]
    moved = dataclasses.replace(batch, **{name: odd(getattr(batch, name)) for name in names})
    with library.open(ENCODER.program.to_bytes(), ENCODER.weights) as model:
        for found, expected in zip(model.run(moved), model.run(batch)):
            assert found.tobytes() == expected.tobytes()


def test_sequences_longer_than_the_model(library: Library) -> None:
    with library.open(ENCODER.program.to_bytes(), ENCODER.weights) as model:
        model.run(batch_of([POSITIONS]))
        with pytest.raises(InputError, match="sequence 1 has 161 tokens; the model takes at most 160"):
            model.run(batch_of([2, POSITIONS + 1]))


@pytest.mark.parametrize("threads", [0, -1, 5000])
def test_thread_counts(library: Library, threads: int) -> None:
    with pytest.raises(InputError, match=f"threads is {threads}"):
        library.open(ENCODER.program.to_bytes(), ENCODER.weights, threads=threads)


def test_a_single_op_needs_its_buffers(library: Library) -> None:
    with library.open(ENCODER.program.to_bytes(), ENCODER.weights) as model:
        buffers = [None] * len(ENCODER.program.buffers)
        with pytest.raises(InputError, match="buffer 0 of 10 is missing"):
            model.run_op(1, batch_of([4]), buffers)
        with pytest.raises(InputError, match="buffers were given"):
            model.run_op(1, batch_of([4]), buffers[:-1])
        with pytest.raises(InputError, match="there is no op 99"):
            model.run_op(99, batch_of([4]), buffers)
        with pytest.raises(InputError, match="is an output, which does not run alone"):
            model.run_op(len(ENCODER.program.ops) - 1, batch_of([4]), buffers)
