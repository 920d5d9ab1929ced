"""A model folder is read whole or refused with a reason; nothing in it is executed."""

from __future__ import annotations

import json
import logging
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch

from obert_edge.errors import CheckpointError
from obert_edge.host.checkpoints.checkpoint import Checkpoint
from obert_edge.host.checkpoints.model_config import read_config
from obert_edge.host.checkpoints.pytorch import load_pytorch
from obert_edge.host.compiler.importer import import_graph
from tests.host.checkpoints.published_checkpoints import make_published_model, save_published_model
from tests.host.compiler.tiny_checkpoints import make_model, save_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(tmp_path, "bert", "sequence-classification", layers=1)
    return tmp_path


def as_pickle(folder: Path, content: object = None) -> Path:
    state = make_model("bert", "sequence-classification", layers=1).state_dict()
    (folder / "model.safetensors").unlink()
    torch.save(state if content is None else content, folder / "pytorch_model.bin")
    return folder / "pytorch_model.bin"


def test_a_pickle_of_tensors_gives_what_safetensors_gives(folder: Path) -> None:
    expected = {name: Checkpoint.open(folder).tensor(name) for name in Checkpoint.open(folder).names}
    as_pickle(folder)
    checkpoint = Checkpoint.open(folder)
    assert checkpoint.names == sorted(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(checkpoint.tensor(name), value)


def test_a_sharded_model_is_read_from_all_shards(tmp_path: Path) -> None:
    model = make_model("bert", "encoder", layers=2)
    model.save_pretrained(tmp_path, max_shard_size="100KB")
    assert not (tmp_path / "model.safetensors").exists()
    checkpoint = Checkpoint.open(tmp_path)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(checkpoint.tensor(name), value.numpy())
    next(tmp_path.glob("model-00002*")).unlink()
    with pytest.raises(CheckpointError, match="names the shard 'model-00002"):
        Checkpoint.open(tmp_path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types_become_float32(folder: Path, dtype: torch.dtype) -> None:
    value = torch.randn(3, 5).to(dtype)
    save_torch({"x": value}, folder / "model.safetensors")
    np.testing.assert_array_equal(Checkpoint.open(folder).tensor("x"), value.to(torch.float32).numpy())


def test_names_of_2019_are_understood(folder: Path) -> None:
    save_file({"a.LayerNorm.gamma": np.ones(2, np.float32)}, folder / "model.safetensors")
    assert Checkpoint.open(folder).names == ["a.LayerNorm.weight"]


def test_safetensors_are_read_without_torch(folder: Path) -> None:
    code = (
        "import sys; from obert_edge.host.checkpoints.checkpoint import Checkpoint\n"
        f"Checkpoint.open({str(folder)!r}).tensor('classifier.weight')\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


class Bomb:
    def __reduce__(self) -> tuple:  # type: ignore[type-arg]
        return (Path.touch, (Path("exploded"),))


def test_a_pickle_that_runs_code_is_not_run(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    as_pickle(folder, {"x": Bomb()})
    with pytest.raises(CheckpointError, match="more than tensors") as caught:
        Checkpoint.open(folder)
    assert "safetensors" in caught.value.hint
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(CheckpointError):
        Checkpoint.open(folder)
    assert not Path("exploded").exists()


def test_a_pickle_of_something_else_is_refused(folder: Path) -> None:
    as_pickle(folder, [torch.ones(2)])
    with pytest.raises(CheckpointError, match="not a dictionary of tensors"):
        Checkpoint.open(folder)


@pytest.mark.parametrize("fraction", [0.0, 0.001, 0.5, 0.99])
@pytest.mark.parametrize("kind", ["safetensors", "pickle"])
def test_truncated_weights_are_refused(folder: Path, fraction: float, kind: str) -> None:
    path = as_pickle(folder) if kind == "pickle" else folder / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(fraction * len(whole))])
    with pytest.raises(CheckpointError, match=path.name):
        Checkpoint.open(folder)


def test_whoever_gives_half_a_name_is_told_how_a_name_on_a_hub_is_written() -> None:
    with pytest.raises(CheckpointError, match="there is no model folder bert-base-uncased") as caught:
        Checkpoint.open(Path("bert-base-uncased"))
    assert "owner/model, such as google-bert/bert-base-uncased" in caught.value.hint


def test_a_folder_without_config_or_weights_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no model folder"):
        Checkpoint.open(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="is a file, not a folder"):
        Checkpoint.open(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="neither model.safetensors nor pytorch_model.bin"):
        Checkpoint.open(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="cannot be read as JSON"):
        Checkpoint.open(folder)
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match="has no config.json"):
        Checkpoint.open(folder)


def altered(folder: Path, change) -> Checkpoint:
    checkpoint = Checkpoint.open(folder)
    tensors = {name: np.array(checkpoint.tensor(name)) for name in checkpoint.names}
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    return Checkpoint.open(folder)


def importing(checkpoint: Checkpoint) -> None:
    import_graph(checkpoint, read_config(checkpoint))


def test_a_missing_tensor_is_named(folder: Path) -> None:
    checkpoint = altered(folder, lambda tensors: tensors.pop("classifier.bias"))
    with pytest.raises(CheckpointError, match="no tensor 'classifier.bias'") as caught:
        importing(checkpoint)
    assert "--task encoder" in caught.value.hint


def test_tensors_the_graph_would_ignore_are_named(folder: Path) -> None:
    name = "bert.encoder.layer.0.attention.adapter.weight"
    checkpoint = altered(folder, lambda tensors: tensors.update({name: np.ones(3, np.float32)}))
    with pytest.raises(CheckpointError, match=f"does not: {name}"):
        importing(checkpoint)


def test_more_layers_than_the_config_says_are_refused(tmp_path: Path) -> None:
    save_model(tmp_path, "bert", "encoder", layers=2)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 1}))
    with pytest.raises(CheckpointError, match=r"of 1 layers does not: encoder.layer.1"):
        importing(Checkpoint.open(tmp_path))


