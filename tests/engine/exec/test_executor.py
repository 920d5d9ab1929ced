"""Whole graphs: the same bits for every implementation, thread count and packing; memory that settles."""

from __future__ import annotations

import ctypes
import dataclasses
import os
import time
from pathlib import Path
from typing import List

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obert_edge.bundle.program import ABSENT, ColumnCoding, Domain, DType, Linear, Output, WeightFormat
from obert_edge.device.runtime.native import Library, PackedBatch
from obert_edge.errors import BundleError, InputError
from tests.engine.models import HIDDEN, INTERMEDIATE, LABELS, EncoderBuilder, batch_of, split

ENCODERS = {dynamic: EncoderBuilder(dynamic=dynamic) for dynamic in (False, True)}


def run(
    library: Library, batch: PackedBatch, *, dynamic: bool = False, **options: object
) -> List[np.ndarray]:
    builder = ENCODERS[dynamic]
    with library.open(builder.program.to_bytes(), builder.weights, **options) as model:
        return model.run(batch)


def same_bits(a: List[np.ndarray], b: List[np.ndarray]) -> bool:
    return all(x.shape == y.shape and x.tobytes() == y.tobytes() for x, y in zip(a, b))


def test_output_shapes(library: Library) -> None:
    logits, embedding, hidden = run(library, batch_of([3, 17, 1]))
    assert logits.shape == (3, LABELS)
    assert embedding.shape == (3, HIDDEN)
    assert hidden.shape == (21, HIDDEN)
    np.testing.assert_allclose(embedding[1], hidden[3:20].mean(axis=0), atol=1e-5)
    assert np.isfinite(hidden).all() and hidden.std() > 0.1


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize(
    "lengths",
    [[1], [64], [7, 130, 64, 1, 33], [1] * 70, [150, 149, 3, 150, 120]],
    ids=["one", "panel", "unequal", "many", "panels"],
)
def test_implementations_and_threads_agree(library: Library, lengths: List[int], dynamic: bool) -> None:
    batch = batch_of(lengths)
    expected = run(library, batch, dynamic=dynamic, implementation="scalar")
    for name in library.implementations():
        for threads in (1, 2, 3):
            found = run(library, batch, dynamic=dynamic, implementation=name, threads=threads)
            assert same_bits(found, expected), (name, threads)


@pytest.mark.parametrize("cache", [1, 2800, 3300, 4600, 1 << 20])
@pytest.mark.parametrize("lengths", [[70, 5, 33], [150, 149, 3, 150, 120]], ids=["ops", "panels"])
def test_tiles_for_any_cache_give_the_same_bits(library: Library, lengths: List[int], cache: int) -> None:
    """2800 bytes cut linears of 24 channels, 4600 those of 40, both and neither the others."""
    batch = batch_of(lengths)
    expected = run(library, batch, implementation="scalar")
    for name in library.implementations():
        for threads in (1, 3):
            found = run(library, batch, implementation=name, threads=threads, cache=cache)
            assert same_bits(found, expected), (name, threads)


def test_a_cache_is_not_negative(library: Library) -> None:
    with pytest.raises(InputError, match="cache is -1"):
        run(library, batch_of([3]), cache=-1)


def test_columns_stored_as_masks_give_the_bits_of_lists(library: Library) -> None:
    compact, batch = EncoderBuilder(compact=True), batch_of([7, 130, 1])
    codings = {op.column_coding for op in compact.program.ops if isinstance(op, Linear)}
    assert codings == {ColumnCoding.LIST, ColumnCoding.MASKS}  # dense linears have no columns
    for name in library.implementations():
        expected = run(library, batch, implementation=name)
        for threads in (1, 3):
            blobs = compact.program.to_bytes(), compact.weights
            with library.open(*blobs, implementation=name, threads=threads) as model:
                assert same_bits(model.run(batch), expected), (name, threads)


def test_linears_over_sequences_that_run_together_run_once(library: Library) -> None:
    """The second adds to its output in place, so that running it again would show."""

    def embedding(residual: bool, extra: bool = True) -> np.ndarray:
        builder = EncoderBuilder(layers=1)
        ops = {op.name: op for op in builder.program.ops}
        source, mean = ops["classifier"].input, ops["mean"].output
        if extra:
            outputs = [builder.program.ops.pop() for _ in range(3)][::-1]
            target = builder.buffer(DType.F32, LABELS, Domain.SEQUENCES)
            builder.add_linear("first of two", source, target)
            builder.add_linear("second", source, mean, residual=mean if residual else ABSENT)
            builder.program.ops += outputs
        with library.open(builder.program.to_bytes(), builder.weights, threads=2) as model:
            return model.run(batch_of([5, 9, 2]))[1]

    expected = embedding(False, extra=False) + embedding(False)
    np.testing.assert_allclose(embedding(True), expected, atol=1e-5)


