"""Inspect estimates from stored numbers, and says which layers gain nothing."""

from __future__ import annotations

import dataclasses

import pytest

from obert_edge.bundle.container import ENGINE, TOKENIZER, WEIGHTS, Bundle
from obert_edge.device.commands.describe import describe, part_bytes
from obert_edge.device.roofline.estimate import estimate
from obert_edge.targets import get_target


@pytest.fixture(scope="module")
def opened(classifier):
    with Bundle.open(classifier) as bundle:
        return bundle.program, bundle.manifest


def with_linears(manifest, **changes):
    changed = [dataclasses.replace(linear, **changes) for linear in manifest.linears]
    return dataclasses.replace(manifest, linears=changed)


def test_a_bundle_carries_the_numbers_of_its_target(opened):
    assert opened[1].reference == dict(get_target("x86").reference)


def test_a_dense_bundle_is_as_fast_as_itself_and_not_warned_about(opened):
    program, manifest = opened
    found = estimate(program, manifest)
    assert found.over_dense_int8 == pytest.approx(1, abs=0.05)
    assert sum(found.kinds.values()) == pytest.approx(found.ms)
    assert found.warnings == []  # nothing was pruned, so pruning did not fail
    assert len(found.linears) == sum(linear.per_token for linear in manifest.linears)


def test_cheaper_linears_make_a_faster_model(opened):
    program, manifest = opened
    first = manifest.linears[0]
    costs = {
        "cost": first.dense_cost / 4,
        "sparse_cost": first.dense_cost / 4,
        "dense_cost": first.dense_cost,
    }
    faster = with_linears(manifest, sparsity=0.8, **costs)
    found = estimate(program, faster)
    assert found.over_dense_int8 > 1.1
    assert all(linear.dense_int8 == pytest.approx(4 * linear.nanoseconds) for linear in found.linears)
    assert found.warnings == []


def test_a_longer_sequence_takes_longer(opened):
    times = [estimate(*opened, length).ms for length in (16, 48, 96)]
    assert times == sorted(times)
    assert estimate(*opened, 500).sequence_length == 96  # the longest this model takes


def test_a_layer_below_break_even_is_named_with_the_reason(opened):
    program, manifest = opened
    dense = with_linears(
        manifest, sparsity=0.38, cost=100.0, dense_cost=100.0, sparse_format="ROW_GATHER_4", sparse_cost=124.0
    )
    warning = estimate(program, dense).warnings[0]
    assert "38 % sparse: dense is faster (row_gather_4, its best sparse format, would take 1.24x" in warning
    little = with_linears(
        manifest, sparsity=0.5, cost=96.0, dense_cost=100.0, sparse_format="ROW_GATHER_4", sparse_cost=96.0
    )
    assert "50 % sparse: only 1.04x as fast as dense" in estimate(program, little).warnings[0]
    assert "the whole model" in estimate(program, little).warnings[-1]


def test_without_stored_numbers_nothing_is_estimated(opened):
    program, manifest = opened
    assert estimate(program, dataclasses.replace(manifest, reference={})) is None


def test_the_parts_of_a_bundle_add_up_to_the_file(classifier):
    text, facts = describe(classifier, plain=True)
    parts = facts["part_bytes"]
    assert sum(parts.values()) == classifier.stat().st_size
    assert min(parts.values()) >= 0
    members = facts["member_bytes"]
    assert parts["engine library"] == members[ENGINE]
    assert parts["tokenizer"] == members[TOKENIZER]
    consts = sum(parts[part] for part in ("weights", "embeddings", "scales and biases", "rows and offsets"))
    assert 0.9 * members[WEIGHTS] < consts < members[WEIGHTS]
    assert "embeddings" in text
    assert "over dense INT8" in text
    assert "WARNING" in text


def test_a_constant_that_two_ops_share_is_counted_once(opened, classifier):
    program, _ = opened
    _, facts = describe(classifier, plain=True)
    twice = dataclasses.replace(program, ops=[*program.ops, *program.ops])
    again = part_bytes(twice, facts["member_bytes"], facts["bytes"])
    assert again == facts["part_bytes"]


def test_layers_of_one_cause_share_a_warning_with_their_count(opened):
    """A dense model of twelve layers has 73 such layers."""
    program, manifest = opened
    dense = with_linears(
        manifest, sparsity=0.38, cost=100.0, dense_cost=100.0, sparse_format="ROW_GATHER_4", sparse_cost=124.0
    )
    found = estimate(program, dense)
    warned = [linear for linear in found.linears if linear.warning]
    assert len(warned) > 2
    first, *rest = found.warnings
    assert first.startswith(f"{len(warned)} linears are faster dense, such as {warned[0].name}: 38 % sparse")
    assert len(rest) == 1 and rest[0].startswith("the whole model")
