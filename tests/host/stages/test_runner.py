"""What every stage refuses before it works, and that none reports success for nothing done."""

from __future__ import annotations

import dataclasses
import json
import shutil
import time

import pytest
import torch
from safetensors.torch import load_file

from obert_edge.errors import CheckpointError, DataError, ObertEdgeError, UsageError
from obert_edge.host.data import load_task
from obert_edge.host.stages.recipe import (
    BuildSettings,
    DropSettings,
    PruneSettings,
    QuantizeSettings,
    Recipe,
    TaskSettings,
    Training,
    TransferSettings,
)
from obert_edge.host.stages.runner import run_stage
from obert_edge.host.stages.stage_build import Build
from obert_edge.host.stages.stage_drop import Drop
from obert_edge.host.stages.stage_finetune import Finetune
from obert_edge.host.stages.stage_prune import Prune
from obert_edge.host.stages.stage_quantize import Quantize
from obert_edge.host.stages.stage_transfer import Transfer, labels_only
from obert_edge.progress import Lines
from tests.answers.models import labeled, make_model, save_wordpiece

SHORT = Training(max_steps=2, learning_rate=1e-3, batch_size=16, max_length=16, dropout=0.0)
AT_ONCE = dataclasses.replace(SHORT, max_steps=0)
FEW = {"sparsity": 0.5, "gradients": 2, "gradient_batch_size": 2, "steps": 1, "initial_sparsity": 0.5}
#: Every stage that reads rows, and every way it has to do so.
STAGES = {
    "finetune": (Finetune(), SHORT),
    "drop": (Drop(), DropSettings((0,), SHORT)),
    "transfer": (Transfer(), TransferSettings(SHORT, labels_only())),
    "prune": (Prune(), PruneSettings(**FEW, training=SHORT)),
    "prune at once": (Prune(), PruneSettings(**FEW, training=AT_ONCE)),
    "prune at once by inputs": (Prune(), PruneSettings(**FEW, method="wanda", training=AT_ONCE)),
    "qat": (Quantize(), QuantizeSettings(training=SHORT)),
    "calibrate": (Quantize(), QuantizeSettings(method="calibrate", training=SHORT)),
}


def rows(folder, labels):
    folder.mkdir(exist_ok=True)
    lines = [
        json.dumps({"text": f"warm film {'plot ' * i}", "label": label}) for i, label in enumerate(labels)
    ]
    for split in ("train", "dev"):
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def run(name, model, task, output, **options):
    stage, settings = STAGES[name]
    return run_stage(stage, model, task, output, settings, progress=False, **options)


#: Characters that a tokenizer drops.
INVISIBLE = "\u200b"
QUESTION = {"id": "1", "question": "what", "answers": [{"text": "none of it", "answer_start": 0}]}
DOCUMENT = {"title": "t", "paragraphs": [{"context": "warm film", "qas": [QUESTION]}]}
#: Per task a class of transformers and a train split with rows of which none teaches anything.
UNUSABLE = {
    "squad": ("BertForQuestionAnswering", "train.json", json.dumps({"version": "1.1", "data": [DOCUMENT]})),
    "mlm": ("BertForMaskedLM", "train.txt", f"{INVISIBLE}\n{INVISIBLE}\n"),
    "tokens": ("BertForTokenClassification", "train.conll", f"{INVISIBLE} O\n{INVISIBLE} B-X\n"),
}


def unusable(folder, name):
    """A model, and a task for its head whose rows are of no use to it."""
    class_name, file, content = UNUSABLE[name]
    folder.mkdir()
    vocabulary = save_wordpiece(folder)
    names = labeled(("O", "B-X")) if name == "tokens" else {}
    make_model(class_name, vocabulary, max_position_embeddings=512, **names).save_pretrained(folder)
    (folder / file).write_text(content, encoding="utf-8")
    return folder, load_task(name, folder)


def long_enough(name, settings):
    """Settings with features that hold a question beside a part of its text."""
    if name != "squad":
        return settings
    if isinstance(settings, Training):
        return dataclasses.replace(settings, max_length=256)
    return dataclasses.replace(settings, training=dataclasses.replace(settings.training, max_length=256))


