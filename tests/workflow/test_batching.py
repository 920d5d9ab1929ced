from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obert_edge.workflow.batching import PadCollator, answer_features
from obert_edge.workflow.models import load_model

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
    model = load_model(encoder, task).eval()
    features = [{"input_ids": [i % 10 for i in row]} for row in rows]
    alone = [answer_features(model, [feature])[0]["logits"] for feature in features]
    together = answer_features(model, features, batch_size=4)
    for one, other in zip(alone, together):
        assert one == pytest.approx(other["logits"], abs=1e-5)
