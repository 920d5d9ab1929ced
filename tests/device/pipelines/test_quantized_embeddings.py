"""Embeddings of fewer bits; the library's own are in tests/answers."""

from __future__ import annotations

import numpy as np
import pytest

from obert_edge.device.pipelines.quantized_embeddings import quantize_embeddings
from obert_edge.errors import InputError, UsageError

VECTORS = np.array([[0.0, -255.0, 5.0], [255.0, 255.0, 5.0], [127.5, 0.0, 5.0]], np.float32)


def test_a_channel_is_cut_into_256_steps_between_its_least_and_its_largest_value():
    assert quantize_embeddings(VECTORS, "uint8").tolist() == [[0, 0, 0], [255, 255, 0], [127, 127, 0]]
    assert quantize_embeddings(VECTORS, "int8").tolist() == [[-128] * 3, [127, 127, -128], [-1, -1, -128]]


def test_given_ranges_cut_off_what_lies_outside():
    ranges = np.array([[0, 0, 0], [0.5, 0.5, 255]])
    assert quantize_embeddings(VECTORS[:1], "uint8", ranges).tolist() == [[0, 0, 5]]
    assert quantize_embeddings(VECTORS, "uint8", ranges)[1].tolist() == [255, 255, 5]


def test_bits_say_which_channels_are_above_zero():
    assert quantize_embeddings(VECTORS, "ubinary").tolist() == [[0b00100000], [0b11100000], [0b10100000]]
    assert quantize_embeddings(VECTORS, "binary").tolist() == [[32 - 128], [224 - 128], [160 - 128]]


@pytest.mark.parametrize("precision", ["int8", "uint8"])
def test_ranges_need_more_than_one_embedding(precision):
    with pytest.raises(InputError, match="cannot be taken from a single embedding"):
        quantize_embeddings(VECTORS[:1], precision)
    with pytest.raises(InputError, match=r"the shape \(3, 2\); expected \(2, 3\)"):
        quantize_embeddings(VECTORS, precision, np.zeros((3, 2)))


def test_other_precisions_are_refused():
    with pytest.raises(UsageError, match="precision is 'int4'"):
        quantize_embeddings(VECTORS, "int4")
