"""Classification heads of every kind beside transformers' pipeline: folders, quantized ones and bundles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
import torch
import transformers

from obert_edge import load
from obert_edge.host.compiler.build import build
from obert_edge.host.data import load_task
from obert_edge.host.stages import evaluate, quantize
from obert_edge.host.stages.settings import Quantization
from tests.answers.models import WORDS, labeled, make_model, save_wordpiece

_CHANCE = np.random.default_rng(0)
TEXTS = [" ".join(_CHANCE.choice(WORDS.split()[:60], size=_CHANCE.integers(3, 14))) for _ in range(48)]
PAIRS = [(text, other) for text, other in zip(TEXTS, TEXTS[7:] + TEXTS[:7])]
#: INT8 answers are compared where the float model is this sure, in probability.
SURE = 0.2

#: The names of the data, and the same three classes as a model names them by row.
DATA = ("bad", "not good", "superb")
NAMED = {
    "the same names": (("bad", "not good", "superb"), ()),
    "another order": (("superb", "bad", "not good"), ()),
    "another case": (("SUPERB", "Not_Good", "BAD"), ()),
    "no names": (("LABEL_0", "LABEL_1", "LABEL_2"), ()),
    "other names": (("up", "down", "mid"), ("up=superb", "down=bad", "mid=not good")),
}


def meaning(names, label_map):
    """The data's label of each row."""
    said = dict(entry.split("=") for entry in label_map)
    if names[0] == "LABEL_0":
        return DATA
    return tuple(said.get(name, name.lower().replace("_", " ")) for name in names)


def save(
    folder: Path, texts: List[Any], class_name: str = "BertForSequenceClassification", **options: Any
) -> Path:
    """A model with a tokenizer, whose head is so scaled that it tells ``texts`` apart."""
    folder.mkdir()
    vocabulary = save_wordpiece(folder)
    model = make_model(class_name, vocabulary, **options)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    head = getattr(model.classifier, "out_proj", model.classifier)
    with torch.no_grad():
        inputs = tokenizer([*texts], padding=True, return_tensors="pt")
        accepted = {key: inputs[key] for key in ("input_ids", "attention_mask")}
        if "token_type_ids" in inputs and class_name.startswith(("Bert", "Electra")):
            accepted["token_type_ids"] = inputs["token_type_ids"]
        logits = model(**accepted).logits
        head.weight.div_(logits.std(dim=0)[:, None])
        head.bias.copy_((head.bias - logits.mean(dim=0)) / logits.std(dim=0))
    model.save_pretrained(folder)
    return folder


