"""Embedding: the sum of two or three dequantized rows."""

from __future__ import annotations

from typing import Any, Dict, List

import numpy as np
import pytest

from obert_edge.bundle.program import ABSENT, DType, Embed, RowFormat
from obert_edge.bundle.rows import dequantize_rows, group_count, pack_rows
from obert_edge.device.runtime.native import Library, PackedBatch
from obert_edge.errors import BundleError
from tests.kernels.harness import ProgramBuilder, run_everywhere, starts_of

POSITIONS, TYPES = 512, 2
with_or_without_types = pytest.mark.parametrize("types", [0, TYPES], ids=["no-types", "types"])


def int8_table(rng: np.random.Generator, rows: int, channels: int) -> np.ndarray:
    return rng.integers(-127, 128, (rows, channels)).astype(np.int8)


def scales_of(rng: np.random.Generator, rows: int) -> np.ndarray:
    return rng.uniform(0.001, 0.01, rows).astype(np.float32)


def batch_of(rng: np.random.Generator, lengths: List[int], vocabulary: int, types: int) -> PackedBatch:
    """Random ids; positions count up in each sequence; types only where the model has them."""
    tokens = sum(lengths)
    ids = rng.integers(0, vocabulary, tokens).astype(np.int32)
    ids[0] = vocabulary - 1  # the last row, beyond which nothing may be read
    positions = np.concatenate([np.arange(length) for length in lengths]).astype(np.int32)
    kinds = rng.integers(0, TYPES, tokens).astype(np.int32) if types else None
    return PackedBatch(starts_of(lengths), ids, positions, kinds)


def run(
    library: Library,
    batch: PackedBatch,
    word: Dict[str, np.ndarray],
    others: List[Dict[str, np.ndarray]],
    channels: int,
    vocabulary: int,
) -> np.ndarray:
    """The scalar kernels' output [tokens, channels], when all others have given its bits.

    Args:
        library: the engine.
        batch: the tokens.
        word: ``rows`` and ``scale``, and of INT4 rows ``group_scale``.
        others: the same of positions and, where there are any, of token types.
        channels: of the output.
        vocabulary: the number of word rows.
    """
    builder = ProgramBuilder()
    output = builder.buffer(DType.F32, channels)
    constants = [builder.const(table[name]) for table in (word, *others) for name in ("rows", "scale")]
    constants += [ABSENT] * (6 - len(constants))
    types = TYPES if len(others) == 2 else 0
    int4 = {}
    if "group_scale" in word:
        int4 = {"word_format": RowFormat.INT4, "word_group_scale": builder.const(word["group_scale"])}
    builder.add(Embed("embed", output, *constants, vocabulary, POSITIONS, types, channels, **int4))
    (found,) = run_everywhere(library, builder, batch, {}, [output])
    return found.T


def expected(batch: PackedBatch, words: np.ndarray, others: List[Dict[str, np.ndarray]]) -> np.ndarray:
    """The sum in float64 of dequantized word rows and of the other tables' rows: [tokens, channels]."""
    total = words.astype(np.float64)
    for table, at in zip(others, (batch.positions, batch.token_types)):
        total = total + table["rows"][at] * table["scale"][at, None].astype(np.float64)
    return total


def other_tables(rng: np.random.Generator, channels: int, types: int) -> List[Dict[str, np.ndarray]]:
    sizes = (POSITIONS, TYPES) if types else (POSITIONS,)
    return [{"rows": int8_table(rng, rows, channels), "scale": scales_of(rng, rows)} for rows in sizes]


@with_or_without_types
@pytest.mark.parametrize("lengths", [[1], [16], [5, 30, 4], [64, 64], [65], [200]], ids=str)
@pytest.mark.parametrize("channels", [1, 3, 16, 50, 128], ids=lambda n: f"{n}-channels")
def test_int8_word_rows(library: Library, channels: int, lengths: List[int], types: int) -> None:
    rng, vocabulary = np.random.default_rng(3), 60
    word = {"rows": int8_table(rng, vocabulary, channels), "scale": scales_of(rng, vocabulary)}
    others = other_tables(rng, channels, types)
    batch = batch_of(rng, lengths, vocabulary, types)
    found = run(library, batch, word, others, channels, vocabulary)

    words = word["rows"][batch.ids] * word["scale"][batch.ids, None].astype(np.float64)
    np.testing.assert_allclose(found, expected(batch, words, others), atol=1e-6)


