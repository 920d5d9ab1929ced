"""What a run would refuse at its end is refused before its first stage, and by a dry run as well."""

from __future__ import annotations

import shutil

import pytest

from obert_edge.errors import ObertEdgeError
from obert_edge.host.stages import compress
from obert_edge.host.stages.planning import plan
from obert_edge.host.stages.recipe import Recipe

CALIBRATED = {"method": "calibrate", "calibration_examples": 4}
AT_ONCE = {"sparsity": 0.5, "method": "magnitude", "training": {"epochs": 0}}
#: The build section, and what is said of it; the model has 32 positions.
BUILDS = [
    ({"target": "foo"}, "there is no target 'foo'"),
    ({"max_length": 33}, "max_length 33 is not between 1 and 32"),
    ({"max_length": 2}, "cut to 2 tokens, and 2 of them are special tokens"),
    ({"calibration_data": "nofile.txt"}, "nofile.txt cannot be read"),
    (
        {"activations": "dynamic"},
        "stage quantize quantizes activations as static; they were asked to be dynamic",
    ),
    ({"pooling": "cls"}, "pooling is 'cls', and has no effect"),
    ({"head": "encoder", "min_agreement": 1}, "min_agreement is 1, and has no effect"),
    ({"sign": "nokey"}, "nokey"),
]


@pytest.fixture
def told(dense, data, tmp_path):
    shutil.copytree(dense, tmp_path / "model")
    return {
        "model": str(tmp_path / "model"),
        "output": str(tmp_path / "out"),
        "task": {"name": "text", "data": str(data)},
        "prune": AT_ONCE,
        "quantize": CALIBRATED,
    }


def refused(told, message, tmp_path):
    recipe = Recipe.from_dict(told)
    for run in (plan, lambda recipe: compress(recipe, progress=False)):
        with pytest.raises(ObertEdgeError, match=message):
            run(recipe)
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("build", "message"), BUILDS, ids=[str(build) for build, _ in BUILDS])
def test_a_build_that_would_be_refused_at_the_end_is_refused_at_the_start(told, tmp_path, build, message):
    refused({**told, "build": build}, message, tmp_path)


def test_a_head_that_is_trained_first_is_the_one_that_is_built(encoder, told, tmp_path):
    trained = {**told, "model": str(encoder), "finetune": {"max_steps": 1}}
    del trained["prune"]
    refused({**trained, "build": {"pooling": "mean"}}, "a head for sequence-classification", tmp_path)
    found = plan(Recipe.from_dict({**trained, "build": {"min_agreement": 0.5}}))
    assert [stage.stage for stage in found.stages] == ["finetune", "quantize", "build"]


def test_activations_that_are_measured_may_turn_out_as_any(told):
    quantize = {**CALIBRATED, "activations": "auto"}
    plan(Recipe.from_dict({**told, "quantize": quantize, "build": {"activations": "dynamic"}}))


@pytest.mark.parametrize("place", ["model", "model/inside"])
def test_an_output_that_is_or_lies_in_the_model_is_refused(told, tmp_path, place):
    refused({**told, "output": str(tmp_path / place)}, "the output .* the input", tmp_path)


def test_a_task_that_there_is_not_is_refused(told, tmp_path):
    refused({**told, "task": {**told["task"], "name": "foo"}}, "there is no task 'foo'", tmp_path)
    absent = {"name": "foo", "data": "nowhere", "rows": 100}
    with pytest.raises(ObertEdgeError, match="there is no task 'foo'"):
        plan(Recipe.from_dict({**told, "task": absent}))


def test_a_model_that_is_not_there_is_refused(told, tmp_path):
    refused({**told, "model": "nope"}, "nope", tmp_path)


def test_with_rows_a_dry_run_needs_neither_model_nor_data(told, tmp_path):
    task = {"name": "sst2", "data": "nowhere", "rows": 100}
    found = plan(Recipe.from_dict({**told, "model": "nope", "task": task, "build": {}}))
    assert [stage.stage for stage in found.stages] == ["prune", "quantize", "build"]
    with pytest.raises(ObertEdgeError, match="there is no target 'foo'"):
        plan(Recipe.from_dict({**told, "model": "nope", "task": task, "build": {"target": "foo"}}))


def test_a_teacher_that_is_not_there_is_refused_unless_a_stage_may_make_it(told, tmp_path):
    def taught(teacher):
        training = {"max_steps": 2, "learning_rate": 1.0e-4}
        learning = {"training": training, "distillation": {"teacher": str(teacher)}}
        return {**told, "quantize": learning}

    refused(taught(tmp_path / "nowhere"), "there is no model folder .*nowhere", tmp_path)
    plan(Recipe.from_dict(taught(tmp_path / "out" / "1-prune")))