def pipeline_scores(folder: Path, texts: List[Any], function: str) -> List[Dict[str, float]]:
    """The score of each class of the model, by its own name, of each text or pair."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    answer = transformers.pipeline("text-classification", model=model, tokenizer=tokenizer, device="cpu")
    inputs = [text if isinstance(text, str) else {"text": text[0], "text_pair": text[1]} for text in texts]
    found = [answer(one, top_k=None, function_to_apply=function) for one in inputs]
    return [{entry["label"]: entry["score"] for entry in one} for one in found]


def write(folder: Path, texts: List[Any], labels: List[Any]) -> Path:
    """A data set of one text column, or of two."""
    folder.mkdir(exist_ok=True)
    for split in ("train", "dev"):
        with (folder / f"{split}.jsonl").open("w") as stream:
            for text, label in zip(texts, labels):
                columns = {"text": text} if isinstance(text, str) else {"text": text[0], "other": text[1]}
                stream.write(json.dumps({**columns, "label": label}) + "\n")
    return folder


def predicted(model: Path, task: Any, folder: Path, **options: Any) -> List[Any]:
    evaluate(model, task, predictions=folder / "predictions.jsonl", **options)
    lines = (folder / "predictions.jsonl").read_text().splitlines()
    return [json.loads(line)["prediction"] for line in lines]


def quantized(folder: Path, task: Any, output: Path) -> Path:
    settings = Quantization(method="calibrate", calibration_examples=32)
    quantize(folder, task, output, quantization=settings, progress=False)
    return output


@pytest.mark.parametrize("named", NAMED)
@pytest.mark.parametrize("texts", [TEXTS, PAIRS], ids=["texts", "pairs"])
def test_one_label_is_the_pipelines_from_folder_quantized_folder_and_bundle(tmp_path, named, texts):
    names, label_map = NAMED[named]
    folder = save(tmp_path / "model", texts, **labeled(names), problem_type="single_label_classification")
    means = dict(zip(names, meaning(names, label_map)))
    scores = pipeline_scores(folder, texts, "softmax")
    expected = [means[max(one, key=lambda name: one[name])] for one in scores]
    assert len(set(expected)) == 3, "the model must tell the texts apart"

    # Truth is what the float model answers, except for every fourth row.
    wrong = {row: DATA[(DATA.index(label) + 1) % 3] for row, label in enumerate(expected) if row % 4 == 0}
    data = write(tmp_path / "data", texts, [wrong.get(row, label) for row, label in enumerate(expected)])
    columns = ("text",) if isinstance(texts[0], str) else ("text", "other")
    task = load_task("text", data, text_columns=columns, label_map=label_map)
    assert predicted(folder, task, tmp_path) == expected
    assert evaluate(folder, task).metrics["accuracy"] == pytest.approx(100 * (1 - len(wrong) / len(texts)))

    small = quantized(folder, task, tmp_path / "quantized")
    assert json.loads((small / "config.json").read_text())["id2label"] == {
        str(row): name
        for row, name in enumerate(names)  # nothing was learned from labels
    }
    bundle = build(small, "x86", tmp_path / "model.oeb")
    top = [sorted(one.values()) for one in scores]
    sure = [row for row, values in enumerate(top) if values[-1] - values[-2] > SURE]
    assert len(sure) > len(texts) / 2
    for model in (small, bundle):
        found = predicted(model, task, tmp_path)
        assert [found[row] for row in sure] == [expected[row] for row in sure]
        assert evaluate(model, task, against=folder).agreement == pytest.approx(
            100 * np.mean([ours == theirs for ours, theirs in zip(found, expected)])
        )
    with load(bundle) as session:
        found = [session.predict(texts[row]).label for row in sure]
    assert [means.get(label, label) for label in found] == [expected[row] for row in sure]


def test_several_labels_are_the_pipelines_from_folder_quantized_folder_and_bundle(tmp_path):
    names = ("Toxic", "spam", "INSULT", "praise")
    folder = save(tmp_path / "model", TEXTS, **labeled(names), problem_type="multi_label_classification")
    scores = pipeline_scores(folder, TEXTS, "sigmoid")
    expected = [sorted(name.lower() for name, score in one.items() if score >= 0.5) for one in scores]
    assert len({tuple(labels) for labels in expected}) > 3
    task = load_task("text", write(tmp_path / "data", TEXTS, expected))
    assert set(task.labels) <= {name.lower() for name in names}
    found = predicted(folder, task, tmp_path)
    assert [sorted(name.lower() for name in labels) for labels in found] == expected
    assert evaluate(folder, task).metrics == {"micro_f1": 100.0, "macro_f1": 100.0, "subset_accuracy": 100.0}

    small = quantized(folder, task, tmp_path / "quantized")
    bundle = build(small, "x86", tmp_path / "model.oeb")
    sure = [
        (row, name.lower(), score >= 0.5)
        for row, one in enumerate(scores)
        for name, score in one.items()
        if abs(score - 0.5) > SURE
    ]
    assert len(sure) > len(TEXTS) * len(names) / 3
    with load(bundle) as session:
        answers = [session.predict(text).labels for text in TEXTS]
    for found in (predicted(small, task, tmp_path), predicted(bundle, task, tmp_path), answers):
        chosen = [{name.lower() for name in labels} for labels in found]
        assert [(row, name, name in chosen[row]) for row, name, _ in sure] == sure


def test_a_number_is_the_pipelines_from_folder_quantized_folder_and_bundle(tmp_path):
    folder = save(tmp_path / "model", PAIRS, **labeled(["LABEL_0"]), problem_type="regression")
    expected = [one["LABEL_0"] for one in pipeline_scores(folder, PAIRS, "none")]
    spread = max(expected) - min(expected)
    assert spread > 0.5
    data = write(tmp_path / "data", PAIRS, [2 * value + 0.125 for value in expected])
    task = load_task("text", data, text_columns=("text", "other"))
    assert predicted(folder, task, tmp_path) == pytest.approx(expected, abs=1e-4)
    assert evaluate(folder, task).metrics["pearson"] == pytest.approx(100.0, abs=1e-3)
    small = quantized(folder, task, tmp_path / "quantized")
    for model in (small, build(small, "x86", tmp_path / "model.oeb", min_cosine=0.5)):
        assert predicted(model, task, tmp_path) == pytest.approx(expected, abs=0.15 * spread)
        assert evaluate(model, task).metrics["pearson"] > 97


@pytest.mark.parametrize("class_name", ["Roberta", "DistilBert", "Electra"])
def test_the_head_of_every_architecture_keeps_its_classes(tmp_path, class_name):
    names = ("superb", "bad", "not good")
    extra = {"embedding_size": 64} if class_name == "Electra" else {}
    folder = save(
        tmp_path / "model", TEXTS, f"{class_name}ForSequenceClassification", **labeled(names), **extra
    )
    scores = pipeline_scores(folder, TEXTS, "softmax")
    expected = [max(one, key=lambda name: one[name]) for one in scores]
    task = load_task("text", write(tmp_path / "data", TEXTS, expected), labels=DATA)
    assert predicted(folder, task, tmp_path) == expected


def test_a_teacher_with_its_classes_in_another_order_teaches_by_name(tmp_path):
    from obert_edge.host.pruning.settings import Distillation
    from obert_edge.host.stages.models import check_head, load_model, read_config
    from obert_edge.host.stages.training import make_distillation

    student = save(tmp_path / "student", TEXTS, **labeled(DATA))
    teacher = tmp_path / "teacher"
    teacher.mkdir()
    model = transformers.BertForSequenceClassification.from_pretrained(student)
    turned = [2, 0, 1]
    with torch.no_grad():
        model.classifier.weight.copy_(model.classifier.weight[turned].clone())
        model.classifier.bias.copy_(model.classifier.bias[turned].clone())
    model.config.id2label = {row: DATA[old].upper() for row, old in enumerate(turned)}
    model.config.label2id = {name: row for row, name in model.config.id2label.items()}
    save_wordpiece(teacher)
    model.save_pretrained(teacher)
    task = load_task("text", write(tmp_path / "data", TEXTS, [DATA[row % 3] for row in range(len(TEXTS))]))
    fitted = check_head(student, read_config(student), task)
    distillation = make_distillation(Distillation(teacher=str(teacher)), student, fitted)
    assert distillation is not None
    ids = torch.arange(5, 25).reshape(2, 10)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    loss, _ = distillation(load_model(student, fitted), batch)
    assert float(loss.detach()) == pytest.approx(0.0, abs=1e-6)
