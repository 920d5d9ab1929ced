"""Modules behind an encoder, on numbers small enough to check by hand; tests/answers has the library's."""

from __future__ import annotations

import math

import numpy as np
import pytest

from obert_edge.bundle.manifest import DENSE_ACTIVATIONS, POOLING_MODES, ModuleFacts
from obert_edge.device.pipelines.modules import ACTIVATIONS, Modules, normalized, sigmoid
from obert_edge.errors import BundleError, InputError

TOKENS = np.array([[[1, 8], [3, 2], [5, 5], [99, 99]]], np.float32)  # the last is padding


def test_every_name_of_the_manifest_is_computed():
    assert set(ACTIVATIONS) == set(DENSE_ACTIVATIONS)
    for mode in POOLING_MODES:
        assert pooled(mode).shape == (1, 2)


def pooled(*modes, skipped=0):
    modules = Modules([ModuleFacts("pooling", 2, 2 * len(modes), modes=list(modes))], [[]])
    return modules.pool(TOKENS, [3], [skipped])


@pytest.mark.parametrize(
    ("mode", "skipped", "expected"),
    [
        ("cls", 0, [1, 8]),
        ("cls", 1, [3, 2]),
        ("max", 0, [5, 8]),
        ("max", 1, [5, 5]),
        ("mean", 0, [3, 5]),
        ("mean", 1, [4, 3.5]),
        ("mean_sqrt_len_tokens", 0, [9 / math.sqrt(3), 15 / math.sqrt(3)]),
        ("weightedmean", 0, [(1 + 6 + 15) / 6, (8 + 4 + 15) / 6]),
        ("weightedmean", 1, [(6 + 15) / 5, (4 + 15) / 5]),
        ("lasttoken", 0, [5, 5]),
        ("lasttoken", 2, [5, 5]),
    ],
)
def test_poolings_leave_out_padding_and_the_prompt(mode, skipped, expected):
    assert np.allclose(pooled(mode, skipped=skipped), [expected])


def test_poolings_stand_side_by_side_in_the_order_of_the_manifest():
    assert pooled("max", "cls").tolist() == [[5, 8, 1, 8]]


def test_a_prompt_that_leaves_no_token_is_an_error():
    with pytest.raises(InputError, match="has 3 tokens, and the prompt takes 3"):
        pooled("mean", skipped=3)


def test_weights_are_read_in_the_order_of_the_modules():
    facts = [
        ModuleFacts("dense", 2, 1, activation="relu", bias=True, residual=True),
        ModuleFacts("layer_norm", 1, 1, epsilon=1.0),
    ]
    numbers = np.array([1, 2, 10, 3, 4, 5, 6], "<f4")  # matrix, bias, residual; weight, bias
    modules = Modules.read(facts, numbers.tobytes())
    dense = Modules(facts[:1], modules.weights[:1])
    vectors = np.array([[1, 1], [-20, 1]], np.float32)
    assert dense.apply(vectors).tolist() == [[(1 + 2 + 10) + (3 + 4)], [0 + (-60 + 4)]]
    assert modules.apply(np.array([[1, 1]], np.float32)).tolist() == [[6]]  # one channel less its mean is 0


@pytest.mark.parametrize("count", [0, 2, 4])
def test_weights_of_another_size_are_refused(count):
    facts = [ModuleFacts("dense", 2, 1, bias=True)]
    with pytest.raises(BundleError, match=f"modules.bin has {4 * count} bytes; the manifest implies 12"):
        Modules.read(facts, bytes(4 * count))


def test_a_vector_of_zeros_has_no_direction():
    assert normalized(np.array([[0, 0], [3, 4]], np.float32)).tolist() == [
        [0, 0],
        [np.float32(0.6), np.float32(0.8)],
    ]


def test_the_sigmoid_of_large_numbers_does_not_overflow():
    with np.errstate(all="raise", under="ignore"):
        assert sigmoid(np.array([-1000.0, 0.0, 1000.0])).tolist() == [0, 0.5, 1]
