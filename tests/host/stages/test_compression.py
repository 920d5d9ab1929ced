from __future__ import annotations

import csv
import dataclasses
import json
import shutil

import pytest
from transformers import Trainer

from obert_edge.device.runtime import machine
from obert_edge.errors import CheckpointError, UsageError
from obert_edge.host.stages import compress, compression
from obert_edge.host.stages.evaluation import evaluate
from obert_edge.host.stages.recipe import (
    BuildSettings,
    PruneSettings,
    QuantizeSettings,
    Recipe,
    TaskSettings,
    Training,
    TrimSettings,
)
from tests.host.stages.conftest import FAST

SHORT = dataclasses.replace(FAST, max_steps=20, save_steps=5)


@pytest.fixture
def recipe(encoder, data, tmp_path):
    return Recipe(
        model=str(encoder),
        output=str(tmp_path / "out"),
        task=TaskSettings("text", str(data)),
        finetune=FAST,
        prune=PruneSettings(sparsity=0.5, steps=2, gradients=4, gradient_batch_size=4, training=SHORT),
        quantize=QuantizeSettings(training=SHORT),
        build=BuildSettings("x86", embeddings="int4"),
    )


def test_a_recipe_leads_from_the_encoder_to_a_bundle_that_answers_as_the_model_does(recipe, tmp_path):
    summary = compress(recipe, progress=False)
    stages = {score.stage: score for score in summary.stages}
    assert list(stages) == ["finetune", "prune", "quantize", "build"]
    assert stages["finetune"].metrics["accuracy"] > 95
    assert stages["quantize"].kind == "fake-quant"
    assert stages["build"].kind == "bundle"
    assert stages["build"].agreement >= 98
    record = json.loads((tmp_path / "out" / "3-quantize" / "quantization.json").read_text())
    assert record["embeddings"] == "int4"  # trained with what the bundle has
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == summary.to_dict()


def test_a_second_run_goes_on_inside_the_stage_that_was_killed(recipe, tmp_path, monkeypatch):
    recipe = dataclasses.replace(recipe, quantize=None, build=None)
    steps_run = []
    training_step = Trainer.training_step

    def killed(self, *args, **kwargs):
        if "prune" in self.args.output_dir and self.state.global_step == 12:
            raise KeyboardInterrupt
        return training_step(self, *args, **kwargs)

    def counted(self, *args, **kwargs):
        steps_run.append(self.state.global_step)
        return training_step(self, *args, **kwargs)

    monkeypatch.setattr(Trainer, "training_step", killed)
    with pytest.raises(KeyboardInterrupt):
        compress(recipe, progress=False)
    out = tmp_path / "out"
    assert (out / "1-finetune" / "stage.json").is_file()
    assert not (out / "2-prune").exists()
    monkeypatch.setattr(Trainer, "training_step", counted)
    summary = compress(recipe, progress=False)
    assert steps_run == list(range(10, 20))  # from the last checkpoint, and no fine-tuning again
    rows = list(csv.DictReader((out / "2-prune" / "train_log.csv").open()))
    assert [int(row["step"]) for row in rows] == list(range(2, 21, 2))
    assert [score.stage for score in summary.stages] == ["finetune", "prune"]
    steps_run.clear()
    assert compress(recipe, progress=False) == summary
    assert steps_run == []


def test_an_output_belongs_to_one_recipe(recipe):
    recipe = dataclasses.replace(recipe, prune=None, quantize=None, build=None)
    compress(recipe, progress=False)
    other = dataclasses.replace(recipe, finetune=dataclasses.replace(FAST, max_steps=2, dropout=None))
    with pytest.raises(UsageError) as found:
        compress(other, progress=False)
    assert found.value.message == (
        f"{recipe.output} holds the stages of another recipe: finetune.dropout is 0.0 there and absent in "
        "this recipe; finetune.max_steps is 60 there and 2 in this recipe"
    )


def test_of_two_recipes_that_have_little_in_common_a_few_differences_are_named(recipe, data):
    recipe = dataclasses.replace(recipe, finetune=SHORT, prune=None, quantize=None, build=None)
    compress(recipe, progress=False)
    task = TaskSettings("text", str(data), tune=8)
    other = dataclasses.replace(recipe, finetune=Training(), task=task, build=BuildSettings())
    with pytest.raises(UsageError, match="build is absent there and present in this recipe; ") as found:
        compress(other, progress=False)
    assert found.value.message.endswith(" more")
    assert len(found.value.message) < 600


def test_a_split_to_score_that_is_not_there_is_refused_before_the_first_stage(recipe, data, tmp_path):
    recipe = dataclasses.replace(recipe, task=TaskSettings("text", str(data), evaluate="tune"))
    with pytest.raises(UsageError, match="no split 'tune' here") as found:
        compress(recipe, progress=False)
    assert "`tune: N` below task" in found.value.hint
    assert not (tmp_path / "out" / "1-finetune").exists()