def test_buffers_and_other_heads_are_left_out(folder: Path) -> None:
    extra = {
        "bert.embeddings.position_ids": np.ones((1, 66), np.float32),
        "cls.seq_relationship.weight": np.ones((2, 64), np.float32),
    }
    importing(altered(folder, lambda tensors: tensors.update(extra)))


def test_misshapen_and_infinite_tensors_are_named(folder: Path) -> None:
    query = "bert.encoder.layer.0.attention.self.query.weight"
    checkpoint = altered(folder, lambda tensors: tensors.update({query: np.ones((64, 63), np.float32)}))
    with pytest.raises(CheckpointError, match=r"has shape \(64, 63\); config.json implies \(64, 64\)"):
        importing(checkpoint)
    checkpoint = altered(
        folder, lambda tensors: tensors.update({query: np.full((64, 64), np.nan, np.float32)})
    )
    with pytest.raises(CheckpointError, match="NaN or infinity"):
        importing(checkpoint)


def test_integer_weights_are_refused(folder: Path) -> None:
    save_file({"x": np.ones(3, np.int8)}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="dtype int8; supported are F64, F32"):
        Checkpoint.open(folder).tensor("x")


@pytest.mark.parametrize("kind", ["pickle", "legacy pickle", "safetensors"])
@pytest.mark.parametrize("share", [0.3, 0.98])
def test_a_truncated_file_says_so_and_how_large_it_is(
    qat: Any, tmp_path: Path, kind: str, share: float
) -> None:
    _, model = qat
    save_published_model(model, tmp_path / "m", kind=kind)
    path = next((tmp_path / "m").glob("*model.*"))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(CheckpointError, match=re.escape(path.name)) as error:
        Checkpoint.open(tmp_path / "m")
    assert "size" in error.value.hint


def test_names_under_data_parallel_are_understood(tmp_path: Path) -> None:
    model = make_published_model("mnli", 3)
    state = {f"module.{key}": value for key, value in model.state_dict().items()}
    save_published_model(model, tmp_path / "m", state=state)
    assert Checkpoint.open(tmp_path / "m").names == sorted(model.state_dict())


