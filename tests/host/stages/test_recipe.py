from __future__ import annotations

import subprocess
import sys

import pytest

from obert_edge.errors import UsageError
from obert_edge.host.stages.planning import describe, plan
from obert_edge.host.stages.recipe import (
    STAGES,
    Distillation,
    FinetuneSettings,
    PruneSettings,
    Pruning,
    Quantization,
    Recipe,
    TaskSettings,
    Training,
)
from obert_edge.host.stages.stage import RecipeContext
from obert_edge.host.stages.stage_quantize import Quantize

MINIMAL = {"model": "m", "output": "o", "task": {"name": "sst2", "data": "d"}}
YAML = """
model: encoder
output: runs/sst2
task: {name: sst2, data: glue/sst2, tune: 1000}
finetune: {epochs: 1, learning_rate: 1e-4}
prune:
  sparsity: 0.9
  pattern: 2x1
  training: {max_steps: 500, dropout: 0}
  distillation: {hardness: 0.8}
quantize:
build: {target: x86}
"""


def test_a_recipe_is_read_with_paths_relative_to_its_folder(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(YAML)
    recipe = Recipe.load(path)
    assert recipe.model == str(tmp_path / "encoder")
    assert recipe.task.data == str(tmp_path / "glue" / "sst2")
    assert recipe.finetune == FinetuneSettings(epochs=1.0, learning_rate=1e-4)
    assert recipe.prune.pruning == Pruning(sparsity=0.9, pattern="2x1")
    assert recipe.prune.training == Training(max_steps=500, dropout=0.0)
    assert recipe.prune.distillation == Distillation(hardness=0.8)
    assert recipe.quantize.quantization == Quantization()  # an empty key asks for the defaults
    assert recipe.build.target == "x86"


@pytest.mark.parametrize(
    ("quantize", "build", "expected"),
    [(None, None, None), (None, "int4", "int4"), ("int8", "int4", "int8"), ("int4", None, "int4")],
)
def test_training_quantizes_the_embeddings_as_the_build_will(quantize, build, expected):
    stages = {"quantize": {"embeddings": quantize}, "build": {"embeddings": build}}
    recipe = Recipe.from_dict({**MINIMAL, **stages})
    assert Quantize().in_recipe(recipe.quantize, recipe.context()).embeddings == expected
    assert Quantize().in_recipe(recipe.quantize, RecipeContext()).embeddings == quantize


@pytest.mark.parametrize("stage", ["quantize", "build"])
def test_embeddings_have_eight_bits_or_four(stage):
    with pytest.raises(UsageError, match="embeddings is 'int2'"):
        Recipe.from_dict({**MINIMAL, stage: {"embeddings": "int2"}})


def test_stages_that_are_absent_do_not_run():
    recipe = Recipe.from_dict(MINIMAL)
    assert (recipe.finetune, recipe.prune, recipe.quantize, recipe.build) == (None, None, None, None)


def test_data_on_the_hub_is_not_a_path(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("model: m\noutput: o\ntask: {name: text, data: 'hub:owner/set'}\n")
    assert Recipe.load(path).task.data == "hub:owner/set"


def test_paths_may_be_given_by_the_caller_instead(tmp_path, monkeypatch):
    path = tmp_path / "recipe.yaml"
    path.write_text("task: {name: sst2}\n")
    monkeypatch.chdir(tmp_path)
    recipe = Recipe.load(path, model="m", data="hub:", output="/o")
    assert (recipe.model, recipe.task.data, recipe.output) == (str(tmp_path / "m"), "hub:", "/o")
    with pytest.raises(UsageError, match="recipe lacks model, output"):
        Recipe.load(path)


def test_a_recipe_survives_the_way_to_json_and_back():
    recipe = Recipe.from_dict({**MINIMAL, "prune": {"steps": 2}, "quantize": {"method": "calibrate"}})
    assert Recipe.from_dict(recipe.to_dict()) == recipe


@pytest.mark.parametrize(
    ("change", "message", "expected"),
    [
        ({"prun": {}}, "recipe has an unknown key 'prun'", "'prune'"),
        ({"prune": {"sparsty": 0.5}}, "recipe.prune has an unknown key 'sparsty'", "'sparsity'"),
        ({"prune": {"training": {"lr": 1}}}, "recipe.prune.training has an unknown key 'lr'", ""),
        ({"prune": {"sparsity": 1.0}}, "recipe.prune.sparsity is 1.0", "[0, 1)"),
        ({"prune": {"method": "obart"}}, "method is 'obart'", "'obert'"),
        ({"prune": {"steps": "four"}}, "recipe.prune.steps is 'four'", "a whole number of 1 or more"),
        ({"prune": {"steps": True}}, "recipe.prune.steps is True", "a whole number"),
        ({"prune": 3}, "recipe.prune is 3", "key: value"),
        (
            {"finetune": {"learning_rate": "fast"}},
            "recipe.finetune.learning_rate is 'fast'",
            "a number in (0, 1)",
        ),
        ({"finetune": {"epochs": -1}}, "recipe.finetune.epochs is -1", "a number of 0 or more"),
        ({"finetune": {"precision": "fp8"}}, "precision is 'fp8'", "fp32"),
        ({"quantize": {"observer": "max"}}, "observer is 'max'", "minmax"),
        ({"quantize": {"distillation": {"hardness": 2}}}, "hardness is 2", "0"),
        ({"task": {"name": "sst2"}}, "recipe.task lacks data", "data"),
        ({"task": {"name": "text", "data": "d", "labels": 3}}, "recipe.task.labels is 3", "list"),
    ],
)
def test_a_wrong_key_or_value_is_named_with_what_to_write(change, message, expected):
    with pytest.raises(UsageError, match=message) as error:
        Recipe.from_dict({**MINIMAL, **change})
    assert error.value.exit_code == 2
    assert expected in str(error.value)
    assert error.value.hint


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ({"prune": {"epochs": 3}}, "there is prune.training.epochs"),
        ({"quantize": {"hardness": 1}}, "there is quantize.distillation.hardness"),
        ({"sparsity": 0.8}, "there is prune.sparsity"),
        ({"prune": {"epoch": 3}}, "did you mean prune.training.epochs?"),
        ({"prune": {"rewind_epoch": 3}}, "did you mean 'rewind_epochs'?"),
        ({"prune": {"learning_rat": 1e-4}}, "did you mean prune.training.learning_rate?"),
        ({"prune": {"training": {"sparsity": 0.5}}}, "remove it"),
    ],
)
def test_a_key_that_is_at_home_deeper_in_its_section_is_named_with_the_way_there(change, hint):
    with pytest.raises(UsageError, match="has an unknown key") as error:
        Recipe.from_dict({**MINIMAL, **change})
    assert error.value.hint == hint