#: Linears of one input: how many channels it has, and the format and the outputs of each.
DENSE, BLOCKS, GATHERED = WeightFormat.DENSE_4, WeightFormat.BLOCK_1X4, WeightFormat.ROW_GATHER_4
JOINED = {
    "formats": (768, [(DENSE, 768), (BLOCKS, 768), (DENSE, 768), (GATHERED, 768)]),
    # Of less than 64 groups some tasks get none.
    "dense-and-a-tiny-one": (256, [(DENSE, 256), (DENSE, 4), (DENSE, 256)]),
    "small-and-dense": (128, [(DENSE, 128)] * 3),
    "dense-alone": (768, [(DENSE, 768)]),
    "blocks-and-a-tiny-one": (512, [(BLOCKS, 768), (BLOCKS, 16), (BLOCKS, 768)]),
}


@pytest.mark.parametrize("lengths", [[16], [90, 110], [150, 150, 100]], ids=["one-panel", "panels", "many"])
@pytest.mark.parametrize("joined", JOINED)
def test_linears_of_one_input_in_many_tasks_give_the_same_bits(
    library: Library, joined: str, lengths: List[int]
) -> None:
    """What a thread made of a panel serves its other tasks of that panel, in that run alone."""
    channels, linears = JOINED[joined]
    builder = EncoderBuilder(layers=1)
    del builder.program.ops[-3:]  # the outputs
    source = builder.buffer(DType.U8, channels)
    builder.add_linear("widened", builder.quantized, source)
    results = [builder.buffer(DType.F32, outputs) for _, outputs in linears]
    for number, (result, (weight_format, _)) in enumerate(zip(results, linears)):
        builder.add_linear(f"linear.{number}", source, result, weight_format=weight_format)
    for number, result in enumerate(results):
        builder.add(Output(f"output.{number}", input=result, channels=linears[number][1]))
    blobs = builder.program.to_bytes(), builder.weights
    batches = [batch_of(lengths, seed=seed) for seed in (0, 1, 2)]
    with library.open(*blobs, implementation="scalar") as model:
        expected = [model.run(batch) for batch in batches]
    for name in library.implementations():
        for threads in (1, 2, 3, 5):
            with library.open(*blobs, implementation=name, threads=threads) as model:
                for batch, answer in zip(batches, expected):
                    assert same_bits(model.run(batch), answer), (name, threads)


def test_buffers_of_one_slot_may_differ_in_width(library: Library) -> None:
    """Threads may be at different ops of different panels: none may overwrite what another still reads."""
    batch = batch_of([150, 150, 150, 60])
    builder = EncoderBuilder()
    expected = run(library, batch, implementation="scalar")
    buffers = builder.program.buffers
    wide, value = (
        next(i for i, b in enumerate(buffers) if (b.channels, b.dtype) == kind)
        for kind in ((INTERMEDIATE, DType.U8), (HIDDEN, DType.S8))
    )
    buffers[wide] = dataclasses.replace(buffers[wide], slot=buffers[value].slot)
    for threads in (1, 2, 3):
        with library.open(builder.program.to_bytes(), builder.weights, threads=threads) as model:
            assert all(same_bits(model.run(batch), expected) for _ in range(20)), threads


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    lengths=st.lists(st.integers(1, 150), min_size=1, max_size=12),
    dynamic=st.booleans(),
    threads=st.integers(1, 3),
)
def test_a_batch_gives_what_its_sequences_give_alone(
    library: Library, lengths: List[int], dynamic: bool, threads: int
) -> None:
    batch = batch_of(lengths)
    builder = ENCODERS[dynamic]
    with library.open(builder.program.to_bytes(), builder.weights, threads=threads) as model:
        together = model.run(batch)
        alone = [np.concatenate(parts) for parts in zip(*(model.run(part) for part in split(batch)))]
    assert same_bits(together, alone)


#: After so many runs in a row that took less than one part in so many of the arena, the rest is given back.
RUNS, TIMES = 64, 4