def test_a_length_that_the_model_lacks_is_said_once_and_of_whom_it_is_true(recipe, data, tmp_path, caplog):
    unasked = dataclasses.replace(SHORT, max_steps=2, max_length=None)
    recipe = dataclasses.replace(
        recipe,
        task=TaskSettings("text", str(data), max_length=16),
        finetune=unasked,
        prune=None,
        quantize=QuantizeSettings(training=unasked),
        build=None,
    )
    compress(recipe, progress=False)
    cut = [record.getMessage() for record in caplog.records if "are cut to" in record.getMessage()]
    assert len(cut) == 1
    assert cut[0].startswith("features of finetune and quantize are cut to 32 tokens")


def test_a_stage_that_has_left_nothing_may_change(recipe, tmp_path):
    recipe = dataclasses.replace(recipe, finetune=SHORT, build=None)
    compress(dataclasses.replace(recipe, quantize=None), progress=False)
    out = tmp_path / "out"
    pruned = (out / "2-prune" / "model.safetensors").stat()
    compress(recipe, progress=False)
    assert (out / "2-prune" / "model.safetensors").stat() == pruned
    assert json.loads((out / "recipe.json").read_text()) == recipe.to_dict()
    trained = dataclasses.replace(SHORT, seed=7)
    other = dataclasses.replace(recipe, quantize=QuantizeSettings(training=trained))
    with pytest.raises(
        UsageError, match="another recipe: quantize.training.seed is 42 there and 7 in"
    ) as found:
        compress(other, progress=False)
    left = [out / "3-quantize", out / "3-quantize.score.json"]
    assert found.value.hint.endswith(f"or remove {left[0]}, {left[1]} to make it anew")
    shutil.rmtree(left[0])  # its score without it is nobody's
    summary = compress(other, progress=False)
    assert [score.stage for score in summary.stages] == ["finetune", "prune", "quantize"]


def test_what_was_said_of_a_result_that_is_gone_is_not_said_of_the_new_one(recipe, tmp_path, monkeypatch):
    recipe = dataclasses.replace(recipe, finetune=SHORT, prune=None, quantize=None, build=BuildSettings())
    first = compress(recipe, progress=False)
    out = tmp_path / "out"
    score, card = out / "model.oeb.score.json", out / "model.oeb.md"
    assert first.stages[-1].metrics["accuracy"] <= 100 and card.is_file()
    score.write_text(score.read_text().replace(f'"n": {first.stages[-1].n}', '"n": 7'))
    (out / "model.oeb").unlink()
    other = dataclasses.replace(recipe, build=BuildSettings(embeddings="int4", card=False))

    def no_summary_meanwhile(*arguments, **options):
        assert not (out / "summary.json").exists()
        return evaluate(*arguments, **options)

    monkeypatch.setattr(compression, "evaluate", no_summary_meanwhile)
    second = compress(other, progress=False)
    assert second.stages[-1].n == first.stages[-1].n  # it was scored itself
    assert json.loads((out / "summary.json").read_text()) == second.to_dict()
    assert not card.exists()


def test_a_summary_goes_when_another_recipe_takes_the_folder(recipe, tmp_path, monkeypatch):
    recipe = dataclasses.replace(recipe, finetune=SHORT, prune=None, quantize=None, build=None)
    compress(recipe, progress=False)

    def killed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "training_step", killed)
    with pytest.raises(KeyboardInterrupt):
        compress(dataclasses.replace(recipe, quantize=QuantizeSettings(training=SHORT)), progress=False)
    assert not (tmp_path / "out" / "summary.json").exists()


def test_a_card_of_ones_own_stays_when_its_bundle_is_made_anew(recipe, tmp_path):
    recipe = dataclasses.replace(recipe, finetune=SHORT, prune=None, quantize=None, build=BuildSettings())
    compress(recipe, progress=False)
    card = tmp_path / "out" / "model.oeb.md"
    card.write_text("Mine.")
    (tmp_path / "out" / "model.oeb").unlink()
    compress(recipe, progress=False)
    assert card.read_text() == "Mine."


def test_a_stage_that_was_begun_may_not_change(recipe, tmp_path, monkeypatch):
    recipe = dataclasses.replace(recipe, finetune=SHORT, quantize=None, build=None)
    training_step = Trainer.training_step

    def killed(self, *args, **kwargs):
        if "prune" in self.args.output_dir and self.state.global_step == 12:
            raise KeyboardInterrupt
        return training_step(self, *args, **kwargs)

    monkeypatch.setattr(Trainer, "training_step", killed)
    with pytest.raises(KeyboardInterrupt):
        compress(recipe, progress=False)
    other = dataclasses.replace(recipe, prune=dataclasses.replace(recipe.prune, sparsity=0.6))
    with pytest.raises(UsageError, match="another recipe: prune.sparsity is 0.5 there and 0.6 in") as found:
        compress(other, progress=False)
    assert str(tmp_path / "out" / ".2-prune.work") in found.value.hint
    assert (tmp_path / "out" / ".2-prune.work").is_dir()