def rewrite(folder: Path, change: Any = None, **config: Any) -> Path:
    """Change the tensors' names, and fields of the configuration (None: taken out)."""
    checkpoint = Checkpoint.open(folder)
    tensors = {name: np.array(checkpoint.tensor(name)) for name in checkpoint.names}
    save_file(change(tensors) if change else tensors, folder / "model.safetensors")
    fields = {**json.loads((folder / "config.json").read_text()), **config}
    fields = {name: value for name, value in fields.items() if value != "absent"}
    (folder / "config.json").write_text(json.dumps(fields))
    return folder


@pytest.mark.parametrize(
    "wrap",
    [
        lambda name: f"_orig_mod.{name}",
        lambda name: f"module._orig_mod.{name}",
        lambda name: f"model.{name}",
        lambda name: f"base_model.model.{name}",
        lambda name: name if "classifier" in name else f"module.{name}",
        lambda name: name.replace("encoder.layer.0.", "encoder.layer.0._fsdp_wrapped_module."),
        lambda name: name.replace(
            "encoder.layer.0.", "encoder.layer.0._checkpoint_wrapped_module._orig_mod."
        ),
    ],
)
def test_names_of_wrappers_are_understood_on_both_ways(folder: Path, wrap: Any) -> None:
    plain = Checkpoint.open(folder)
    expected = {name: np.array(plain.tensor(name)) for name in plain.names}
    rewrite(folder, lambda tensors: {wrap(name): value for name, value in tensors.items()})
    checkpoint = Checkpoint.open(folder)
    assert checkpoint.names == sorted(expected)
    importing(checkpoint)
    loaded, missing = load_pytorch(checkpoint, "ForSequenceClassification")
    assert missing == []
    for name, value in loaded.state_dict().items():
        if name in expected:
            np.testing.assert_array_equal(value.numpy(), expected[name])


def test_two_tensors_of_one_name_are_refused(folder: Path) -> None:
    both = rewrite(
        folder, lambda tensors: {**tensors, "module.classifier.bias": tensors["classifier.bias"] + 1}
    )
    with pytest.raises(CheckpointError, match="'classifier.bias' twice"):
        Checkpoint.open(both)


def test_a_training_frameworks_file_is_read_for_its_state_dict(folder: Path) -> None:
    expected = Checkpoint.open(folder).names
    state = make_model("bert", "sequence-classification", layers=1).state_dict()
    as_pickle(folder, {"epoch": 3, "state_dict": {f"model.{name}": value for name, value in state.items()}})
    assert Checkpoint.open(folder).names == expected


@pytest.mark.parametrize(
    "name",
    [
        "base_model.model.bert.encoder.layer.0.attention.self.query.lora_A.default.weight",
        "bert.encoder.layer.0.attention.self.query.base_layer.weight",
        "base_model.model.classifier.modules_to_save.default.weight",
    ],
)
def test_an_adapter_among_the_weights_must_be_merged(folder: Path, name: str) -> None:
    rewrite(folder, lambda tensors: {**tensors, name: np.ones((4, 4), np.float32)})
    with pytest.raises(CheckpointError, match="adapter that is not merged") as caught:
        Checkpoint.open(folder)
    assert "merge_and_unload" in caught.value.hint


def test_the_folder_of_an_adapter_is_refused_with_or_without_a_model(folder: Path, tmp_path: Path) -> None:
    alone = tmp_path / "adapter"
    alone.mkdir()
    for place in (folder, alone):
        (place / "adapter_config.json").write_text('{"base_model_name_or_path": "bert-base-uncased"}')
        save_file({"x": np.ones(1, np.float32)}, place / "adapter_model.safetensors")
        with pytest.raises(CheckpointError, match="adapter .* of the model 'bert-base-uncased'"):
            Checkpoint.open(place)


