"""A recipe's bundle is calibrated on the recipe's own data, where its model has no ranges yet."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from obert_edge.host.compiler import build
from obert_edge.host.stages import compress, quantize
from obert_edge.host.stages.recipe import BuildSettings, Quantization, Recipe, TaskSettings

BUILT_IN = "built-in sentences"


@pytest.fixture
def recipe(dense, data, tmp_path):
    return Recipe(
        model=str(dense),
        output=str(tmp_path / "out"),
        task=TaskSettings("text", str(data), max_length=16),
        build=BuildSettings(card=False),
    )


def made_by(recipe):
    return Path(compress(recipe, progress=False).stages[-1].model).read_bytes()


def test_a_model_without_ranges_is_calibrated_on_train_rows(recipe, dense, task, tmp_path, caplog):
    bundle = made_by(recipe)
    assert BUILT_IN not in caplog.text
    texts = task.texts("train", limit=256)
    by_hand = build(dense, "x86", tmp_path / "by_hand.oeb", calibration=texts, card=False)
    assert bundle == by_hand.read_bytes()


def test_a_file_of_texts_comes_before_train_rows(recipe, dense, data, tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_text("warm film\ndull plot\n" * 10)
    settings = BuildSettings(card=False, calibration_data=str(texts))
    recipe = Recipe(recipe.model, recipe.output, recipe.task, build=settings)
    by_hand = build(dense, "x86", tmp_path / "by_hand.oeb", calibration=texts, card=False)
    assert made_by(recipe) == by_hand.read_bytes()


def test_ranges_that_a_model_has_stay(recipe, dense, task, data, tmp_path):
    quantized = tmp_path / "quantized"
    settings = Quantization(method="calibrate", calibration_examples=16)
    quantize(dense, task, quantized, quantization=settings, progress=False)
    recipe = Recipe(str(quantized), recipe.output, recipe.task, build=recipe.build)
    assert made_by(recipe) == build(quantized, "x86", tmp_path / "b.oeb", card=False).read_bytes()


def test_without_a_train_split_the_line_names_the_key_of_a_recipe_and_the_option(
    recipe, data, tmp_path, caplog
):
    alone = tmp_path / "data"
    alone.mkdir()
    shutil.copyfile(data / "dev.jsonl", alone / "dev.jsonl")
    made_by(Recipe(recipe.model, recipe.output, TaskSettings("text", str(alone)), build=recipe.build))
    (line,) = [record.getMessage() for record in caplog.records if BUILT_IN in record.getMessage()]
    assert "--calibration-data" in line and "build.calibration_data" in line
