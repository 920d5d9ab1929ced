from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from obert_edge.errors import CheckpointError, UsageError, VerificationError
from obert_edge.host.compiler.build import build
from obert_edge.host.data import load_task
from obert_edge.host.stages import drop_layers, finetune, prune, quantize
from obert_edge.host.stages.evaluation import agreement, check_agreement, evaluate, require_agreement
from obert_edge.host.stages.reports import Score
from obert_edge.host.stages.settings import Quantization, Training
from tests.answers.models import WORDS, labeled, make_model, save_wordpiece
from tests.host.stages.conftest import FAST


def test_agreement_is_the_share_of_equal_predictions():
    ours = [("1", "good"), ("2", "bad"), ("3", "bad"), ("4", "good")]
    theirs = [("4", "good"), ("3", "bad"), ("2", "good")]
    assert agreement(ours, theirs) == 50.0


def test_numbers_agree_within_a_thousandth():
    assert agreement([("1", 0.5), ("2", 0.5)], [("1", 0.5004), ("2", 0.52)]) == 50.0


def test_an_agreement_below_the_bound_fails_the_check():
    result = Score("a", "float", "text", "dev", 10, "accuracy", {}, against="b", agreement=99.0)
    require_agreement(result, 99.0)
    with pytest.raises(VerificationError, match=r"agree on 99.00 % of 10 .* 99.5 %") as error:
        require_agreement(result, 99.5)
    assert error.value.exit_code == 1
    with pytest.raises(UsageError, match="two models"):
        require_agreement(Score("a", "float", "text", "dev", 10, "accuracy", {}), 99.5)


def test_the_advice_at_a_low_agreement_fits_what_was_compared(dense, task, models, tmp_path):
    """A bundle should answer as its own folder does; a pruned model need not answer as its dense one."""
    pruned = tmp_path / "pruned"
    prune(dense, task, pruned, sparsity=0.5, method="magnitude", training=Training(epochs=0), progress=False)
    of_pruned = build(pruned, "x86", tmp_path / "pruned.oeb")

    def advice(model, against, kind):
        score = Score(
            str(model), kind, "text", "dev", 10, "accuracy", {}, against=str(against), agreement=90.0
        )
        with pytest.raises(VerificationError) as error:
            require_agreement(score, 99.0)
        return error.value.hint

    for model, against in ((models["bundle"], models["fake-quant"]), (of_pruned, pruned)):
        assert advice(model, against, "bundle").startswith("rebuild the bundle from this very folder")
    for model, against, kind in (
        (pruned, dense, "float"),
        (of_pruned, dense, "bundle"),
        (of_pruned, models["bundle"], "bundle"),
    ):
        assert "prune less, train longer, or lower --min-agreement" in advice(model, against, kind)


def test_a_model_agrees_with_itself_and_the_first_rows_can_be_scored_alone(dense, task):
    result = evaluate(dense, task, limit=10, against=dense)
    assert (result.n, result.agreement, result.kind) == (10, 100.0, "float")


def test_a_path_that_is_nothing_is_refused(task, tmp_path):
    with pytest.raises(CheckpointError, match="there is no model folder or bundle .*nowhere"):
        evaluate(tmp_path / "nowhere", task)
    with pytest.raises(CheckpointError, match="bert-base-uncased") as caught:
        evaluate("bert-base-uncased", task)
    assert "written owner/model" in caught.value.hint


QUESTION = {"id": "1", "question": "what", "answers": [{"text": "a", "answer_start": 0}]}
DOCUMENT = {"title": "t", "paragraphs": [{"context": "a film", "qas": [QUESTION]}]}


def variant(dense, folder, names, *, turned=True):
    """A copy of a folder of two classes with other names, and with its rows turned round."""
    shutil.copytree(dense, folder)
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = {str(row): name for row, name in enumerate(names)}
    config["label2id"] = {name: row for row, name in enumerate(names)}
    (folder / "config.json").write_text(json.dumps(config))
    if turned:
        weights = {
            key: value.flip(0).contiguous() if key.startswith("classifier") else value
            for key, value in load_file(folder / "model.safetensors").items()
        }
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def models(dense, task, tmp_path_factory):
    """The dense model as a folder, a quantized folder and a bundle, with its classes turned round."""
    folder = tmp_path_factory.mktemp("models")
    made = {"float": variant(dense, folder / "float", ("GOOD", "Bad")), "fake-quant": folder / "quantized"}
    calibrated = Quantization(method="calibrate", calibration_examples=32)
    quantize(made["float"], task, made["fake-quant"], quantization=calibrated, progress=False)
    made["bundle"] = build(made["fake-quant"], "x86", folder / "model.oeb")
    return made


