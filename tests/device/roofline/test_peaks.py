"""Peaks are measured here, and unknown where the engine cannot measure them."""

from __future__ import annotations

import pytest

from obert_edge.device.roofline.measure import measure_peaks
from obert_edge.device.roofline.peaks import Peaks
from obert_edge.device.runtime.library import installed_library


@pytest.fixture(scope="module")
def library():
    return installed_library()


def test_an_implementation_with_vectors_has_peaks(library):
    for name in library.implementations():
        peaks = measure_peaks(library, name, threads=1, memory_bytes=1 << 20)
        if name == "scalar":
            assert peaks is None
            continue
        assert min(peaks.to_dict().values()) > 0
        # What needs more instructions for each product cannot be faster than the products alone; 2: noise.
        assert all(0 < rate < 2 * peaks.multiply_add for rate in peaks.row_gather.values())


def test_unknown_things_have_no_peak(library):
    assert library.measure_peak("abacus", 0) == 0
    assert library.measure_peak("scalar", 0) == 0
    assert library.measure_peak(library.implementations()[0], 99) == 0
    assert library.measure_peak(library.implementations()[0], 4, -1) == 0


def test_a_library_without_the_function_knows_no_peaks(library, monkeypatch):
    monkeypatch.setattr(library, "_functions", object())
    assert measure_peaks(library, "avx2", threads=1) is None


def test_peaks_survive_json():
    peaks = Peaks(1, 2, 3, {1: 4.0, 2: 5.0, 4: 6.0}, 7, 8, 9, 10)
    assert Peaks.from_dict(peaks.to_dict()) == peaks
    assert Peaks.from_dict({}) is None
