from __future__ import annotations

import csv
import dataclasses
import json
import shutil

import pytest
from safetensors.torch import load_file, save_file
from transformers import Trainer

from obert_edge.errors import CheckpointError, UsageError
from obert_edge.host.data import load_task
from obert_edge.host.stages import evaluate, finetune, prune, quantize
from obert_edge.host.stages.recipe import Distillation, Pruning, Quantization, Training
from tests.host.stages.conftest import BAD, FAST, GOOD, OTHER

EACH_STEP = dataclasses.replace(FAST, max_steps=4, save_steps=1)
SHORT = dataclasses.replace(FAST, max_steps=4, save_steps=2)
PLAN = Pruning(
    sparsity=0.5, pattern="4x1", initial_sparsity=0.25, steps=2, gradients=8, gradient_batch_size=4
)


def encoder_zeros(folder):
    """Share of zeros in the encoder's linear weights, and the weights."""
    weights = {
        name: value
        for name, value in load_file(folder / "model.safetensors").items()
        if ".layer." in name and name.endswith("weight") and value.ndim == 2
    }
    zeros = sum(int((value == 0).sum()) for value in weights.values())
    return zeros / sum(value.numel() for value in weights.values()), weights


@pytest.fixture(scope="module")
def pruned(dense, task, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stages") / "pruned"
    prune(dense, task, folder, pruning=PLAN, training=FAST, distillation=Distillation(), progress=False)
    return folder


def test_fine_tuning_learns_the_task_and_writes_a_whole_model_folder(dense, task):
    assert evaluate(dense, task).metrics["accuracy"] > 95
    assert {"config.json", "model.safetensors", "tokenizer.json", "stage.json", "train_log.csv"} <= {
        path.name for path in dense.iterdir()
    }
    assert json.loads((dense / "config.json").read_text())["id2label"] == {"0": "bad", "1": "good"}
    assert not [path for path in dense.parent.iterdir() if path.name.startswith(".")]


def test_the_log_holds_loss_and_rate_of_every_logged_step(dense):
    rows = list(csv.DictReader((dense / "train_log.csv").open()))
    assert int(rows[-1]["step"]) == FAST.max_steps
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    rates = [float(row["learning_rate"]) for row in rows]
    assert max(rates) == pytest.approx(FAST.learning_rate, rel=0.1)
    assert rates[-1] < rates[1]


def test_gradual_pruning_reaches_the_sparsity_in_blocks_and_keeps_the_accuracy(pruned, task):
    share, weights = encoder_zeros(pruned)
    assert share == pytest.approx(0.5, abs=0.01)
    for value in weights.values():
        blocks = value.reshape(value.shape[0] // 4, 4, value.shape[1])
        assert bool(((blocks == 0).all(1) == (blocks == 0).any(1)).all())
    assert evaluate(pruned, task).metrics["accuracy"] > 90


def test_the_rate_rewinds_and_the_sparsity_steps_up_while_pruning(pruned):
    rows = list(csv.DictReader((pruned / "train_log.csv").open()))
    sparsity = [float(row["sparsity"]) for row in rows]
    assert sparsity[0] == pytest.approx(0.25, abs=0.01)
    assert sparsity[-1] == pytest.approx(0.5, abs=0.01)
    rates = [float(row["learning_rate"]) for row in rows]
    assert any(later > earlier for earlier, later in zip(rates[1:], rates[2:]))


def test_zero_epochs_prune_in_one_shot_without_training(dense, task, tmp_path):
    report = prune(dense, task, tmp_path / "o", pruning=PLAN, training=Training(epochs=0), progress=False)
    assert report.figures.sparsity == pytest.approx(0.5, abs=0.01)
    assert report.options["distillation"] is None
    assert not (tmp_path / "o" / "train_log.csv").exists()


@pytest.mark.parametrize("method", ["qat", "calibrate"])
def test_quantizing_keeps_the_zeros_and_the_accuracy(pruned, task, tmp_path, method):
    training = Training(max_steps=20, learning_rate=1e-4, batch_size=16, max_length=16)
    quantize(pruned, task, tmp_path / "q", method=method, training=training, progress=False)
    record = json.loads((tmp_path / "q" / "quantization.json").read_text())
    assert record["method"] == method
    before, after = encoder_zeros(pruned)[1], encoder_zeros(tmp_path / "q")[1]
    assert all(bool((after[name][before[name] == 0] == 0).all()) for name in before)
    result = evaluate(tmp_path / "q", task, against=pruned, predictions=tmp_path / "p.jsonl")
    assert result.kind == "fake-quant"
    assert result.metrics["accuracy"] > 90
    assert result.agreement > 90
    lines = (tmp_path / "p.jsonl").read_text().splitlines()
    assert len(lines) == result.n == 60
    assert json.loads(lines[0])["prediction"] in ("bad", "good")


def test_a_stage_needs_an_empty_output(dense, task):
    with pytest.raises(UsageError, match="exists and is not an empty folder"):
        prune(dense, task, dense, pruning=PLAN, training=FAST, progress=False)


def test_a_bare_encoder_is_no_teacher(encoder, task, tmp_path):
    with pytest.raises(CheckpointError, match="no sequence-classification head"):
        prune(encoder, task, tmp_path / "o", pruning=PLAN, training=FAST, progress=False)
    assert not (tmp_path / "o").exists()


def test_a_head_with_other_labels_is_refused(dense, tmp_path):
    (tmp_path / "train.csv").write_text("text,label\na,x\nb,y\nc,z\n")
    with pytest.raises(CheckpointError, match="a head of 2 labels .* has 3"):
        evaluate(dense, load_task("text", tmp_path), split="train")


def test_a_truncated_checkpoint_is_refused_and_nothing_is_written(dense, task, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(dense, broken)
    (broken / "model.safetensors").write_bytes((dense / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        finetune(broken, task, tmp_path / "o", training=FAST, progress=False)
    assert not (tmp_path / "o").exists()


def test_quantization_aware_training_of_no_steps_is_refused(dense, task, tmp_path):
    with pytest.raises(UsageError, match="0 steps"):
        quantize(dense, task, tmp_path / "o", training=Training(max_steps=0), progress=False)


def test_activations_are_chosen_where_ranges_are_calibrated_alone(dense, task, tmp_path):
    chosen = Quantization(method="calibrate", activations="auto", calibration_examples=16)
    quantize(dense, task, tmp_path / "q", quantization=chosen, progress=False)
    record = json.loads((tmp_path / "q" / "quantization.json").read_text())
    assert record["activations"] in ("static", "mixed", "dynamic")
    with pytest.raises(UsageError, match="QAT trains them"):
        trained = Quantization(activations="auto")
        quantize(dense, task, tmp_path / "o", quantization=trained, training=SHORT, progress=False)


def test_a_quantized_folder_is_not_quantized_again(dense, task, tmp_path):
    quantize(dense, task, tmp_path / "q", method="calibrate", progress=False)
    with pytest.raises(CheckpointError, match="already quantized"):
        prune(tmp_path / "q", task, tmp_path / "o", pruning=PLAN, training=FAST, progress=False)


def test_checkpoints_of_other_options_are_not_gone_on_with(encoder, task, tmp_path, monkeypatch):
    monkeypatch.setattr(Trainer, "_save_optimizer_and_scheduler", interrupt)
    with pytest.raises(KeyboardInterrupt):
        finetune(encoder, task, tmp_path / "o", training=SHORT, progress=False)
    monkeypatch.undo()
    assert (tmp_path / ".o.work" / "identity.json").is_file()
    assert not (tmp_path / "o").exists()
    (tmp_path / ".o.work" / "left").touch()
    other = dataclasses.replace(SHORT, learning_rate=1e-3)
    finetune(encoder, task, tmp_path / "o", training=other, progress=False)
    rows = list(csv.DictReader((tmp_path / "o" / "train_log.csv").open()))
    assert [int(row["step"]) for row in rows] == [1, 2, 3, 4]


def interrupted(monkeypatch, *arguments, **options):
    """Fine-tune until the third of four steps has begun, with a checkpoint of each step."""
    training_step = Trainer.training_step

    def killed(self, *args, **kwargs):
        if self.state.global_step == 2:
            raise KeyboardInterrupt
        return training_step(self, *args, **kwargs)

    monkeypatch.setattr(Trainer, "training_step", killed)
    with pytest.raises(KeyboardInterrupt):
        finetune(*arguments, **options, training=EACH_STEP, progress=False)
    monkeypatch.undo()


@pytest.fixture
def rows(tmp_path):
    """Rows with two columns of texts, in which the label can be seen."""
    lines = [
        {"text": f"{other} {word}", "other": f"{word} {other}", "label": label}
        for words, label in ((GOOD, "good"), (BAD, "bad"))
        for word in words
        for other in OTHER
    ]
    (tmp_path / "data").mkdir()
    for split in ("train", "dev"):
        (tmp_path / "data" / f"{split}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return tmp_path / "data"


def test_an_interrupted_stage_goes_on_with_the_same_data_wherever_they_lie(
    encoder, rows, tmp_path, monkeypatch, caplog
):
    interrupted(monkeypatch, encoder, load_task("text", rows), tmp_path / "o")
    moved = rows.rename(tmp_path / "moved")
    caplog.clear()
    finetune(encoder, load_task("text", moved), tmp_path / "o", training=EACH_STEP, progress=False)
    assert "finetune: going on from step 2 of 4" in caplog.messages
    assert not [message for message in caplog.messages if "thrown away" in message]


@pytest.mark.parametrize("changed", ["a row", "the column of the text", "rows held out"])
def test_an_interrupted_stage_begins_anew_with_other_data(
    changed, encoder, rows, tmp_path, monkeypatch, caplog
):
    interrupted(monkeypatch, encoder, load_task("text", rows), tmp_path / "o")
    if changed == "a row":
        train = rows / "train.jsonl"
        train.write_text(train.read_text().replace("film warm", "plot warm", 1))
    told = {
        "a row": {},
        "the column of the text": {"text_columns": ("other",)},
        "rows held out": {"tune": 4},
    }
    task = load_task("text", rows, **told[changed])
    caplog.clear()
    finetune(encoder, task, tmp_path / "o", training=EACH_STEP, progress=False)
    assert began_anew(caplog, "the data")


def test_an_interrupted_stage_begins_anew_with_another_model_in_the_same_folder(
    encoder, task, tmp_path, monkeypatch, caplog
):
    model = tmp_path / "model"
    shutil.copytree(encoder, model)
    interrupted(monkeypatch, model, task, tmp_path / "o")
    weights = load_file(model / "model.safetensors")
    save_file({name: weight * 0.5 for name, weight in weights.items()}, model / "model.safetensors")
    caplog.clear()
    finetune(model, task, tmp_path / "o", training=EACH_STEP, progress=False)
    assert began_anew(caplog, "the model")


def test_an_interrupted_stage_begins_anew_with_another_teacher_in_the_same_folder(
    encoder, dense, task, tmp_path, monkeypatch, caplog
):
    teacher = tmp_path / "teacher"
    shutil.copytree(dense, teacher)
    taught = Distillation(teacher=str(teacher))
    interrupted(monkeypatch, encoder, task, tmp_path / "o", distillation=taught)
    weights = load_file(teacher / "model.safetensors")
    save_file({name: weight * 0.5 for name, weight in weights.items()}, teacher / "model.safetensors")
    caplog.clear()
    finetune(encoder, task, tmp_path / "o", training=EACH_STEP, distillation=taught, progress=False)
    assert began_anew(caplog, "files that the options name")


def began_anew(caplog, what):
    """Whether a stage threw the work of another run away, said in what the two differ, and did not go on."""
    (said,) = [message for message in caplog.messages if "thrown away" in message]
    went_on = [message for message in caplog.messages if "going on" in message]
    return not went_on and said.endswith(f"the runs differ in {what}")


def interrupt(*_, **__):
    raise KeyboardInterrupt