def resident() -> int:
    """Bytes of this process that lie in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_the_arena_shrinks_after_a_batch_much_larger_than_all_that_follow(library: Library) -> None:
    builder = EncoderBuilder()
    with library.open(builder.program.to_bytes(), builder.weights, threads=2) as model:
        small = model.run(batch_of([150] * 4))
        needed = model.arena_bytes
        model.run(batch_of([150] * 400))
        before, held = resident(), model.arena_bytes
        assert held > 10 * needed
        for _ in range(RUNS - 1):
            assert same_bits(model.run(batch_of([150] * 4)), small)
        assert model.arena_bytes == held
        assert same_bits(model.run(batch_of([150] * 4)), small)
        assert needed <= model.arena_bytes < held / TIMES
        assert before - resident() > (held - model.arena_bytes) / 2
        for lengths in ([150] * 30, [7, 130, 64, 1], [150] * 400):
            alone = run(library, batch_of(lengths))
            assert same_bits(model.run(batch_of(lengths)), alone)


def test_the_arena_keeps_what_a_quarter_of_the_runs_need(library: Library) -> None:
    builder = EncoderBuilder()
    with library.open(builder.program.to_bytes(), builder.weights) as model:
        model.run(batch_of([150] * 40))
        held = model.arena_bytes
        for _ in range(RUNS):
            for lengths in ([5], [5], [5], [150] * 15):
                model.run(batch_of(lengths))
        assert model.arena_bytes == held


def test_trimming_gives_all_of_the_arena_back(library: Library) -> None:
    builder = EncoderBuilder()
    with library.open(builder.program.to_bytes(), builder.weights, threads=2) as model:
        model.trim()  # there is nothing yet
        small, large = model.run(batch_of([150, 3])), model.run(batch_of([150] * 400))
        before, held = resident(), model.arena_bytes
        model.trim()
        assert model.arena_bytes == 0
        assert before - resident() > held / 2
        model.trim()
        assert same_bits(model.run(batch_of([150, 3])), small)
        assert 0 < model.arena_bytes < held / 50  # 512-bit kernels hold some 64 KB of sums for each thread
        assert same_bits(model.run(batch_of([150] * 400)), large)


def test_the_arena_grows_to_the_largest_batch_and_stays(library: Library) -> None:
    builder = ENCODERS[False]
    sizes = []
    with library.open(builder.program.to_bytes(), builder.weights, threads=2) as model:
        assert model.arena_bytes == 0
        small = model.run(batch_of([5]))
        for lengths in ([5], [150, 100], [5], [150, 100], [150] * 20, [3]):
            model.run(batch_of(lengths))
            sizes.append(model.arena_bytes)
        assert same_bits(model.run(batch_of([5])), small)
    assert sizes == sorted(sizes)
    assert sizes[1] == sizes[3] < sizes[4] == sizes[5]


def test_token_types_default_to_zero(library: Library) -> None:
    plain = batch_of([9, 4], types=False)
    zeros = PackedBatch(plain.starts, plain.ids, plain.positions, np.zeros(13, np.int32))
    assert same_bits(run(library, plain), run(library, zeros))


def test_input_arrays_of_any_integer_type(library: Library) -> None:
    batch = batch_of([9, 4])
    wide = PackedBatch(*(getattr(batch, name).astype(np.int64)
                         for name in ("starts", "ids", "positions", "token_types")))  # fmt: skip
    assert same_bits(run(library, wide), run(library, batch))


def test_the_callers_rounding_mode_does_not_matter(library: Library) -> None:
    """Another library of the process may have changed it; the run uses IEEE's default and puts it back."""
    libm = ctypes.CDLL("libm.so.6")
    downward, nearest = 0x400, 0
    batch = batch_of([33, 5])
    expected = run(library, batch, threads=2)
    assert libm.fesetround(downward) == 0
    try:
        found = run(library, batch, threads=2)  # its worker inherits the mode, too
        assert libm.fegetround() == downward
    finally:
        libm.fesetround(nearest)
    assert same_bits(found, expected)


def test_profile_counts_runs_and_ops(library: Library) -> None:
    builder = ENCODERS[False]
    with library.open(builder.program.to_bytes(), builder.weights) as model:
        model.run(batch_of([40]))
        assert model.profile()[1] == 0
        model.start_profile()
        for _ in range(3):
            model.run(batch_of([40]))
        model.stop_profile()
        model.run(batch_of([40]))
        nanoseconds, runs = model.profile()
    assert runs == 3
    assert len(nanoseconds) == len(builder.program.ops)
    assert nanoseconds.sum() > 0


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("lengths", [[40], [150] * 5], ids=["one panel", "many panels"])
def test_the_profile_shares_out_the_time_of_the_runs(
    library: Library, lengths: List[int], threads: int
) -> None:
    """Ops that run in one loop share its time: every op gets some, and together not more than there was."""
    builder = ENCODERS[False]
    with library.open(builder.program.to_bytes(), builder.weights, threads=threads) as model:
        model.start_profile()
        before = time.perf_counter_ns()
        for _ in range(5):
            model.run(batch_of(lengths))
        elapsed = time.perf_counter_ns() - before
        nanoseconds, _ = model.profile()
    assert (nanoseconds > 0).all()
    assert nanoseconds.sum() <= elapsed


def test_a_closed_model_says_so(library: Library) -> None:
    builder = ENCODERS[False]
    model = library.open(builder.program.to_bytes(), builder.weights)
    model.close()
    with pytest.raises(InputError, match="closed"):
        model.run(batch_of([2]))


def test_unaligned_weights_are_copied(library: Library) -> None:
    builder = ENCODERS[False]
    shifted = memoryview(b"x" + builder.weights)[1:]
    with library.open(builder.program.to_bytes(), shifted) as model:
        assert same_bits(model.run(batch_of([11])), run(library, batch_of([11])))


def test_an_op_that_reads_what_nobody_wrote_does_not_run(library: Library) -> None:
    builder = EncoderBuilder(layers=1)
    del builder.program.ops[0]
    with library.open(builder.program.to_bytes(), builder.weights) as model:  # noqa: SIM117 - python 3.9
        with pytest.raises(
            BundleError, match=r"op 0 \(embeddings.norm\): it reads buffer 0, which no earlier op"
        ):
            model.run(batch_of([2]))
