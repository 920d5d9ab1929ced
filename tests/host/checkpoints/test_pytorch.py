"""A model folder becomes the transformers model that was saved, to the bit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from obert_edge.host.checkpoints.checkpoint import Checkpoint
from obert_edge.host.checkpoints.model_config import read_config
from obert_edge.host.checkpoints.pytorch import load_pytorch
from tests.host.checkpoints.published_checkpoints import LAYOUTS, make_published_folder, model_answers


@pytest.mark.parametrize("name", [name for name in LAYOUTS if "QAT" not in name])
def test_a_published_model_loads_bit_for_bit(name: str, tmp_path: Path) -> None:
    model = make_published_folder(name, tmp_path / name)
    checkpoint = Checkpoint.open(tmp_path / name)
    loaded, missing = load_pytorch(checkpoint, read_config(checkpoint).class_for_task)
    assert missing == []
    for key, value in model_answers(model).items():
        np.testing.assert_array_equal(model_answers(loaded)[key], value)


def test_a_model_in_chunks_answers_for_lengths_that_the_chunks_do_not_divide(tmp_path: Path) -> None:
    model = make_published_folder(next(iter(LAYOUTS)), tmp_path / "model")
    config = tmp_path / "model" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "chunk_size_feed_forward": 7}))
    checkpoint = Checkpoint.open(tmp_path / "model")
    loaded, _ = load_pytorch(checkpoint, read_config(checkpoint).class_for_task)
    for key, value in model_answers(model).items():
        np.testing.assert_array_equal(model_answers(loaded)[key], value)
