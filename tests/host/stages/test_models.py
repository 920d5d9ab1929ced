from __future__ import annotations

import json
import pickle
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from obert_edge.errors import CheckpointError
from obert_edge.host.data import load_task
from obert_edge.host.stages.models import check_head, load_model, read_config
from tests.answers.models import labeled, make_model, save_wordpiece


class Evil:
    def __reduce__(self):
        return (print, ("code from a checkpoint ran",))


@pytest.fixture
def copy(encoder, tmp_path):
    shutil.copytree(encoder, tmp_path / "copy")
    return tmp_path / "copy"


def test_a_bare_encoder_gets_a_head_that_depends_only_on_the_seed(encoder, task):
    one, same, other = (load_model(encoder, task, seed=seed, new_head=True) for seed in (1, 1, 2))
    assert torch.equal(one.classifier.weight, same.classifier.weight)
    assert not torch.equal(one.classifier.weight, other.classifier.weight)
    assert one.config.num_labels == 2


def test_an_encoder_with_missing_weights_is_not_filled_with_random_ones(copy, task):
    weights = load_file(copy / "model.safetensors")
    del weights["encoder.layer.1.output.dense.weight"]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="lacks 1 weights .*layer.1.output.dense.weight"):
        load_model(copy, task, new_head=True)


def test_code_in_a_pickled_checkpoint_does_not_run(copy, task, capsys):
    (copy / "model.safetensors").unlink()
    (copy / "pytorch_model.bin").write_bytes(pickle.dumps({"embeddings.word_embeddings.weight": Evil()}))
    with pytest.raises(CheckpointError, match="more than tensors"):
        load_model(copy, task, new_head=True)
    assert "code from a checkpoint ran" not in capsys.readouterr().out


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_config_that_is_no_object_is_refused(copy, content):
    (copy / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match="JSON|not an object"):
        read_config(copy)


def test_an_unknown_architecture_is_refused(copy, task):
    (copy / "config.json").write_text(json.dumps({"model_type": "no_such_model"}))
    with pytest.raises(CheckpointError, match="is a 'no_such_model' model; supported are bert"):
        load_model(copy, task, new_head=True)