@pytest.mark.parametrize("kind", ["float", "fake-quant", "bundle"])
def test_labels_are_compared_by_name_on_every_path(models, dense, task, kind):
    expected = evaluate(dense, task).metrics["accuracy"]
    assert expected > 90
    result = evaluate(models[kind], task, against=dense)
    assert result.kind == kind
    assert result.metrics["accuracy"] == pytest.approx(expected, abs=2)
    assert result.agreement is not None
    assert result.agreement > 97


@pytest.mark.parametrize("kind", ["float", "fake-quant", "bundle"])
def test_classes_that_cannot_be_matched_are_refused_on_every_path(models, tmp_path, kind):
    (tmp_path / "dev.csv").write_text("text,label\nwarm film,positive\ndull film,negative\n")
    task = load_task("text", tmp_path)
    with pytest.raises(
        CheckpointError, match=r"labels \(GOOD, Bad\); task 'text' has 2 \(negative, positive\)"
    ):
        evaluate(models[kind], task)
    mapped = load_task("text", tmp_path, label_map=["GOOD=positive", "1=negative"])
    assert evaluate(models[kind], mapped).metrics["accuracy"] == 100.0


@pytest.mark.parametrize("kind", ["float", "fake-quant", "bundle"])
def test_a_dev_set_that_lacks_a_class_can_be_scored(models, tmp_path, kind):
    (tmp_path / "dev.csv").write_text("text,label\nwarm film,good\nbright film,good\n")
    assert evaluate(models[kind], load_task("text", tmp_path)).metrics["accuracy"] == 100.0


@pytest.mark.parametrize("kind", ["float", "fake-quant", "bundle"])
@pytest.mark.parametrize("name", ["squad", "tokens", "mlm", "stsb", "mnli", "several labels"])
def test_a_task_of_another_head_is_refused_before_a_row_is_read(models, tmp_path, monkeypatch, kind, name):
    files = {
        "squad": ("dev-v1.1.json", json.dumps({"data": [DOCUMENT]})),
        "tokens": ("dev.conll", "film O\n"),
        "mlm": ("train.txt", "a film\n"),
        "stsb": ("dev.tsv", "sentence1\tsentence2\tscore\na\tb\t1.5\n"),
        "mnli": ("dev_matched.tsv", "sentence1\tsentence2\tgold_label\na\tb\tneutral\n"),
        "several labels": ("dev.jsonl", json.dumps({"text": "a", "label": ["good", "bad"]})),
    }
    file, content = files[name]
    (tmp_path / file).write_text(content)
    task = load_task("text" if name == "several labels" else name, tmp_path)
    monkeypatch.setattr(type(task), "features", None)
    with pytest.raises(CheckpointError, match=str(models[kind])) as error:
        evaluate(models[kind], task)
    assert error.value.hint


def test_the_other_model_is_refused_before_the_first_one_works(models, encoder, task, monkeypatch):
    monkeypatch.setattr(type(task), "features", None)
    with pytest.raises(CheckpointError, match="is a BertModel and has no sequence-classification head"):
        evaluate(models["float"], task, against=encoder)


@pytest.mark.parametrize("option", ["batch_size", "limit", "threads"])
def test_a_count_below_one_is_refused(dense, task, option):
    with pytest.raises(UsageError, match=f"{option} is 0"):
        evaluate(dense, task, **{option: 0})


def test_training_keeps_the_models_own_names_and_order(models, task, tmp_path):
    training = Training(epochs=0)
    prune(models["float"], task, tmp_path / "pruned", sparsity=0.3, training=training, progress=False)
    config = json.loads((tmp_path / "pruned" / "config.json").read_text())
    assert config["id2label"] == {"0": "GOOD", "1": "Bad"}
    assert evaluate(tmp_path / "pruned", task).metrics["accuracy"] > 80
    tuned = dataclasses.replace(FAST, max_steps=5, learning_rate=1e-4)
    finetune(models["float"], task, tmp_path / "tuned", training=tuned, progress=False)
    assert json.loads((tmp_path / "tuned" / "config.json").read_text())["id2label"] == config["id2label"]
    assert evaluate(tmp_path / "tuned", task).metrics["accuracy"] > 90


