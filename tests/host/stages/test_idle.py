"""What was given and can have no effect is refused, with the reason, on the command line and in a recipe."""

from __future__ import annotations

import json

import pytest

from obert_edge import cli
from obert_edge.errors import UsageError
from obert_edge.host.stages.planning import plan
from obert_edge.host.stages.recipe import STAGES, Recipe
from obert_edge.host.stages.stage import TaskKind

#: The verb, what it is told that counts, the option that does not, and what is said of it.
IDLE = [
    ("prune", "--method magnitude", "--dampening 5", "of method obert, and the method is magnitude"),
    ("prune", "--method magnitude", "--block-size 7", "of method obert"),
    ("prune", "--method magnitude", "--channel-permutation", "of method obert"),
    ("prune", "--method magnitude", "--gradients 8", "looks at the weights alone"),
    ("prune", "--method wanda", "--hessian-dampening 0.1", "of method sparsegpt, and the method is wanda"),
    ("prune", "--rewind-epochs 1", "--rewind none", "rewind_epochs says when"),
    (
        "prune",
        "--start-epoch 1 --end-epoch 2 --frequency 1",
        "--steps 2",
        "start_epoch, end_epoch and frequency",
    ),
    ("prune", "--steps 1", "--initial-sparsity 0.3", "a single pruning step"),
    ("prune", "--epochs 0", "--teacher nofolder", "everything is pruned at once in 0 epochs"),
    ("prune", "--epochs 0", "--precision fp16", "in 0 epochs"),
    ("prune", "--epochs 0", "--rewind-epochs 1", "in 0 epochs"),
    ("prune", "--max-steps 0", "--warmup 0.5", "in 0 epochs"),
    ("prune", "--hardness 0", "--teacher nofolder", "there is no teacher"),
    ("prune", "--hardness 0 --hidden-states 1", "--temperature 3", "hardness is 0"),
    ("prune", "--hardness 0.5", "--similarities 3", "of task embedding alone"),
    ("quantize", "--method calibrate", "--epochs 3", "method calibrate trains nothing"),
    ("quantize", "--method calibrate", "--observe 0.3", "of method qat alone"),
    ("quantize", "", "--observer minmax", "of method calibrate alone"),
    ("finetune", "--max-steps 4", "--epochs 3", "max_steps says how many"),
    ("transfer", "--max-steps 4", "--epochs 3", "max_steps says how many"),
    ("drop-layers", "--keep 0 --epochs 0", "--batch-size 8", "nothing is trained"),
    ("drop-layers", "--keep 0 --epochs 0", "--limit 8", "nothing is trained"),
]


def ids(row):
    return " ".join(filter(None, row[:3]))


@pytest.mark.parametrize(("verb", "counts", "idle", "reason"), IDLE, ids=map(ids, IDLE))
def test_the_command_line_refuses_an_option_without_effect(capsys, tmp_path, verb, counts, idle, reason):
    words = [verb, "nomodel", "--task", "text", "--data", "nodata", "-o", str(tmp_path / "o")]
    assert cli.run_command([*words, *counts.split(), *idle.split()]) == 2
    said = capsys.readouterr().err
    flag = idle.split()[0]
    assert f"{flag} is given, and has no effect: " in said
    assert reason in said
    assert f"leave {flag} out" in said


@pytest.mark.parametrize(("verb", "counts", "idle", "reason"), IDLE, ids=map(ids, IDLE))
def test_what_counts_alone_is_not_refused(capsys, tmp_path, verb, counts, idle, reason):
    words = [verb, "nomodel", "--task", "text", "--data", "nodata", "-o", str(tmp_path / "o")]
    assert cli.run_command([*words, *counts.split()]) != 0
    assert "has no effect" not in capsys.readouterr().err


MINIMAL = {"model": "m", "output": "o", "task": {"name": "sst2", "data": "d", "rows": 100}}


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        (
            {"prune": {"method": "magnitude", "dampening": 5}},
            "prune.dampening is 5.0, and has no effect: it is of",
        ),
        ({"prune": {"rewind": "none", "rewind_epochs": [1]}}, "prune.rewind is 'none'"),
        (
            {"prune": {"training": {"epochs": 0}, "distillation": {"teacher": "t"}}},
            "prune.distillation.teacher is .*, and has no effect: everything is pruned at once",
        ),
        ({"prune": {"training": {"epochs": 0, "precision": "fp16"}}}, "prune.training.precision is 'fp16'"),
        (
            {"quantize": {"method": "calibrate", "training": {"learning_rate": 1e-4}}},
            "quantize.training.learning_rate is 0.0001, and has no effect: method calibrate trains nothing",
        ),
        (
            {"transfer": {"distillation": {"hardness": 0, "teacher": "t"}}},
            "transfer.distillation.teacher is 't'",
        ),
    ],
)
def test_a_recipe_is_refused_for_an_option_without_effect(stages, message):
    with pytest.raises(UsageError, match=message) as caught:
        plan(Recipe.from_dict({**MINIMAL, **stages}))
    assert "leave it out" in caught.value.hint


def test_a_recipe_may_write_a_default_down():
    told = {"method": "magnitude", "dampening": 1e-7, "training": {"epochs": 0, "precision": "fp32"}}
    calibrated = {"method": "calibrate", "training": {"epochs": 3, "max_length": 64, "seed": 1}}
    (pruned, quantized) = plan(Recipe.from_dict({**MINIMAL, "prune": told, "quantize": calibrated})).stages
    assert pruned.training is not None and pruned.training.steps == 0
    assert quantized.training is None


def test_a_regression_and_an_embedder_learn_without_a_temperature(tmp_path):
    taught = {"training": {"epochs": 1}, "steps": 1, "distillation": {"temperature": 3}}
    for task, why in (("stsb", "a regression has no softmax"), ("embedding", "an embedder has no softmax")):
        recipe = Recipe.from_dict(
            {**MINIMAL, "task": {"name": task, "data": "d", "rows": 100}, "prune": taught}
        )
        with pytest.raises(UsageError, match=f"prune.distillation.temperature is 3.0.*{why}"):
            plan(recipe)
    (tmp_path / "train.jsonl").write_text(
        "\n".join(json.dumps({"text": f"warm film {label}", "label": label}) for label in (0.25, 0.5, 1.5))
    )
    told = {"name": "text", "data": str(tmp_path), "rows": 100}
    with pytest.raises(UsageError, match="a regression has no softmax"):  # which the data alone say
        plan(Recipe.from_dict({**MINIMAL, "task": told, "prune": taught}))


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_no_stage_finds_its_defaults_without_effect(stage):
    required = {"drop": {"keep": (0,)}}.get(stage.name, {})
    settings = stage.settings(**required)
    told = set(required)
    assert not told & set(stage.idle(settings, TaskKind()))