def test_a_head_with_its_labels_in_another_order_is_put_in_the_tasks_order(dense, task, tmp_path):
    shutil.copytree(dense, tmp_path / "swapped")
    weights = load_file(dense / "model.safetensors")
    swapped = {
        key: value.flip(0).contiguous() if key.startswith("classifier") else value
        for key, value in weights.items()
    }
    save_file(swapped, tmp_path / "swapped" / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((dense / "config.json").read_text())
    config["id2label"] = {"0": "Good", "1": "Bad"}
    (tmp_path / "swapped" / "config.json").write_text(json.dumps(config))
    model, expected = load_model(tmp_path / "swapped", task), load_model(dense, task)
    assert torch.equal(model.classifier.weight, expected.classifier.weight)
    assert torch.equal(model.classifier.bias, expected.classifier.bias)
    assert model.config.id2label == {0: "Bad", 1: "Good"}


HEADS = {
    "encoder": "BertModel",
    "classes": "BertForSequenceClassification",
    "number": "BertForSequenceClassification",
    "several": "BertForSequenceClassification",
    "tokens": "BertForTokenClassification",
    "spans": "BertForQuestionAnswering",
    "mlm": "BertForMaskedLM",
}
NAMES = {"classes": ("good", "bad"), "number": ("label",), "several": ("good", "bad"), "tokens": ("O", "PER")}
PROBLEMS = {
    "classes": "single_label_classification",
    "number": "regression",
    "several": "multi_label_classification",
}


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    """A model folder of each kind of head."""
    made = {}
    for kind, class_name in HEADS.items():
        made[kind] = tmp_path_factory.mktemp(kind)
        options = labeled(NAMES[kind]) if kind in NAMES else {}
        size = save_wordpiece(made[kind])
        make_model(class_name, size, problem_type=PROBLEMS.get(kind), **options).save_pretrained(made[kind])
    return made


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """A task for each kind of head."""
    folder = tmp_path_factory.mktemp("tasks")
    rows = {"classes": ["bad", "good"], "number": [0.5, 1.5], "several": [["bad"], ["bad", "good"]]}
    made = {}
    for kind, labels in rows.items():
        (folder / kind).mkdir()
        lines = [json.dumps({"text": "a film", "label": label}) for label in labels]
        (folder / kind / "dev.jsonl").write_text("\n".join(lines))
        made[kind] = load_task("text", folder / kind)
    (folder / "words").mkdir()
    (folder / "words" / "dev.conll").write_text("john PER\nlives O\n")
    (folder / "train.txt").write_text("a film\n")
    answer = {"text": "a", "answer_start": 0}
    question = {"id": "1", "question": "what", "answers": [answer]}
    document = {"title": "t", "paragraphs": [{"context": "a film", "qas": [question]}]}
    (folder / "dev-v1.1.json").write_text(json.dumps({"data": [document]}))
    made.update(tokens=load_task("tokens", folder / "words"), mlm=load_task("mlm", folder))
    made["spans"] = load_task("squad", folder)
    return made


def test_every_task_fits_its_own_head_and_no_other(heads, tasks):
    for kind, folder in heads.items():
        for name, task in tasks.items():
            if kind == name:
                fitted = check_head(folder, read_config(folder), task)
                assert fitted.classes == NAMES.get(kind, ())
                continue
            with pytest.raises(CheckpointError, match=str(folder)) as error:
                check_head(folder, read_config(folder), task)
            assert error.value.hint
            with pytest.raises(CheckpointError):
                load_model(folder, task)


def test_a_head_is_new_only_where_that_was_asked_for_and_it_is_said(heads, tasks, caplog):
    for kind in ("encoder", "mlm", "spans"):
        folder = heads[kind]
        assert check_head(folder, read_config(folder), tasks["classes"], new_head=True).fitted
        assert f"{folder} is a {HEADS[kind]}: it gets a new sequence-classification head" in caplog.text
        caplog.clear()
    model = load_model(heads["mlm"], tasks["several"], new_head=True)
    assert model.config.id2label == {0: "bad", 1: "good"}
    assert model.config.problem_type == "multi_label_classification"
    # A head of other labels is not thrown away.
    with pytest.raises(CheckpointError, match="regression"):
        check_head(heads["number"], {**read_config(heads["number"])}, tasks["classes"], new_head=True)


def test_the_discriminator_of_electra_is_no_masked_language_model(tasks):
    with pytest.raises(CheckpointError, match="is a ElectraForPreTraining and has no masked-lm head"):
        check_head("e", {"model_type": "electra", "architectures": ["ElectraForPreTraining"]}, tasks["mlm"])


def test_a_head_that_config_json_has_and_the_weights_have_not_is_refused(dense, task, tmp_path):
    shutil.copytree(dense, tmp_path / "cut")
    weights = load_file(dense / "model.safetensors")
    kept = {key: value for key, value in weights.items() if not key.startswith("classifier")}
    save_file(kept, tmp_path / "cut" / "model.safetensors", metadata={"format": "pt"})
    for new_head in (False, True):
        with pytest.raises(
            CheckpointError, match="lacks 2 weights of the head, the first is classifier.bias"
        ):
            load_model(tmp_path / "cut", task, new_head=new_head)


def test_a_model_that_does_not_say_what_its_labels_are_is_taken_as_the_data_are(heads, tasks, caplog):
    config = {key: value for key, value in read_config(heads["several"]).items() if key != "problem_type"}
    check_head(heads["several"], config, tasks["classes"])
    assert caplog.text == ""
    check_head(heads["several"], config, tasks["several"])
    assert "taken as multi_label, as the data are" in caplog.text
    with pytest.raises(CheckpointError, match="single-label classification with 2 outputs .* for regression"):
        check_head(heads["several"], config, tasks["number"])


@pytest.mark.parametrize(
    ("kind", "data", "way_out"),
    [
        ("several", "classes", "--problem-type multi_label"),
        ("classes", "number", "--problem-type single_label"),
        ("spans", "classes", "--task squad"),
        ("classes", "spans", "--task text"),
        ("encoder", "classes", "obert-edge finetune"),
        ("encoder", "mlm", "BertForMaskedLM"),
    ],
)
def test_the_way_out_of_a_head_that_does_not_fit_is_named(heads, tasks, kind, data, way_out):
    with pytest.raises(CheckpointError) as error:
        check_head(heads[kind], read_config(heads[kind]), tasks[data])
    assert way_out in error.value.hint


def test_classes_that_the_data_lack_stay_behind_those_that_they_have(encoder, data, tmp_path):
    size = save_wordpiece(tmp_path)
    names = ("mixed", "GOOD", "bad")
    model = make_model("BertForSequenceClassification", size, **labeled(names))
    model.save_pretrained(tmp_path)
    task = load_task("text", data)
    fitted = check_head(tmp_path, read_config(tmp_path), task)
    assert fitted.classes == ("mixed", "good", "bad")
    kept = load_model(tmp_path, fitted)
    assert torch.equal(kept.classifier.weight, model.classifier.weight)
    assert kept.config.id2label == dict(enumerate(names))
    ordered = load_model(tmp_path, task)
    assert torch.equal(ordered.classifier.bias, model.classifier.bias[[2, 1, 0]])
    assert ordered.config.id2label == {0: "bad", 1: "GOOD", 2: "mixed"}


def test_made_up_names_give_way_to_those_that_were_said(tmp_path, data, caplog):
    size = save_wordpiece(tmp_path)
    make_model("BertForSequenceClassification", size).save_pretrained(tmp_path)
    task = load_task("text", data)
    assert load_model(tmp_path, task).config.id2label == {0: "bad", 1: "good"}
    assert "LABEL_0 is bad, LABEL_1 is good" in caplog.text
    turned = load_task("text", data, label_map=["0=good", "1=bad"])
    fitted = check_head(tmp_path, read_config(tmp_path), turned)
    assert load_model(tmp_path, fitted).config.id2label == {0: "good", 1: "bad"}


def test_a_model_whose_classes_are_merged_by_the_map_is_scored_and_not_trained(tmp_path, data):
    size = save_wordpiece(tmp_path)
    names = labeled(["good", "bad", "awful"])
    make_model("BertForSequenceClassification", size, **names).save_pretrained(tmp_path)
    task, config = load_task("text", data, label_map=["awful=bad"]), read_config(tmp_path)
    assert check_head(tmp_path, config, task, training=False).classes == ("good", "bad", "bad")
    with pytest.raises(CheckpointError, match="are bad of the data: such a model can be scored"):
        check_head(tmp_path, config, task)