@pytest.mark.parametrize("content", ["", "{", "[]", "null"])
def test_a_record_that_is_none_is_refused(recipe, tmp_path, content):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "recipe.json").write_text(content)
    with pytest.raises(UsageError, match="recipe.json is no record of a recipe"):
        compress(recipe, progress=False)


def test_two_runs_do_not_work_in_one_folder(recipe, tmp_path, monkeypatch):
    recipe = dataclasses.replace(recipe, finetune=SHORT, prune=None, quantize=None, build=None)
    training_step, refused = Trainer.training_step, []

    def another_starts(self, *args, **kwargs):
        if not refused:
            with pytest.raises(UsageError, match="another command works in") as found:
                compress(dataclasses.replace(recipe, prune=PruneSettings()), progress=False)
            refused.append(found.value)
        return training_step(self, *args, **kwargs)

    monkeypatch.setattr(Trainer, "training_step", another_starts)
    compress(recipe, progress=False)
    assert len(refused) == 1
    assert json.loads((tmp_path / "out" / "recipe.json").read_text()) == recipe.to_dict()


def test_what_lies_in_the_place_of_a_new_stage_is_not_taken_for_its_result(recipe, tmp_path):
    recipe = dataclasses.replace(recipe, finetune=SHORT, quantize=None, build=None)
    compress(dataclasses.replace(recipe, prune=None), progress=False)
    shutil.copytree(tmp_path / "out" / "1-finetune", tmp_path / "out" / "2-prune")
    with pytest.raises(UsageError, match="prune is absent there and present in this recipe") as found:
        compress(recipe, progress=False)
    assert found.value.hint.endswith(f"or remove {tmp_path / 'out' / '2-prune'} to make it anew")


def test_what_a_later_stage_tells_an_earlier_one_counts_as_the_earlier_ones(recipe, tmp_path):
    recipe = dataclasses.replace(recipe, finetune=SHORT, prune=None)
    compress(dataclasses.replace(recipe, build=None), progress=False)  # trained with embeddings of 8 bit
    with pytest.raises(UsageError, match="another recipe: build is absent there and present in") as found:
        compress(recipe, progress=False)
    assert str(tmp_path / "out" / "2-quantize") in found.value.hint


def test_an_output_of_before_an_option_was_added_is_gone_on_with(recipe, tmp_path):
    recipe = dataclasses.replace(recipe, prune=None, quantize=None, build=None)
    summary = compress(recipe, progress=False)
    record = tmp_path / "out" / "recipe.json"
    content = json.loads(record.read_text())
    del content["finetune"]["weight_decay"]  # as if that run had not known of it
    record.write_text(json.dumps(content))
    assert compress(recipe, progress=False) == summary
    changed = dataclasses.replace(recipe, finetune=dataclasses.replace(FAST, weight_decay=0.5))
    with pytest.raises(UsageError, match="another recipe: finetune.weight_decay is 0.01 there and 0.5 in"):
        compress(changed, progress=False)


def test_a_recipe_that_would_judge_with_a_random_head_is_refused_before_its_first_stage(recipe, tmp_path):
    headless = dataclasses.replace(recipe, trim=TrimSettings(min_count=1), finetune=None)
    with pytest.raises(CheckpointError, match="is a BertModel and has no sequence-classification head"):
        compress(headless, progress=False)
    assert not list((tmp_path / "out").glob("*-trim"))


def test_classes_that_a_score_would_refuse_are_refused_before_the_first_stage(recipe, dense, tmp_path):
    (tmp_path / "data").mkdir()
    for split in ("train", "dev"):
        (tmp_path / "data" / f"{split}.csv").write_text("text,label\nwarm film,up\ndull film,down\n")
    unlearned = dataclasses.replace(
        recipe,
        model=str(dense),
        task=TaskSettings("text", str(tmp_path / "data")),
        finetune=None,
        prune=PruneSettings(sparsity=0.5, method="magnitude", training=Training(epochs=0)),
        quantize=None,
        build=None,
    )
    with pytest.raises(CheckpointError, match="none of the model's is down, up"):
        compress(unlearned, progress=False)
    assert not (tmp_path / "out").exists()


def test_a_recipe_says_what_its_data_are(recipe, capsys):
    compress(dataclasses.replace(recipe, prune=None, quantize=None, build=None, finetune=SHORT))
    assert "text: 2 classes (bad, good)\n" in capsys.readouterr().err


def test_a_bundle_for_another_cpu_is_not_scored_and_the_run_ends_well(recipe, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(machine, "architecture", lambda: "x86_64")
    built = dataclasses.replace(recipe, finetune=SHORT, prune=None, quantize=None)
    summary = compress(dataclasses.replace(built, build=BuildSettings("arm64")), progress=False)
    bundle = tmp_path / "out" / "model.oeb"
    assert bundle.is_file()
    assert [score.stage for score in summary.stages] == ["finetune"]
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == summary.to_dict()
    said = [message for message in caplog.messages if "not scored" in message]
    assert len(said) == 1
    assert f"{bundle} was built for aarch64 (target arm64); this machine is x86_64" in said[0]
    assert "to score it, run `obert-edge evaluate` on a machine with that CPU" in said[0]