@with_or_without_types
@pytest.mark.parametrize("lengths", [[1], [5, 30, 4], [64, 65]], ids=str)
@pytest.mark.parametrize("channels", [1, 16, 31, 32, 33, 50, 128], ids=lambda n: f"{n}-channels")
def test_int4_word_rows(library: Library, channels: int, lengths: List[int], types: int) -> None:
    """Groups of 32 channels share a scale; a row may end inside a group."""
    rng, vocabulary = np.random.default_rng(4), 61
    word = {
        "rows": pack_rows(rng.integers(-8, 8, (vocabulary, channels)).astype(np.int8)),
        "scale": rng.uniform(1e-4, 1e-3, vocabulary).astype(np.float32),
        "group_scale": int8_table(rng, vocabulary, group_count(channels)),
    }
    others = other_tables(rng, channels, types)
    batch = batch_of(rng, lengths, vocabulary, types)
    found = run(library, batch, word, others, channels, vocabulary)

    words = dequantize_rows(word["rows"], word["group_scale"], word["scale"], channels)[batch.ids]
    np.testing.assert_allclose(found, expected(batch, words, others), atol=1e-6)


@pytest.mark.parametrize("lengths", [[1], [2], [1, 1, 16, 3], [5, 30, 4], [63, 2, 64], [200]], ids=str)
@pytest.mark.parametrize("width", [1, 16, 33, 50], ids=lambda n: f"{n}-channels")
@pytest.mark.parametrize("int4", [False, True], ids=["int8", "int4"])
def test_rows_of_the_tokens_beside_each(library: Library, width: int, lengths: List[int], int4: bool) -> None:
    """The token after, the token, the token before it; beyond a sequence's ends there is nothing."""
    rng, vocabulary = np.random.default_rng(5), 62
    batch = batch_of(rng, lengths, vocabulary, 0)
    rows, scale = int8_table(rng, vocabulary, width), scales_of(rng, vocabulary)
    words = rows * scale[:, None].astype(np.float64)
    builder = ProgramBuilder()
    output = builder.buffer(DType.F32, 3 * width)
    fields: Dict[str, Any] = {}
    if int4:
        codes = pack_rows(rng.integers(-8, 8, rows.shape).astype(np.int8))
        groups = int8_table(rng, vocabulary, group_count(width))
        words = dequantize_rows(codes, groups, scale, width).astype(np.float64)
        fields = {"word_format": RowFormat.INT4, "word_group_scale": builder.const(groups)}
        rows = codes
    tables = (builder.const(rows), builder.const(scale), *[ABSENT] * 4)
    builder.add(Embed("embed", output, *tables, vocabulary, 0, 0, 3 * width, neighbors=1, **fields))
    (found,) = run_everywhere(library, builder, batch, {}, [output])

    expected = []
    for start, end in zip(batch.starts, batch.starts[1:]):
        own = words[batch.ids[start:end]]
        none = np.zeros((1, width))
        expected.append(np.hstack([np.vstack([own[1:], none]), own, np.vstack([none, own[:-1]])]))
    np.testing.assert_allclose(found.T, np.vstack(expected), atol=1e-6)


@with_or_without_types
@pytest.mark.parametrize("lengths", [[1], [5, 30, 4], [64, 65]], ids=str)
def test_rows_of_positions_without_those_of_words(library: Library, lengths: List[int], types: int) -> None:
    rng, channels = np.random.default_rng(6), 50
    others = other_tables(rng, channels, types)
    batch = batch_of(rng, lengths, 1 << 20, types)  # ids that no table has
    builder = ProgramBuilder()
    output = builder.buffer(DType.F32, channels)
    constants = [builder.const(table[name]) for table in others for name in ("rows", "scale")]
    constants = [ABSENT, ABSENT, *constants, *[ABSENT] * (4 - len(constants))]
    builder.add(Embed("embed", output, *constants, 0, POSITIONS, types, channels))
    (found,) = run_everywhere(library, builder, batch, {}, [output])
    nothing = np.zeros((sum(lengths), channels))
    np.testing.assert_allclose(found.T, expected(batch, nothing, others), atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"neighbors": 2}, "neighbors"),
        ({"neighbors": 1, "channels": 4}, "beyond three rows"),
        ({"neighbors": 1, "position": 0}, "position table beside neighbors"),
        ({"neighbors": 1, "token_type": 0}, "token type table beside neighbors"),
        ({"neighbors": 1, "word": ABSENT, "vocabulary": 0}, "neighbors without a word table"),
        ({"word": ABSENT}, "vocabulary without a word table"),
        ({"word": ABSENT, "vocabulary": 0}, "token_types without other tables"),
    ],
)
def test_fields_that_do_not_belong_together_are_refused(
    library: Library, changes: Dict[str, int], named: str
) -> None:
    channels = changes.get("channels", 3)
    builder = ProgramBuilder()
    output = builder.buffer(DType.F32, channels)
    table, scale = builder.const(np.ones((8, 3), np.int8)), builder.const(np.ones(8, np.float32))
    fields = {"word": table, "word_scale": scale, "vocabulary": 8, "channels": channels, **changes}
    absent = dict.fromkeys(("position", "position_scale", "token_type", "token_type_scale"), ABSENT)
    builder.add(Embed("embed", output, **{**absent, **fields, "positions": 0, "token_types": 0}))
    batch = batch_of(np.random.default_rng(7), [3], 8, 0)
    with pytest.raises(BundleError, match=named):
        run_everywhere(library, builder, batch, {}, [output])


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
