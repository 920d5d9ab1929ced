"""Attention: every length, head size, packing and thread count gives the scalar kernels' bits."""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obert_edge.bundle.program import Attention, DType
from obert_edge.device.runtime.native import Library, PackedBatch
from tests.kernels import reference
from tests.kernels.harness import ProgramBuilder, run_everywhere, starts_of


def check(
    library: Library,
    lengths: Sequence[int],
    heads: int = 2,
    head_dim: int = 32,
    out: DType = DType.U8,
    sharpness: float = 3.0,
    seed: int = 0,
    threads: Sequence[int] = (1, 2, 3),
    query_zero_point: int = 128,
    value_scale: float = 0.02,
    extreme: bool = False,
    distances: int = 0,
    window: int = 0,
    positions: int = 0,
) -> None:
    """Run attention everywhere: equal bits, and the right numbers.

    Args:
        library: the engine.
        lengths: tokens of each sequence of the batch.
        heads: the number of heads.
        head_dim: channels of a head.
        out: type of the output.
        sharpness: how far the scores of a query spread, in powers of two.
        seed: of the random queries, keys and values.
        threads: the counts to run on.
        query_zero_point: zero point of the queries.
        value_scale: scale of the values, for a float output.
        extreme: bytes are as large as they can be, and most of one sign.
        distances: of a bias by how far a key is behind the query, which spreads the scores as far again; 0:
            there is none.
        window: keys that are further from the query do not count; 0: all do.
        positions: rows of the position tables, of which neighboring distances share some; 0: there are none.
    """
    rng = np.random.default_rng(seed)
    channels, tokens = heads * head_dim, sum(lengths)
    query = rng.integers(0, 256, (channels, tokens)).astype(np.uint8)
    key = rng.integers(-127, 128, (channels, tokens)).astype(np.int8)
    value = rng.integers(-127, 128, (channels, tokens)).astype(np.int8)
    if extreme:  # where products of bytes are added in 16 bits, these saturate
        query = np.where(query > 50, 255, 0).astype(np.uint8)
        key, value = (np.where(x > -80, 127, -127).astype(np.int8) for x in (key, value))
    # Scores of random vectors spread by about 74 * 73 * sqrt(head_dim); sharpness is the spread in bits.
    score_scale = float(np.float32(sharpness / (74 * 73 * head_dim**0.5)))
    zero_point = 120
    context_scale = float(np.float32(1.7 if out is DType.U8 else value_scale))

    builder = ProgramBuilder(max_positions=max(512, *lengths))
    buffers = [builder.buffer(t, channels) for t in (DType.U8, DType.S8, DType.S8, out)]
    op = Attention(
        "attention", *buffers, heads, head_dim, query_zero_point, zero_point, score_scale, context_scale
    )
    bias = np.zeros((heads, max(2 * distances - 1, 1)), np.float32)
    tables = PositionTables.random(rng, heads, head_dim, positions, distances, extreme)
    if positions:
        op = tables.added_to(op, builder, score_scale)
    elif distances:
        bias = (sharpness * rng.normal(size=bias.shape)).astype(np.float32)
        op = dataclasses.replace(op, bias=builder.const(bias), distances=distances)
    op = dataclasses.replace(op, window=window)
    builder.add(op)
    inputs = dict(zip(buffers, (query, key, value)))
    batch = PackedBatch(starts_of(lengths))
    (found,) = run_everywhere(library, builder, batch, inputs, [buffers[3]], threads=threads)

    expected = np.empty((channels, tokens))
    for begin, end in zip(batch.starts, batch.starts[1:]):
        for head in range(heads):
            at = np.s_[head * head_dim : (head + 1) * head_dim, begin:end]
            scores = (query[at].astype(np.int64) - query_zero_point).T @ key[at].astype(np.int64)
            behind = np.arange(end - begin) - np.arange(end - begin)[:, None]
            most = bias.shape[1] // 2
            scores = scores * score_scale + bias[head, np.clip(behind, -most, most) + most].astype(np.float64)
            if positions:
                scores = scores + score_scale * tables.scores(
                    query[at].astype(np.int64) - query_zero_point, key[at].astype(np.int64), head
                )
            if window:
                scores[np.abs(behind) > window] = -np.inf
            p = reference.softmax(scores)
            # Probabilities are steps of 1/255 of the largest: compute with those, then compare closely.
            q = np.rint(p / p.max(axis=1, keepdims=True) * 255)
            expected[at] = value[at].astype(np.float64) @ (q / q.sum(axis=1, keepdims=True)).T
    expected *= context_scale
    if out is DType.U8:
        assert np.abs(found - reference.quantize(expected, zero_point, 0, 255)).max() <= 1
    else:
        # One probability that rounds the other way moves a context by the distance between it and the token's
        # value, at most 254 steps, over the sum of the row, at least 255.
        np.testing.assert_allclose(found, expected, atol=254 * context_scale / 255)
        assert np.abs(found - expected).mean() < 1e-4 * context_scale * 127