def test_a_key_that_several_stages_have_is_named_for_each():
    with pytest.raises(UsageError, match="recipe has an unknown key 'epochs'") as error:
        Recipe.from_dict({**MINIMAL, "epochs": 3})
    assert error.value.hint.startswith("there is finetune.epochs, drop.training.epochs, ")


@pytest.mark.parametrize("content", ["a: [", "- 1", ""])
def test_a_file_that_is_no_recipe_is_refused(tmp_path, content):
    path = tmp_path / "recipe.yaml"
    path.write_text(content)
    with pytest.raises(UsageError):
        Recipe.load(path)
    with pytest.raises(UsageError, match="there is no recipe"):
        Recipe.load(tmp_path / "other.yaml")


def test_yaml_tags_that_would_run_code_are_refused(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("model: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(UsageError, match="not YAML"):
        Recipe.load(path)


def test_recipes_need_no_torch():
    modules = ("recipe", "planning", "runner")  # nor does a dry run, or building a quantized model
    imports = "; ".join(f"import obert_edge.host.stages.{module}" for module in modules)
    code = f"import sys; {imports}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_recipe_extends_another_key_by_key(tmp_path):
    (tmp_path / "base.yaml").write_text(YAML)
    (tmp_path / "other.yaml").write_text(
        "extends: base.yaml\noutput: o\nprune: {sparsity: 0.5, training: {seed: 1}}\n"
    )
    recipe = Recipe.load(tmp_path / "other.yaml")
    assert (recipe.prune.sparsity, recipe.prune.pattern) == (0.5, "2x1")
    assert recipe.prune.training == Training(max_steps=500, dropout=0.0, seed=1)
    assert recipe.output == str(tmp_path / "o")
    (tmp_path / "loop.yaml").write_text("extends: loop.yaml\n")
    with pytest.raises(UsageError, match="extends 'loop.yaml'"):
        Recipe.load(tmp_path / "loop.yaml")
    (tmp_path / "lost.yaml").write_text("extends: nowhere.yaml\n")
    with pytest.raises(UsageError, match=r"there is no recipe .*nowhere\.yaml"):
        Recipe.load(tmp_path / "lost.yaml")


def test_lists_of_numbers_are_numbers():
    recipe = Recipe.from_dict({**MINIMAL, "drop": {"keep": [0, 2]}, "prune": {"rewind_epochs": [1, 2.5]}})
    assert recipe.drop.keep == (0, 2)
    assert recipe.prune.rewind_epochs == (1.0, 2.5)
    assert Recipe.from_dict(recipe.to_dict()) == recipe


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"drop": {}}, "recipe.drop lacks keep"),
        ({"drop": {"keep": [2, 1]}}, "keep is"),
        ({"drop": {"keep": ["a"]}}, "recipe.drop.keep is"),
        ({"prune": {"start_epoch": 1}}, "start_epoch, end_epoch, frequency is"),
        ({"prune": {"start_epoch": 3, "end_epoch": 2, "frequency": 1}}, "start_epoch, end_epoch is"),
        ({"prune": {"schedule": "cubical"}}, "schedule is 'cubical'"),
        ({"prune": {"rewind_epochs": [2, 1]}}, "rewind_epochs is"),
        ({"transfer": {"distillation": {"hidden_states": -1}}}, "hidden_states is -1"),
        ({"finetune": {"accumulate": 0}}, "accumulate is 0"),
    ],
)
def test_new_keys_are_checked_too(change, message):
    with pytest.raises(UsageError, match=message):
        Recipe.from_dict({**MINIMAL, **change})


