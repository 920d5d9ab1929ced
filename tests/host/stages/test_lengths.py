"""No stage asks a model for more positions than it has."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest
from transformers import RobertaConfig, RobertaForSequenceClassification

from obert_edge.errors import CheckpointError, UsageError
from obert_edge.host.compiler import build
from obert_edge.host.data import load_task
from obert_edge.host.stages import evaluate, transfer
from obert_edge.host.stages.lengths import fitted_to, longest_sequence
from obert_edge.host.stages.recipe import Distillation, Training
from obert_edge.host.stages.runner import run_stage
from tests.host.stages.test_runner import STAGES, Untouched

LONG = " ".join(["film"] * 200)


@pytest.fixture(scope="module")
def roberta(encoder, tmp_path_factory):
    """A RoBERTa of 32 positions, of which the first two are never used."""
    folder = tmp_path_factory.mktemp("lengths") / "roberta"
    config = RobertaConfig(
        vocab_size=40,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
        type_vocab_size=1,
        pad_token_id=1,
        num_labels=2,
        id2label={0: "bad", 1: "good"},
        label2id={"bad": 0, "good": 1},
    )
    RobertaForSequenceClassification(config).save_pretrained(folder)
    shutil.copyfile(encoder / "tokenizer.json", folder / "tokenizer.json")
    return folder


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    folder = tmp_path_factory.mktemp("long")
    for split in ("train", "dev"):
        rows = [json.dumps({"text": LONG, "label": label}) for label in ("good", "bad") * 2]
        (folder / f"{split}.jsonl").write_text("\n".join(rows) + "\n")
    return load_task("text", folder)


def asking(name, length):
    stage, settings = STAGES[name]
    if isinstance(settings, Training):
        return stage, dataclasses.replace(settings, max_length=length)
    return stage, dataclasses.replace(
        settings, training=dataclasses.replace(settings.training, max_length=length)
    )


@pytest.mark.parametrize("name", STAGES)
def test_a_length_beyond_the_positions_is_refused_before_the_data_are_read(dense, task, tmp_path, name):

    stage, settings = asking(name, 33)
    with pytest.raises(UsageError, match="max_length is 33; .* has positions for 32 tokens") as caught:
        run_stage(stage, dense, Untouched(task), tmp_path / "o", settings, progress=False)
    assert "--max-length 32" in caught.value.hint


@pytest.mark.parametrize("name", STAGES)
def test_the_tasks_default_is_cut_to_the_model_and_one_line_says_so(dense, long, tmp_path, name, caplog):
    stage, settings = asking(name, None)

    run_stage(stage, dense, long, tmp_path / "o", settings, progress=False)
    said = [record.getMessage() for record in caplog.records if "are cut to" in record.getMessage()]
    assert len(said) == 1
    assert said[0].startswith(f"features of stage {stage.name} are cut to 32 tokens") and "128" in said[0]


def test_roberta_has_two_positions_fewer(roberta, long, tmp_path):
    assert longest_sequence(roberta) == 30
    for name in ("finetune", "calibrate"):
        run_at = asking(name, 31)

        with pytest.raises(UsageError, match="positions for 30 tokens"):
            run_stage(run_at[0], roberta, long, tmp_path / "o", run_at[1], progress=False)
    stage, settings = asking("finetune", 30)
    run_stage(stage, roberta, long, tmp_path / "o", settings, progress=False)


def test_the_tokenizers_limit_cuts_the_default_and_not_what_is_asked_for(dense, long, tmp_path):
    folder = tmp_path / "m"
    shutil.copytree(dense, folder)
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 20}))
    assert fitted_to(folder, long, None).default_length == 20
    assert fitted_to(folder, long, 28) is long
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 10**30}))
    assert fitted_to(folder, long, None).default_length == 32
    assert long.default_length == 128


def test_scoring_folders_and_bundles_has_the_same_limit(dense, long, tmp_path):
    bundle = build(dense, "x86", tmp_path / "b.oeb")
    for model in (dense, bundle):
        assert evaluate(model, long).n == 4
        with pytest.raises(UsageError, match="positions for 32 tokens"):
            evaluate(model, long, max_length=33)


def test_the_other_models_limit_is_looked_at_before_the_first_one_works(dense, roberta, long, monkeypatch):
    monkeypatch.setattr(type(long), "features", None)
    with pytest.raises(UsageError, match="roberta has positions for 30 tokens"):
        evaluate(dense, long, against=roberta, max_length=31)


def test_a_teacher_must_have_the_positions_of_its_student(dense, roberta, long, tmp_path):
    teacher = tmp_path / "teacher"
    shutil.copytree(roberta, teacher)
    config = json.loads((teacher / "config.json").read_text())
    vocabulary = json.loads((dense / "config.json").read_text())["vocab_size"]
    (teacher / "config.json").write_text(json.dumps({**config, "vocab_size": vocabulary}))
    plan = Distillation(teacher=str(teacher), hardness=1.0)
    training = Training(max_steps=1, batch_size=4, max_length=31)
    with pytest.raises(CheckpointError, match="positions for 30 tokens, features may have 31"):
        transfer(dense, long, tmp_path / "o", training=training, distillation=plan, progress=False)