@pytest.mark.parametrize("of", UNUSABLE)
@pytest.mark.parametrize("name", STAGES)
def test_a_split_without_a_usable_row_is_refused_and_nothing_is_written(tmp_path, name, of):
    model, task = unusable(tmp_path / "model", of)
    stage, settings = STAGES[name]
    if not stage.needs_labels(settings) and of != "squad":
        pytest.skip("a text that has special tokens alone has inputs, too")
    with pytest.raises(DataError, match="no row that can be trained on"):
        run_stage(stage, model, task, tmp_path / "o", long_enough(of, settings), progress=False)
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("name", ["finetune", "prune at once", "qat"])
def test_a_head_of_one_class_learns_nothing_and_is_refused(encoder, tmp_path, name):
    (tmp_path / "train.conll").write_text("warm O\nfilm O\n")
    task = load_task("tokens", tmp_path)
    model = encoder
    if name != "finetune":
        model = tmp_path / "model"
        model.mkdir()
        made = make_model("BertForTokenClassification", save_wordpiece(model), **labeled(["O"]))
        made.save_pretrained(model)
    with pytest.raises(DataError, match="has the one label 'O': .* nothing to learn"):
        run(name, model, task, tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_a_bundle_takes_the_place_of_no_other_file(dense, tmp_path):
    (tmp_path / "data.csv").write_text("text,label\nwarm film,good\n")
    with pytest.raises(UsageError, match="is there already and is no bundle"):
        run_stage(Build(), dense, None, tmp_path / "data.csv", BuildSettings(), progress=False)
    assert (tmp_path / "data.csv").read_text().startswith("text,label")


@pytest.mark.parametrize(
    "labels", [["good"], ["good", "bad", "good"], ["good"] * 20], ids=["one", "few", "one class"]
)
@pytest.mark.parametrize("name", STAGES)
def test_few_rows_are_enough_to_do_what_was_asked(dense, tmp_path, name, labels):
    task = load_task("text", rows(tmp_path / "data", labels), labels=["bad", "good"])
    report = run(name, dense, task, tmp_path / "o")
    before = load_file(dense / "model.safetensors")
    after = load_file(tmp_path / "o" / "model.safetensors")
    figures = report.to_dict()["figures"]
    trained = "steps" in figures
    assert figures.get("steps", 2) == 2
    if trained:
        assert figures["loss"] is not None
        assert any(not torch.equal(after[key], before[key]) for key in after)
    if name.startswith("prune"):
        assert figures["sparsity"] == pytest.approx(0.5, abs=0.01)
    if name == "calibrate":
        assert json.loads((tmp_path / "o" / "quantization.json").read_text())["sites"]
        assert figures["examples"] == len(labels)


@pytest.mark.parametrize("limit", [0, -5])
@pytest.mark.parametrize("name", STAGES)
def test_a_limit_of_no_rows_is_refused(dense, task, tmp_path, name, limit):
    with pytest.raises(UsageError, match=f"limit is {limit}; expected a whole number of 1 or more"):
        run(name, dense, task, tmp_path / "o", limit=limit)
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("none", [{"max_steps": 0}, {"max_steps": None, "epochs": 0.0}], ids=str)
@pytest.mark.parametrize("name", ["finetune", "transfer", "qat"])
def test_training_of_no_steps_is_refused_where_it_is_all_there_is_to_do(dense, task, tmp_path, name, none):
    stage, settings = STAGES[name]
    training = dataclasses.replace(SHORT, **none)
    told = training if name == "finetune" else dataclasses.replace(settings, training=training)
    with pytest.raises(UsageError, match="0 steps"):
        run_stage(stage, dense, task, tmp_path / "o", told, progress=False)


def test_a_loss_that_is_no_number_ends_the_stage(dense, task, tmp_path):
    wild = dataclasses.replace(SHORT, max_steps=30, learning_rate=0.99, weight_decay=1e30, warmup=0.0)
    with pytest.raises(ObertEdgeError, match="training diverged: the loss is nan"):
        run_stage(Finetune(), dense, task, tmp_path / "o", wild, progress=False)
    assert not (tmp_path / "o").exists()


class Untouched:
    """A task that must not be asked for rows."""

    def __init__(self, task):
        self._task = task

    def __getattr__(self, name):
        return getattr(self._task, name)

    def features(self, *args, **kwargs):
        raise AssertionError("the data were read before the output was checked")


def outputs(tmp_path, model):
    """Outputs no stage can write, with what is said about them."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    return {
        "is not an empty folder, but a file": tmp_path / "file",
        "is not an empty folder": tmp_path / "full",
        "is a file, not a folder": tmp_path / "file" / "below",
        "is inside the input": model / "o",
        "cannot be written": tmp_path / ("n" * 300),
    }


@pytest.mark.parametrize("name", STAGES)
def test_an_output_that_cannot_be_is_refused_before_the_data_are_read(dense, task, tmp_path, name):
    shutil.copytree(dense, tmp_path / "model")
    for message, output in outputs(tmp_path, tmp_path / "model").items():
        with pytest.raises(ObertEdgeError, match=message):
            run(name, tmp_path / "model", Untouched(task), output)
    with pytest.raises(UsageError, match="holds the input"):
        run(name, tmp_path / "model", Untouched(task), tmp_path, overwrite=True)
    assert (tmp_path / "model" / "config.json").is_file()


@pytest.mark.parametrize("name, message", [("", "is a folder"), ("config.json", "is a file of the model")])
def test_a_bundle_takes_the_place_of_no_part_of_the_model(dense, tmp_path, name, message):
    shutil.copytree(dense, tmp_path / "model")
    with pytest.raises(UsageError, match=message):
        run_stage(
            Build(), tmp_path / "model", None, tmp_path / "model" / name, BuildSettings(), progress=False
        )


def test_a_recipe_is_refused_before_its_first_stage(encoder, data, tmp_path):
    from obert_edge.host.stages import compress

    shutil.copytree(encoder, tmp_path / "model")
    good = {"model": str(tmp_path / "model"), "task": TaskSettings("text", str(data)), "finetune": SHORT}
    (tmp_path / "file").touch()
    bad = {
        "but a file": {"output": str(tmp_path / "file")},
        "is inside the input": {"output": str(tmp_path / "model" / "o")},
        "max_length is 64": {
            "output": str(tmp_path / "o"),
            "quantize": QuantizeSettings(training=dataclasses.replace(SHORT, max_length=64)),
        },
        "max_length is 100": {
            "output": str(tmp_path / "o"),
            "task": TaskSettings("text", str(data), max_length=100),
        },
        "0 steps": {"output": str(tmp_path / "o"), "transfer": TransferSettings(AT_ONCE)},
    }
    for message, changes in bad.items():
        with pytest.raises(UsageError, match=message):
            compress(Recipe(**{**good, **changes}), progress=False)
        assert not (tmp_path / "o").exists()


def test_an_old_folder_of_sentence_transformers_says_which_to_name(encoder, task, tmp_path):
    shutil.copytree(encoder, tmp_path / "model" / "0_Transformer")
    (tmp_path / "model" / "modules.json").write_text("[]")
    with pytest.raises(CheckpointError, match="its transformer in 0_Transformer") as caught:
        run("finetune", tmp_path / "model", task, tmp_path / "o")
    assert str(tmp_path / "model" / "0_Transformer") in caught.value.hint


@pytest.mark.parametrize("name", ["prune at once by inputs", "calibrate"])
@pytest.mark.parametrize("kind", ["txt", "jsonl"])
def test_methods_that_need_no_labels_take_texts_alone_and_leave_the_head_as_it_is(
    encoder, dense, tmp_path, name, kind
):
    data = tmp_path / "data"
    data.mkdir()
    texts = ["warm film", "dull plot scene", "the music"]
    lines = texts if kind == "txt" else [json.dumps({"text": text}) for text in texts]
    (data / f"train.{kind}").write_text("\n".join(lines) + "\n")
    task = load_task("text", data, needs_labels=False)
    for source in (encoder, dense):
        output = tmp_path / source.name
        run(name, source, task, output)
        ours, theirs = (
            json.loads((f / "config.json").read_text())["architectures"] for f in (output, source)
        )
        assert ours == theirs
        assert set(load_file(output / "model.safetensors")) == set(load_file(source / "model.safetensors"))


def test_learning_from_labels_that_are_not_there_is_refused(dense, tmp_path):
    (tmp_path / "t.txt").write_text("warm film\n")
    task = load_task("text", tmp_path / "t.txt", needs_labels=False)
    for name in ("finetune", "prune", "prune at once", "qat", "transfer", "drop"):
        with pytest.raises(DataError, match="learns from labels, and the rows .* have none"):
            run(name, dense, task, tmp_path / "o")


def test_the_progress_of_a_build_counts_nothing_that_is_not_there(dense, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Lines.__init__, "__defaults__", (None, time.monotonic, 0.0))
    run_stage(Build(), dense, None, tmp_path / "m.oeb", BuildSettings())
    lines = capsys.readouterr().err.splitlines()
    assert any(line.startswith("finding activation ranges, ") for line in lines)
    assert not [line for line in lines if " of 1000" in line]