def test_the_keys_of_a_recipe_are_the_stages_in_their_order():
    names = [stage.name for stage in STAGES]
    assert list(Recipe.parts()) == ["task", *names]
    assert [Recipe.parts()[stage.name] for stage in STAGES] == [stage.settings for stage in STAGES]
    everything = Recipe.from_dict({**MINIMAL, **dict.fromkeys(names), "drop": {"keep": 0}})
    assert [stage.name for stage, _ in everything.stages()] == names


def test_every_path_of_a_recipe_is_relative_to_it(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "model: m\noutput: o\ntask: {name: sst2, data: d}\n"
        "prune: {distillation: {teacher: ../t}}\nbuild: {calibration_data: texts.txt}\n"
    )
    recipe = Recipe.load(path)
    assert recipe.prune.distillation.teacher == str(tmp_path.parent / "t")
    assert recipe.build.calibration_data == str(tmp_path / "texts.txt")


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi")
)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (f"{BOMB}model: *i\n", "holds more than 10000 values, its aliases written out"),
        ("model: &m [*m]\n", "within itself"),
        ("model: " + "[" * 60 + "]" * 60, "nested more than 40 levels deep"),
        ("model: " + "[" * 50_000, "nested more than 40 levels deep"),
        ("model: 2001-99-99\n", "is not YAML"),
        ("model: " + "9" * 5000, "is not YAML"),
        ("model: a\nmodel: b\n", "the key 'model' twice"),
        ("? [a]\n: b\n", "is not YAML"),
        ("x: " + "y" * 2_000_000, "has 2000003 bytes"),
        ('model: a\noutput: b\ntask: {name: text, data: "a\\0b"}', "is no path"),
    ],
)
def test_what_no_recipe_is_is_refused_in_few_words(tmp_path, text, complaint):
    """Nine aliases of nine aliases ... made an error message of 2.3 GB."""
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=complaint) as caught:
        Recipe.load(path)
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("key", ["model", "task", "prune", "quantize", "unknown"])
def test_a_long_value_is_named_in_few_words(tmp_path, key):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"{key}: [{', '.join(['[a, b, c]'] * 2000)}]\n")
    with pytest.raises(UsageError) as caught:
        Recipe.load(path)
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize(
    ("task", "counts", "said"),
    [
        ("embedding", {"similarities": 3.0}, "teacher the dense model: similarities 3, hidden states 0.5"),
        (
            "sst2",
            {"hardness": 1.0, "temperature": 2.0},
            "teacher the dense model: hardness 1, temperature 2, hidden states 0.5",
        ),
    ],
)
def test_a_dry_run_says_of_learning_from_a_teacher_what_counts_for_the_task(tmp_path, task, counts, said):
    taught = Distillation(similarities=3.0, hidden_states=0.5)
    recipe = Recipe(
        model=str(tmp_path / "model"),
        output=str(tmp_path / "out"),
        task=TaskSettings(task, str(tmp_path / "data"), rows=640),
        prune=PruneSettings(training=Training(epochs=2), distillation=taught, steps=2),
    )
    found = plan(recipe)
    assert f"  {said}" in describe(found).splitlines()
    (stage,) = found.to_dict()["stages"]
    assert stage["distillation"] == {"teacher": None, **counts, "hidden_states": 0.5}
