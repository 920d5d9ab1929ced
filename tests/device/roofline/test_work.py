"""The roofline counts what a program does, and names what it runs against."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from obert_edge.bundle.container import Bundle
from obert_edge.bundle.packing import count_units, unpack_op
from obert_edge.bundle.program import (
    ABSENT,
    OP_TYPES,
    Attention,
    ColumnCoding,
    Embed,
    LayerNorm,
    Linear,
    WeightFormat,
)
from obert_edge.device.roofline.bound import Bound, bound_of, bound_of_units
from obert_edge.device.roofline.peaks import Peaks
from obert_edge.device.roofline.profile import Profile
from obert_edge.device.roofline.work import WORK, Work, const_bytes, weight_bytes, work_of
from tests.engine.models import HIDDEN, EncoderBuilder

PEAKS = Peaks(
    multiply_add=100,
    shuffle=50,
    float_multiply_add=20,
    row_gather={1: 25, 2: 40, 4: 60},
    read_l1=200,
    read_l2=80,
    read_memory=10,
    write_l2=40,
)


@pytest.fixture(scope="module")
def program(classifier):
    with Bundle.open(classifier) as bundle:
        return bundle.program


def ops_of(program, kind):
    return [op for op in program.ops if isinstance(op, kind)]


@pytest.mark.parametrize("lengths", [[16], [5, 20, 7], [96]])
def test_a_linear_multiplies_every_stored_weight_with_every_padded_token(program, lengths):
    padded = -(-sum(lengths) // 16) * 16
    for op in ops_of(program, Linear)[:6]:
        work = work_of(program, op, lengths)
        assert work.multiply_adds == program.consts[op.weights].bytes * padded
        assert work.memory == const_bytes(program, op) > program.consts[op.weights].bytes
        assert work.written == padded * op.n * program.buffers[op.output].dtype.bytes


def test_what_is_stored_is_what_the_packer_says(classifier):
    with Bundle.open(classifier) as bundle:
        program, weights = bundle.program, bundle.weights
        for op in ops_of(program, Linear)[:6]:
            matrix = unpack_op(program, op, weights)
            stored = count_units(matrix, WeightFormat(op.format)).weights
            assert work_of(program, op, [16]).multiply_adds == stored * 16


def test_attention_grows_with_the_square_of_each_sequence_alone(program):
    (op, *_) = ops_of(program, Attention)
    one, two = work_of(program, op, [32]), work_of(program, op, [32, 32])
    assert two.multiply_adds == 2 * one.multiply_adds
    assert work_of(program, op, [64]).multiply_adds == 4 * one.multiply_adds
    assert one.multiply_adds == 2 * 32 * 32 * op.heads * op.head_dim


def test_position_tables_are_two_products_more_and_read_once():
    plain, more = (EncoderBuilder(layers=1, positions=rows).program for rows in (0, 63))
    works = [work_of(one, ops_of(one, Attention)[0], [32]) for one in (plain, more)]
    assert works[1].multiply_adds == 2 * works[0].multiply_adds
    assert works[1].l1 > works[0].l1
    assert works[1].memory >= 2 * 63 * HIDDEN > works[0].memory == 0


def test_every_op_has_work(program):
    for op in program.ops:
        work = work_of(program, op, [20])
        assert bound_of(work, PEAKS).nanoseconds > 0, op.name
    first, *_, last = ops_of(program, LayerNorm)
    assert work_of(program, first, [32]).moved == 2 * work_of(program, first, [16]).moved
    # A classifier's last norm sees the first token of each sequence alone.
    assert work_of(program, last, [32]).moved == work_of(program, last, [16]).moved


def test_every_kind_of_op_has_a_row():
    assert set(WORK) == set(OP_TYPES.values())


def test_units_work_side_by_side_and_what_one_unit_does_adds_up():
    assert bound_of_units({"a": 2.0, "b": 3.0}, {"c": 4.0}) == Bound(5.0, "b")
    assert bound_of_units({"a": 2.0, "b": 3.0}, {"c": 6.0}) == Bound(6.0, "c")


def test_embedding_tables_are_not_read_by_every_run(program):
    (embed,) = ops_of(program, Embed)
    others = {getattr(op, name) for op in program.ops if op is not embed for name in op.CONSTS}
    read = others - {ABSENT}
    stored = sum(program.consts[index].bytes for index in read)
    lists = sum(
        const_bytes(program, op)
        - sum(program.consts[i].bytes for i in {getattr(op, n) for n in op.CONSTS} - {ABSENT})
        for op in program.ops
    )
    # What ops share is read once.
    assert weight_bytes(program) == stored + lists
    assert weight_bytes(program) < sum(const.bytes for const in program.consts) + lists


def test_columns_are_read_as_lists_however_they_are_stored():
    listed, compact = EncoderBuilder().program, EncoderBuilder(compact=True).program
    for a, b in zip(ops_of(listed, Linear), ops_of(compact, Linear)):
        assert (b.column_coding == ColumnCoding.MASKS) == (b.format != WeightFormat.DENSE_4)
        assert const_bytes(compact, b) == const_bytes(listed, a)
    assert weight_bytes(compact) == weight_bytes(listed)


@pytest.mark.parametrize(
    ("work", "nanoseconds", "by"),
    [
        (Work(multiply_adds=1000), 10, "multiply-adds"),
        (Work(multiply_adds=1000, gathered_rows=4), 1000 / 60, "row-gather"),
        (Work(multiply_adds=1000, gathered_rows=1), 40, "row-gather"),
        (Work(multiply_adds=1000, shuffled=1000), 30, "shuffles"),
        (Work(multiply_adds=1000, floats=100), 15, "multiply-adds"),
        (Work(multiply_adds=1000, l1=4000), 20, "L1 loads"),
        (Work(multiply_adds=1000, l2=1600, written=400), 20, "L2"),
        (Work(multiply_adds=1000, l2=800, written=800), 20, "L2"),
        (Work(multiply_adds=1000, memory=500), 50, "memory"),
    ],
)
def test_the_bound_is_what_takes_longest_and_vector_units_are_shared(work, nanoseconds, by):
    bound = bound_of(work, PEAKS)
    assert (bound.nanoseconds, bound.by) == (pytest.approx(nanoseconds), by)


def test_without_a_rate_for_gathered_columns_multiply_adds_are_the_bound():
    peaks = dataclasses.replace(PEAKS, row_gather={1: 0.0, 2: 0.0, 4: 0.0})
    assert bound_of(Work(multiply_adds=1000, gathered_rows=4), peaks).by == "multiply-adds"


def test_a_profile_gives_each_op_its_part_of_the_bound(program):
    times = np.full((3, len(program.ops)), 2000)
    times[1] = 1000
    profile = Profile.from_nanoseconds(program, times.tolist(), [32], PEAKS)
    assert profile.runs == 3
    assert profile.ms == pytest.approx(0.002 * len(program.ops))
    for op, measured in zip(program.ops, profile.ops):
        bound = bound_of(work_of(program, op, [32]), PEAKS)
        assert measured.bound == bound.by
        assert measured.reached == pytest.approx(bound.nanoseconds / 1000)
    unknown = Profile.from_nanoseconds(program, times.tolist(), [32])
    assert all(op.bound == "" for op in unknown.ops)
    assert "of bound" in unknown.to_text(plain=True)


def test_a_linear_without_channels_has_no_work(program):
    """As a damaged program has it, which `inspect` still describes."""
    for linear in ops_of(program, Linear):
        none = dataclasses.replace(linear, k=0)
        assert work_of(program, none, [7]).l2 >= 0
