"""Every pruning method through the whole stage, at once and in training."""

import dataclasses

import pytest
from safetensors.torch import load_file

from obert_edge.host.pruning import Pattern
from obert_edge.host.pruning.criteria import CRITERIA
from obert_edge.host.pruning.settings import Pruning
from obert_edge.host.stages import prune

from .conftest import FAST


@pytest.mark.parametrize("method", CRITERIA)
@pytest.mark.parametrize("epochs", [0, 1])
def test_every_method_prunes_a_folder_to_the_sparsity_asked_for(dense, task, tmp_path, method, epochs):
    training = dataclasses.replace(FAST, max_steps=None, epochs=epochs)
    pruning = Pruning(
        sparsity=0.5, pattern="2x1", method=method, gradients=4, gradient_batch_size=8, block_size=16, steps=2
    )
    report = prune(dense, task, tmp_path / "out", pruning=pruning, training=training, progress=False)
    assert report.figures.sparsity == pytest.approx(0.5, abs=5e-3)
    weights = load_file(tmp_path / "out" / "model.safetensors")
    pruned = [value for key, value in weights.items() if key.endswith("query.weight")]
    assert len(pruned) == 2
    assert all(Pattern.parse("2x1").holds(weight) for weight in pruned)


def test_the_surgeons_options_reach_it(dense, task, tmp_path):
    """The paper's exact variant, and a budget that takes a matrix at a time."""
    pruning = Pruning(
        sparsity=0.5,
        pattern="unstructured",
        gradients=4,
        block_size=50,
        layout="flat",
        solver="paper",
        scope="layer",
        memory_budget=520_000,
    )
    training = dataclasses.replace(FAST, max_steps=0)
    report = prune(dense, task, tmp_path / "out", pruning=pruning, training=training, progress=False)
    layers = report.figures.pruning_steps[0]["layers"]
    assert {layer["pruned"] / (layer["shape"][0] * layer["shape"][1]) for layer in layers} == {0.5}
    assert report.options["pruning"]["layout"] == "flat"


def test_units_are_permuted_before_the_first_weight_goes(dense, task, tmp_path):
    pruning = Pruning(
        sparsity=0.5, pattern="4x1", gradients=4, gradient_batch_size=8, steps=2, channel_permutation=True
    )
    training = dataclasses.replace(FAST, max_steps=6)
    report = prune(dense, task, tmp_path / "out", pruning=pruning, training=training, progress=False)
    kept = report.figures.channel_permutation
    assert 0 < kept["before"] < kept["after"] < 1
    assert report.figures.sparsity == pytest.approx(0.5, abs=5e-3)
    weights = load_file(tmp_path / "out" / "model.safetensors")
    blocks = [value for key, value in weights.items() if key.endswith("intermediate.dense.weight")]
    assert blocks and all(Pattern.parse("4x1").holds(weight) for weight in blocks)


@pytest.mark.parametrize(
    "changes", [{"pattern": "1x4"}, {"channel_permutation": False}, {"method": "magnitude"}]
)
def test_units_stay_where_there_is_nothing_to_choose_or_nobody_asked(dense, task, tmp_path, changes):
    pruning = Pruning(
        **{
            "sparsity": 0.5,
            "pattern": "4x1",
            "gradients": 4,
            "gradient_batch_size": 8,
            "channel_permutation": True,
            **changes,
        }
    )
    training = dataclasses.replace(FAST, max_steps=0)
    report = prune(dense, task, tmp_path / "out", pruning=pruning, training=training, progress=False)
    assert report.figures.channel_permutation is None
