"""A dry run says what a recipe would do, and what would keep it from running."""

from __future__ import annotations

import dataclasses
import json

import pytest

from obert_edge.errors import CheckpointError, UsageError
from obert_edge.host.stages import compress
from obert_edge.host.stages.planning import describe, plan
from obert_edge.host.stages.recipe import Recipe, TaskSettings, Training
from tests.host.stages.conftest import FAST


@pytest.fixture
def recipe(encoder, data, tmp_path):
    return Recipe(
        model=str(encoder),
        output=str(tmp_path / "out"),
        task=TaskSettings("text", str(data)),
        finetune=dataclasses.replace(FAST, max_steps=2),
    )


def test_rows_are_counted_in_the_data(recipe):
    assert plan(recipe).stages[0].training.rows == 240


def test_a_model_that_is_not_there_is_named_as_the_run_itself_names_it(recipe, tmp_path):
    recipe = dataclasses.replace(recipe, model=str(tmp_path / "nowhere"))
    with pytest.raises(CheckpointError, match="there is no model folder .*nowhere") as run:
        compress(recipe, progress=False)
    with pytest.raises(CheckpointError) as dry:
        plan(recipe)
    assert str(dry.value) == str(run.value)


def test_a_model_or_data_that_are_not_at_hand_will_do_where_the_rows_are_told(recipe, tmp_path):
    task = TaskSettings("text", str(tmp_path / "nowhere"), rows=640)
    recipe = dataclasses.replace(recipe, model=str(tmp_path / "nowhere"), task=task)
    assert plan(recipe).stages[0].training.rows == 640


def test_data_that_are_not_there_are_told_from_a_model_that_is_not(recipe, tmp_path):
    recipe = dataclasses.replace(recipe, task=TaskSettings("text", str(tmp_path / "nowhere")))
    with pytest.raises(UsageError, match="rows cannot be counted: the data folder .*nowhere") as error:
        plan(recipe)
    assert "put the data where the recipe says" in error.value.hint


def test_a_model_without_a_tokenizer_is_not_called_missing_data(recipe, encoder, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.json").write_text((encoder / "config.json").read_text())
    with pytest.raises(CheckpointError, match="tokenizer.json") as error:
        plan(dataclasses.replace(recipe, model=str(bare)))
    assert "data" not in error.value.hint


def test_rows_of_a_model_on_a_hub_must_be_told(recipe):
    recipe = dataclasses.replace(recipe, model="hub:owner/model")
    with pytest.raises(UsageError, match="hub:owner/model is on a hub, and a dry run downloads nothing"):
        plan(recipe)


def test_a_dry_run_says_that_the_output_is_another_recipes(recipe):
    assert plan(recipe).refused is None
    assert "refused" not in plan(recipe).to_dict()
    compress(recipe, progress=False)
    assert plan(recipe).refused is None
    other = dataclasses.replace(recipe, finetune=dataclasses.replace(recipe.finetune, max_steps=3))
    with pytest.raises(UsageError) as run:
        compress(other, progress=False)
    found = plan(other)
    assert describe(found).endswith(f"it would not run: {run.value}")
    assert json.loads(json.dumps(found.to_dict()))["refused"] == {
        "message": run.value.message,
        "fix": run.value.hint,
    }


def test_the_line_about_a_length_that_is_cut_comes_once(recipe, caplog):
    trained = Training(max_steps=2)
    recipe = dataclasses.replace(recipe, finetune=trained)
    plan(recipe)
    said = [record.getMessage() for record in caplog.records]
    assert [line for line in said if "are cut to" in line] == [
        f"features of finetune and the scores are cut to 32 tokens, the longest that {recipe.model} takes; "
        "task text has 128 by default"
    ]