@pytest.mark.parametrize("name", ["text", "mlm", "stsb"])
def test_no_stage_judges_or_calibrates_with_a_random_head(encoder, data, tmp_path, monkeypatch, name):
    (tmp_path / "train.txt").write_text("warm film\n" * 9)
    (tmp_path / "train.tsv").write_text("sentence1\tsentence2\tscore\na\tb\t1.5\n")
    task = load_task(name, data if name == "text" else tmp_path)
    monkeypatch.setattr(type(task), "features", None)
    once = {"training": Training(epochs=0), "progress": False}
    for stage in (
        lambda output: prune(encoder, task, output, **once),
        lambda output: quantize(encoder, task, output, training=FAST, progress=False),
        lambda output: drop_layers(encoder, task, output, keep=[0], training=FAST, progress=False),
        lambda output: evaluate(encoder, task),
    ):
        with pytest.raises(CheckpointError, match=f"is a BertModel and has no {task.head} head"):
            stage(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_labels_of_words_are_compared_by_name_on_every_path(tmp_path):
    names, turned = ("O", "B-PER", "I-PER", "MISC"), [2, 0, 3, 1]
    words = np.random.default_rng(0).choice(WORDS.split()[:60], 40)
    straight, other, data = (tmp_path / name for name in ("straight", "other", "data"))
    for folder in (straight, other, data):
        folder.mkdir()
    model = make_model("BertForTokenClassification", save_wordpiece(straight), **labeled(names))
    model.save_pretrained(straight)
    save_wordpiece(other)
    with torch.no_grad():
        model.classifier.weight.copy_(model.classifier.weight[turned].clone())
        model.classifier.bias.copy_(model.classifier.bias[turned].clone())
    model.config.update(labeled([names[row].lower().replace("-", "_") for row in turned]))
    model.save_pretrained(other)

    # What the one answers becomes the truth for both.
    (data / "dev.conll").write_text("\n".join(f"{word} {names[row % 4]}" for row, word in enumerate(words)))
    evaluate(straight, load_task("tokens", data), predictions=tmp_path / "answers.jsonl")
    found = json.loads((tmp_path / "answers.jsonl").read_text())["prediction"]
    assert len(set(found)) > 1
    (data / "dev.conll").write_text("\n".join(map(" ".join, zip(words, found))))
    task = load_task("tokens", data)
    bundles = []
    for folder in (straight, other):
        assert evaluate(folder, task).metrics["accuracy"] == 100.0
        texts = [" ".join(words[at : at + 10]) for at in range(0, 40, 10)]
        bundles.append(build(folder, "x86", tmp_path / f"{folder.name}.oeb", calibration=texts))
    one, two = (evaluate(bundle, task, against=straight) for bundle in bundles)
    assert one.metrics == two.metrics
    assert one.metrics["accuracy"] > 80
    assert one.agreement == two.agreement


def test_predictions_take_the_place_of_predictions_alone(dense, task, data, tmp_path):
    kept = tmp_path / "dev.jsonl"
    shutil.copyfile(data / "dev.jsonl", kept)
    for path in (kept, dense / "config.json"):
        before = path.read_bytes()
        with pytest.raises(UsageError, match="holds no predictions: it would be lost"):
            evaluate(dense, task, limit=4, predictions=path)
        assert path.read_bytes() == before
    for limit in (4, 2):
        evaluate(dense, task, limit=limit, predictions=tmp_path / "answers.jsonl")
    assert len((tmp_path / "answers.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize("percent", [-1.0, 150.0, float("nan")])
def test_an_agreement_is_a_percentage(percent):
    with pytest.raises(UsageError, match="expected a percentage from 0 to 100"):
        check_agreement(percent, "other")


def test_a_checkpoint_of_pretraining_is_scored_by_its_masked_lm_head_on_every_path(tmp_path):
    source = tmp_path / "pretrained"
    source.mkdir()
    make_model("BertForPreTraining", save_wordpiece(source)).save_pretrained(source)
    (tmp_path / "train.txt").write_text("the film was great\nmy car is in paris\n" * 8)
    (tmp_path / "dev.txt").write_text("a superb meal in the city\n" * 4)
    task = load_task("mlm", tmp_path)
    quantized = tmp_path / "quantized"
    quantize(
        source, task, quantized, quantization=Quantization(method="calibrate"), training=FAST, progress=False
    )
    bundle = build(quantized, "x86", tmp_path / "model.oeb")
    scores = [evaluate(model, task, against=source) for model in (source, quantized, bundle)]
    assert [score.kind for score in scores] == ["float", "fake-quant", "bundle"]
    assert scores[1].metrics == pytest.approx(scores[2].metrics, rel=1e-3)
    assert scores[1].metrics["perplexity"] == pytest.approx(scores[0].metrics["perplexity"], rel=0.1)
