from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obert_edge.host.stages.batching import (
    FeatureDataset,
    LengthGroupedSampler,
    PadCollator,
    answer_features,
)
from obert_edge.host.stages.models import load_model

ROWS = st.lists(st.lists(st.integers(1, 20), min_size=1, max_size=9), min_size=1, max_size=6)


@given(ROWS)
def test_a_batch_is_padded_to_its_own_longest_row_and_the_mask_tells_padding(rows):
    batch = PadCollator(7)([{"input_ids": row, "labels": len(row), "_id": "x"} for row in rows])
    assert batch["input_ids"].shape == (len(rows), max(map(len, rows)))
    for row, ids, mask in zip(rows, batch["input_ids"], batch["attention_mask"]):
        assert ids[mask == 1].tolist() == row
        assert set(ids[mask == 0].tolist()) <= {7}
    assert batch["labels"].tolist() == list(map(len, rows))
    assert "_id" not in batch


def test_labels_per_token_are_padded_with_the_ignored_label():
    batch = PadCollator()([{"input_ids": [1, 2], "labels": [3, 4]}, {"input_ids": [1], "labels": [5]}])
    assert batch["labels"].tolist() == [[3, 4], [5, -100]]


@settings(max_examples=10, deadline=None)
@given(rows=ROWS)
def test_answers_come_in_the_order_of_the_features_whatever_the_batches(encoder, task, rows):
    model = load_model(encoder, task, new_head=True).eval()
    features = [{"input_ids": [i % 10 for i in row]} for row in rows]
    alone = [answer_features(model, [feature])[0]["logits"] for feature in features]
    together = answer_features(model, features, batch_size=4)
    for one, other in zip(alone, together):
        assert one == pytest.approx(other["logits"], abs=1e-5)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=60), st.integers(1, 8), st.integers(0, 3))
def test_the_order_follows_from_seed_and_epoch_and_has_every_row_once(lengths, group, epoch):
    sampler = LengthGroupedSampler(lengths, group, seed=7)
    sampler.set_epoch(epoch)
    order = list(sampler)
    assert order == list(sampler)
    assert sorted(order) == [epoch * len(lengths) + row for row in range(len(lengths))]
    other = LengthGroupedSampler(lengths, group, seed=7)
    other.set_epoch(epoch)
    assert order == list(other)


def test_rows_of_similar_length_come_together():
    lengths = list(range(64))
    rows = list(LengthGroupedSampler(lengths, 8, seed=0))
    spreads = [max(batch) - min(batch) for batch in (rows[i : i + 8] for i in range(0, 64, 8))]
    assert max(spreads) == 7
    assert rows != sorted(rows, reverse=True)


def test_the_epoch_in_an_index_seeds_what_a_row_becomes():
    features = [{"input_ids": [1]}, {"input_ids": [2]}]
    dataset = FeatureDataset(features, lambda feature, seed: {**feature, "seed": seed})
    assert dataset[3] == {"input_ids": [2], "seed": 3}
    assert len(dataset) == 2
