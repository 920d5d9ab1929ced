"""Every linear gets the weight format that the target's measured costs make cheapest."""

from __future__ import annotations

import numpy as np
import pytest

from obert_edge.bundle.program import WeightFormat
from obert_edge.errors import CheckpointError
from obert_edge.host.compiler.passes.pack import choose_format
from obert_edge.targets import FormatCost


def test_the_cheapest_format_is_chosen() -> None:
    costs = {weight_format: FormatCost(0.1, 1.0, 0.0) for weight_format in WeightFormat}
    for without_gather in (WeightFormat.DENSE_4, WeightFormat.BLOCK_1X4):
        costs[without_gather] = FormatCost(0.1, 0.9, 0.0)
    generator = np.random.default_rng(0)

    def pattern(rows: int, columns: int, density: float) -> np.ndarray:
        mask = generator.random((256 // rows, 256 // columns)) < density
        return np.kron(mask, np.ones((rows, columns))).astype(np.int8)

    assert choose_format(pattern(4, 1, 0.1), costs).format is WeightFormat.ROW_GATHER_4
    assert choose_format(pattern(2, 1, 0.1), costs).format is WeightFormat.ROW_GATHER_2
    assert choose_format(pattern(1, 1, 0.1), costs).format is WeightFormat.ROW_GATHER_1
    assert choose_format(pattern(1, 4, 0.1), costs).format is WeightFormat.BLOCK_1X4
    assert choose_format(pattern(4, 1, 1.0), costs).format is WeightFormat.DENSE_4


def test_only_formats_the_target_has_are_chosen() -> None:
    only = {WeightFormat.ROW_GATHER_1: FormatCost(1, 1, 1)}
    assert choose_format(np.ones((4, 4), np.int8), only).format is WeightFormat.ROW_GATHER_1
    with pytest.raises(CheckpointError, match="too wide"):
        choose_format(np.ones((4, 6), np.int8), {WeightFormat.DENSE_4: FormatCost(1, 1, 1)})
