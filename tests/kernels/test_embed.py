"""Embedding: the sum of two or three dequantized rows."""

from __future__ import annotations

from typing import List

import numpy as np
import pytest

from obert_edge.bundle.program import ABSENT, DType, Embed, RowFormat
from obert_edge.bundle.rows import dequantize_rows, group_count, pack_rows
from obert_edge.device.runtime.native import Library, PackedBatch
from tests.kernels.harness import ProgramBuilder, run_everywhere, starts_of


@pytest.mark.parametrize("types", [0, 2])
@pytest.mark.parametrize("lengths", [[1], [16], [5, 30, 4], [64, 64], [65], [200]], ids=str)
@pytest.mark.parametrize("channels", [1, 3, 16, 50, 128])
def test_embed(library: Library, channels: int, lengths: List[int], types: int) -> None:
    rng = np.random.default_rng(3)
    tokens = sum(lengths)
    tables = {name: rng.integers(-127, 128, (rows, channels)).astype(np.int8)
              for name, rows in (("word", 60), ("position", 512), ("type", 2))}  # fmt: skip
    scales = {name: rng.uniform(0.001, 0.01, len(table)).astype(np.float32) for name, table in tables.items()}
    builder = ProgramBuilder()
    output = builder.buffer(DType.F32, channels)
    names = ("word", "position", "type") if types else ("word", "position")
    constants = [builder.const(values[name]) for name in names for values in (tables, scales)]
    constants += [ABSENT] * (6 - len(constants))
    builder.add(Embed("embed", output, *constants, 60, 512, types, channels))
    ids = rng.integers(0, 60, tokens).astype(np.int32)
    positions = np.concatenate([np.arange(length) for length in lengths]).astype(np.int32)
    kinds = rng.integers(0, 2, tokens).astype(np.int32) if types else None
    batch = PackedBatch(starts_of(lengths), ids, positions, kinds)
    (found,) = run_everywhere(library, builder, batch, {}, [output])

    parts = [("word", ids), ("position", positions)] + ([("type", kinds)] if types else [])
    expected = sum(tables[name][at].astype(np.float64) * scales[name][at, None] for name, at in parts)
    np.testing.assert_allclose(found.T, expected, atol=1e-6)


def test_token_types_default_to_zero(library: Library) -> None:
    builder = ProgramBuilder()
    output = builder.buffer(DType.F32, 2)
    ones = builder.const(np.ones(4, np.float32))
    table = builder.const(np.arange(8, dtype=np.int8).reshape(4, 2))
    builder.program.max_positions = 4
    builder.add(Embed("embed", output, table, ones, table, ones, table, ones, 4, 4, 4, 2))
    at = np.array([1, 2, 3], np.int32)
    (found,) = run_everywhere(library, builder, PackedBatch(starts_of([3]), at, at), {}, [output])
    np.testing.assert_array_equal(found.T, [[4, 7], [8, 11], [12, 15]])


@pytest.mark.parametrize("types", [0, 2])
@pytest.mark.parametrize("lengths", [[1], [5, 30, 4], [64, 65]], ids=str)
@pytest.mark.parametrize("channels", [1, 16, 31, 32, 33, 50, 128])
def test_int4_word_rows(library: Library, channels: int, lengths: List[int], types: int) -> None:
    rng = np.random.default_rng(4)
    tokens, vocabulary = sum(lengths), 61
    word = pack_rows(rng.integers(-8, 8, (vocabulary, channels)).astype(np.int8))
    group_scale = rng.integers(-127, 128, (vocabulary, group_count(channels))).astype(np.int8)
    tables = {name: rng.integers(-127, 128, (rows, channels)).astype(np.int8)
              for name, rows in (("position", 512), ("type", 2))}  # fmt: skip
    scales = {name: rng.uniform(0.001, 0.01, len(table)).astype(np.float32) for name, table in tables.items()}
    scales["word"] = rng.uniform(1e-4, 1e-3, vocabulary).astype(np.float32)
    builder = ProgramBuilder()
    output = builder.buffer(DType.F32, channels)
    constants = [builder.const(word), builder.const(scales["word"])]
    for name in ("position", "type") if types else ("position",):
        constants += [builder.const(tables[name]), builder.const(scales[name])]
    constants += [ABSENT] * (6 - len(constants))
    builder.add(
        Embed("embed", output, *constants, vocabulary, 512, types, channels,
              word_format=RowFormat.INT4, word_group_scale=builder.const(group_scale))
    )  # fmt: skip
    ids = rng.integers(0, vocabulary, tokens).astype(np.int32)
    ids[0] = vocabulary - 1
    positions = np.concatenate([np.arange(length) for length in lengths]).astype(np.int32)
    kinds = rng.integers(0, 2, tokens).astype(np.int32) if types else None
    batch = PackedBatch(starts_of(lengths), ids, positions, kinds)
    (found,) = run_everywhere(library, builder, batch, {}, [output])

    expected = dequantize_rows(word, group_scale, scales["word"], channels)[ids].astype(np.float64)
    expected += tables["position"][positions] * scales["position"][positions, None].astype(np.float64)
    if kinds is not None:
        expected += tables["type"][kinds] * scales["type"][kinds, None].astype(np.float64)
    np.testing.assert_allclose(found.T, expected, atol=1e-6)