@pytest.mark.parametrize(
    "labels, match",
    [
        ({"0": "a", "1": "b"}, "names 2 labels .*the head has 3 rows"),
        ({"0": "a", "1": "b", "2": "c", "3": "d"}, "names 4 labels"),
        ({"x": "a", "y": "b", "z": "c"}, "by their numbers"),
        ({"0": "a", "1": "b", "3": "c"}, "by their numbers"),
        (["a", "b", "c"], "by their numbers"),
    ],
)
def test_labels_must_be_those_of_the_head(folder: Path, labels: Any, match: str) -> None:
    rewrite(folder, id2label=labels)
    with pytest.raises(CheckpointError, match=match):
        Checkpoint.open(folder)


@pytest.mark.parametrize("labels", [None, "absent"])
def test_without_names_of_labels_the_head_says_how_many_there_are(folder: Path, labels: Any) -> None:
    rewrite(folder, id2label=labels, label2id=labels, num_labels="absent")
    loaded, missing = load_pytorch(Checkpoint.open(folder), "ForSequenceClassification")
    assert missing == [] and loaded.config.num_labels == 3


@pytest.mark.parametrize("named", [None, "absent", []])
@pytest.mark.parametrize(
    "architecture, task",
    [
        ("bert", "question-answering"),
        ("bert", "token-classification"),
        ("bert", "masked-lm"),
        ("bert", "encoder"),
        ("roberta", "sequence-classification"),
        ("distilbert", "sequence-classification"),
        ("distilbert", "token-classification"),
        ("electra", "sequence-classification"),
    ],
)
def test_a_head_is_found_by_its_tensors(tmp_path: Path, architecture: str, task: str, named: Any) -> None:
    save_model(tmp_path, architecture, task, layers=1)
    rewrite(tmp_path, architectures=named)
    checkpoint = Checkpoint.open(tmp_path)
    assert read_config(checkpoint).task == task
    importing(checkpoint)


@pytest.mark.parametrize("named", [None, ["BertForMaskedLM", "BertForSequenceClassification"]])
def test_a_head_that_the_tensors_leave_open_must_be_named(folder: Path, named: Any) -> None:
    rewrite(folder, architectures=named)
    checkpoint = Checkpoint.open(folder)
    with pytest.raises(CheckpointError, match="sequence-classification, token-classification") as caught:
        read_config(checkpoint)
    assert "--task" in caught.value.hint
    assert read_config(checkpoint, "token-classification").task == "token-classification"


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"architectures": 5}, "architectures = 5; expected a list"),
        ({"layer_norm_eps": "x"}, "layer_norm_eps = 'x'; expected a number"),
        ({"layer_norm_eps": None}, "layer_norm_eps = None"),
        ({"hidden_act": ["gelu"]}, "uses the activation"),
        ({"id2label": {"0": "a", "1": "a"}}, "several labels the name 'a'"),
    ],
)
def test_fields_that_mean_nothing_are_refused(folder: Path, fields: Any, found: str) -> None:
    rewrite(folder, **{"architectures": ["BertForTokenClassification"], **fields})
    with pytest.raises(CheckpointError, match=found):
        read_config(Checkpoint.open(folder))


def test_one_class_may_stand_without_a_list(folder: Path) -> None:
    rewrite(folder, architectures="BertForTokenClassification")
    assert read_config(Checkpoint.open(folder)).task == "token-classification"


def test_pytorch_drops_no_tensor_of_the_encoder_in_silence(tmp_path: Path) -> None:
    save_model(tmp_path, "bert", "sequence-classification", layers=2)
    rewrite(tmp_path, num_hidden_layers=1)
    with pytest.raises(CheckpointError, match=r"does not: bert.encoder.layer.1"):
        load_pytorch(Checkpoint.open(tmp_path), "ForSequenceClassification")


def test_a_second_head_is_named_when_it_is_left_out(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    rewrite(folder, lambda tensors: {**tensors, "qa_outputs.weight": np.ones((2, 64), np.float32)})
    with caplog.at_level(logging.WARNING, "obert_edge"):
        importing(Checkpoint.open(folder))
    assert "qa_outputs.weight" in caplog.text