@dataclasses.dataclass(frozen=True)
class PositionTables:
    """What queries and keys are multiplied with, by how far the key is behind the query.

    Attributes:
        row: of each distance.
        key: [heads, rows, head_dim] int8; ``query`` too.
        key_scale: [heads, rows] float32, in units of the scale of scores; ``query_scale`` too.
    """

    row: np.ndarray
    key: np.ndarray
    query: np.ndarray
    key_scale: np.ndarray
    query_scale: np.ndarray

    @classmethod
    def random(
        cls, rng: np.random.Generator, heads: int, head_dim: int, rows: int, distances: int, extreme: bool
    ) -> PositionTables:
        """Runs of rows that follow each other, and of rows that repeat, as buckets of distances have them."""
        steps = rng.integers(0, 2, max(2 * distances - 1, 0)) | (rng.random(max(2 * distances - 1, 0)) < 0.7)
        row = (np.cumsum(steps) % max(rows, 1)).astype(np.uint16)
        key, query = (rng.integers(-127, 128, (heads, rows, head_dim)).astype(np.int8) for _ in range(2))
        if extreme:
            key, query = (np.where(x > -80, 127, -127).astype(np.int8) for x in (key, query))
        key_scale, query_scale = (rng.uniform(0, 2, (heads, rows)).astype(np.float32) for _ in range(2))
        return cls(row, key, query, key_scale, query_scale)

    def added_to(self, op: Attention, builder: ProgramBuilder, score_scale: float) -> Attention:
        """The op with these tables as its constants."""
        heads, rows, head_dim = self.key.shape

        def quads(table: np.ndarray) -> int:
            return builder.const(table.reshape(heads, rows, head_dim // 4, 4).transpose(0, 2, 1, 3))

        return dataclasses.replace(
            op,
            row_of_distance=builder.const(self.row),
            position_key=quads(self.key),
            position_query=quads(self.query),
            position_key_scale=builder.const(self.key_scale * np.float32(score_scale)),
            position_query_scale=builder.const(self.query_scale * np.float32(score_scale)),
            distances=len(self.row) // 2 + 1,
            positions=rows,
        )

    def scores(self, query: np.ndarray, key: np.ndarray, head: int) -> np.ndarray:
        """[queries, keys] of whole-number queries and keys [head_dim, tokens]."""
        tokens, most = query.shape[1], len(self.row) // 2
        behind = np.arange(tokens) - np.arange(tokens)[:, None]
        row = self.row[np.clip(behind, -most, most) + most]
        of_queries = (query.T @ self.key[head].T.astype(np.int64)) * self.key_scale[head].astype(np.float64)
        of_keys = (key.T @ self.query[head].T.astype(np.int64)) * self.query_scale[head].astype(np.float64)
        places = np.arange(tokens)
        return of_queries[places[:, None], row] + of_keys[places[None], row]


every_output = pytest.mark.parametrize("out", [DType.U8, DType.F32], ids=lambda x: x.name)


@every_output
@pytest.mark.parametrize("length", [1, 2, 3, 15, 16, 17, 31, 33, 63, 64, 65, 127, 128, 129, 200])
def test_lengths(library: Library, length: int, out: DType) -> None:
    check(library, [length], out=out)


#: What becomes a denormal: score differences times the scale; powers of two from 2^-126 down; the scale over
#: the sum of the probabilities.
DENORMALS: Dict[str, Dict[str, Any]] = {
    "scaled-scores": {"sharpness": 1e-37},
    "powers": {"sharpness": 3e5},
    "context-scale": {"out": DType.F32, "value_scale": 1e-36},
}


@pytest.mark.parametrize("what", DENORMALS)
def test_numbers_too_small_for_a_normal_float(library: Library, what: str) -> None:
    check(library, [30], **DENORMALS[what])


@every_output
@pytest.mark.parametrize("distances", [1, 2, 9, 128, 600])
def test_biases_by_how_far_a_key_is_behind(library: Library, distances: int, out: DType) -> None:
    check(library, [150], out=out, distances=distances)


@pytest.mark.parametrize("length", [1, 2, 3, 15, 16, 17, 31, 33, 63, 64, 65, 127, 129, 200])
def test_biases_of_every_length(library: Library, length: int) -> None:
    check(library, [length], distances=40)


@pytest.mark.parametrize(
    "lengths", [[1] * 20, [5, 60, 3], [64, 64], [63, 2, 65, 1], [100, 1, 30, 64, 17]], ids=str
)
def test_biases_of_packed_sequences(library: Library, lengths: Sequence[int]) -> None:
    """They count from the sequence's own tokens, wherever it begins in a panel."""
    check(library, lengths, distances=30, heads=3)


@pytest.mark.parametrize("sharpness", [1e-6, 30.0, 3000.0])
def test_biases_of_flat_and_sharp_rows(library: Library, sharpness: float) -> None:
    check(library, [130], sharpness=sharpness, distances=64, out=DType.F32)


@every_output
@pytest.mark.parametrize("window", [1, 3, 16, 64, 149, 500])
def test_windows(library: Library, window: int, out: DType) -> None:
    check(library, [150], out=out, window=window)


@pytest.mark.parametrize("length", [1, 2, 15, 16, 17, 33, 63, 64, 65, 127, 129, 200, 400])
def test_windows_of_every_length(library: Library, length: int) -> None:
    check(library, [length], window=20)


@pytest.mark.parametrize("lengths", [[1] * 20, [5, 60, 3], [63, 2, 65, 1], [100, 1, 30, 64, 17]], ids=str)
def test_windows_of_packed_sequences(library: Library, lengths: Sequence[int]) -> None:
    check(library, lengths, window=7, heads=3)


@pytest.mark.parametrize("sharpness", [1e-6, 30.0, 3000.0])
def test_windows_of_flat_and_sharp_rows(library: Library, sharpness: float) -> None:
    """A flat row tells whether a key outside of the window has got a share."""
    check(library, [130], sharpness=sharpness, window=10, out=DType.F32, extreme=sharpness < 1)


@every_output
@pytest.mark.parametrize(("positions", "distances"), [(1, 1), (3, 2), (20, 60), (299, 150), (600, 600)])
def test_positions(library: Library, positions: int, distances: int, out: DType) -> None:
    """Tables of fewer distances than the text has, of as many, and of more."""
    check(library, [150], out=out, positions=positions, distances=distances)


@pytest.mark.parametrize("length", [1, 2, 3, 15, 16, 17, 31, 33, 63, 64, 65, 127, 129, 200])
def test_positions_of_every_length(library: Library, length: int) -> None:
    check(library, [length], positions=50, distances=140)


@pytest.mark.parametrize(
    "lengths", [[1] * 20, [5, 60, 3], [64, 64], [63, 2, 65, 1], [100, 1, 30, 64, 17]], ids=str
)
def test_positions_of_packed_sequences(library: Library, lengths: Sequence[int]) -> None:
    """They count from the sequence's own tokens, wherever it begins in a panel."""
    check(library, lengths, positions=70, distances=90, heads=3)


@pytest.mark.parametrize("sharpness", [1e-6, 30.0, 3000.0])
def test_positions_of_flat_and_sharp_rows(library: Library, sharpness: float) -> None:
    check(library, [130], sharpness=sharpness, positions=200, distances=130, out=DType.F32)


@pytest.mark.parametrize("zero_point", [0, 1, 255])
@pytest.mark.parametrize("head_dim", [4, 12, 36, 64])
def test_positions_of_every_head_size_and_zero_point(
    library: Library, head_dim: int, zero_point: int
) -> None:
    check(library, [41, 7], head_dim=head_dim, positions=80, distances=41, query_zero_point=zero_point)


def test_positions_of_the_largest_bytes(library: Library) -> None:
    check(library, [7, 50, 33], sharpness=1.0, out=DType.F32, extreme=True, positions=80, distances=50)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    lengths=st.lists(st.integers(1, 100), min_size=1, max_size=5),
    heads=st.integers(1, 4),
    head_dim=st.integers(1, 17).map(lambda quads: 4 * quads),
    out=st.sampled_from([DType.U8, DType.F32]),
    positions=st.integers(1, 250),
    distances=st.integers(1, 120),
    sharpness=st.floats(0.01, 100),
    query_zero_point=st.integers(0, 255),
    seed=st.integers(0, 2**16),
)
def test_any_positions(library: Library, **values: object) -> None:
    check(library, threads=(1, 3), **values)


@pytest.mark.parametrize("length", [384, 512])
def test_long_sequences(library: Library, length: int) -> None:
    check(library, [length], heads=1, head_dim=64, threads=(1,))


@every_output
@pytest.mark.parametrize("head_dim", [1, 2, 4, 6, 16, 26, 32, 48, 64, 80, 96, 128])
def test_head_sizes(library: Library, head_dim: int, out: DType) -> None:
    check(library, [41, 7], heads=3, head_dim=head_dim, out=out)


@pytest.mark.parametrize(
    "lengths",
    [[1] * 20, [5, 60, 3], [64, 64], [63, 2, 65, 1], [100, 1, 30, 64, 17], [16, 16, 16, 16, 16]],
    ids=str,
)
@pytest.mark.parametrize(
    "head",
    [{"heads": 2, "out": DType.U8}, {"heads": 1, "head_dim": 64, "out": DType.F32}],
    ids=["2-heads-of-32-U8", "1-head-of-64-F32"],
)
def test_packed_sequences(library: Library, lengths: Sequence[int], head: Dict[str, Any]) -> None:
    """Sequences begin and end anywhere in a panel, and write only their own lanes."""
    check(library, lengths, **head)


@pytest.mark.parametrize("sharpness", [1e-6, 0.1, 30.0, 3000.0])
def test_flat_and_sharp_rows(library: Library, sharpness: float) -> None:
    check(library, [130], sharpness=sharpness, out=DType.F32)


@pytest.mark.parametrize("zero_point", [0, 1, 255])
def test_query_zero_points(library: Library, zero_point: int) -> None:
    check(library, [30], query_zero_point=zero_point)


@pytest.mark.parametrize("sharpness", [1e-6, 1.0])
def test_the_largest_bytes(library: Library, sharpness: float) -> None:
    check(library, [7, 50, 33], sharpness=sharpness, out=DType.F32, extreme=True)


def test_twelve_heads(library: Library) -> None:
    check(library, [70, 20], heads=12, head_dim=64)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    lengths=st.lists(st.integers(1, 100), min_size=1, max_size=5),
    heads=st.integers(1, 4),
    head_dim=st.integers(1, 70),
    out=st.sampled_from([DType.U8, DType.F32]),
    distances=st.integers(0, 120),
    sharpness=st.floats(0.01, 100),
    seed=st.integers(0, 2**16),
)
def test_any_attention(library: Library, **values: object) -> None:
    check(library, threads=(1, 3), **values)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    lengths=st.lists(st.integers(1, 150), min_size=1, max_size=5),
    head_dim=st.integers(1, 70),
    window=st.integers(1, 160),
    sharpness=st.floats(0.01, 100),
    seed=st.integers(0, 2**16),
)
def test_any_window(library: Library, **values: object) -> None:
    check(library, threads=(1, 3), **values)
