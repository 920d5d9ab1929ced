from __future__ import annotations

import json
import pickle
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from obert_edge.errors import CheckpointError
from obert_edge.host.stages.models import load_model, read_config


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
