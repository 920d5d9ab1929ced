"""What is read of a folder of sentence-transformers, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable, Dict, Optional

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from tokenizers import Tokenizer

from obert_edge.bundle.manifest import ModuleFacts
from obert_edge.errors import CheckpointError
from obert_edge.host.checkpoints.checkpoint import Checkpoint
from obert_edge.host.checkpoints.sentence_transformers import (
    SentenceModel,
    encoder_folder,
    lowercased,
    read_sentence_model,
)
from tests.device.bundles import save_bert_tokenizer
from tests.host.compiler.tiny_checkpoints import save_model

HIDDEN = 64
TANH = "torch.nn.modules.activation.Tanh"
DENSE = {"in_features": HIDDEN, "out_features": 8, "bias": True, "activation_function": TANH}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    save_model(folder, "bert", "encoder", layers=1)
    return folder


class Folder:
    """A model folder of sentence-transformers that a test changes before it is read."""

    def __init__(self, path: Path, saved: Path) -> None:
        self.path = path
        for name in ("config.json", "model.safetensors"):
            (path / name).symlink_to(saved / name)
        self.types = ["Transformer"]
        self.write("modules.json", [])

    def write(self, name: str, content: Any) -> None:
        (self.path / name).parent.mkdir(exist_ok=True)
        (self.path / name).write_text(content if isinstance(content, str) else json.dumps(content))

    def add(
        self,
        word: str,
        config: Any = None,
        tensors: Optional[Dict[str, np.ndarray]] = None,
        kind: str = "sentence_transformers.models.{}",
    ) -> Folder:
        """Append a module; its folder has the index and the word, and what is given."""
        path = f"{len(self.types)}_{word}"
        if config is not None:
            self.write(f"{path}/config.json", config)
        if tensors is not None:
            save_file(tensors, str(self.path / path / "model.safetensors"))
        self.types.append(kind.format(word))
        listed = [
            {
                "type": name if "." in name else f"sentence_transformers.models.{name}",
                "path": f"{i}_{word}" * (i > 0),
            }
            for i, name in enumerate(self.types)
        ]
        for i, entry in enumerate(listed[1:], start=1):
            entry["path"] = f"{i}_{entry['type'].rsplit('.', 1)[-1]}"
        self.write("modules.json", listed)
        return self

    def pooling(self, **config: Any) -> Folder:
        return self.add("Pooling", config or {"pooling_mode": "mean", "embedding_dimension": HIDDEN})

    def dense(self, config: Any = None, tensors: Optional[Dict[str, np.ndarray]] = None) -> Folder:
        return self.add("Dense", {**DENSE, **(config or {})}, dense_weights() if tensors is None else tensors)

    def read(self) -> SentenceModel:
        return read_sentence_model(Checkpoint.open(self.path), HIDDEN)


def dense_weights(outputs: int = 8, inputs: int = HIDDEN) -> Dict[str, np.ndarray]:
    return {
        "linear.weight": np.arange(outputs * inputs, dtype=np.float32).reshape(outputs, inputs),
        "linear.bias": np.ones(outputs, np.float32),
    }


@pytest.fixture
def folder(tmp_path: Path, saved: Path) -> Folder:
    return Folder(tmp_path, saved)


def test_a_folder_of_transformers_alone_says_nothing(saved: Path) -> None:
    assert read_sentence_model(Checkpoint.open(saved), HIDDEN) == SentenceModel()


@pytest.mark.parametrize(
    "kind",
    [
        "sentence_transformers.models.{}",
        "sentence_transformers.models.{0}.{0}",
        "sentence_transformers.base.modules.lower.{}",
        "sentence_transformers.sentence_transformer.modules.lower.{}",
    ],
)
def test_types_are_known_by_their_class_wherever_a_version_put_it(folder: Folder, kind: str) -> None:
    folder.pooling().add("Dense", DENSE, dense_weights(), kind=kind).add(
        "Dropout", {"dropout": 0.5}, kind=kind
    )
    model = folder.add("Normalize", {}, kind=kind).read()
    assert model.poolings == ("mean",)
    assert model.modules == (ModuleFacts("dense", HIDDEN, 8, activation="tanh", bias=True),)
    assert model.normalize
    assert np.array_equal(model.weights[0], dense_weights()["linear.weight"])
    assert len(model.weight_bytes) == 4 * (8 * HIDDEN + 8)


@pytest.mark.parametrize(
    ("config", "poolings"),
    [
        ({}, ("mean",)),
        ({"pooling_mode": "lasttoken"}, ("lasttoken",)),
        ({"pooling_mode": ["max", "cls"]}, ("max", "cls")),
        ({"pooling_mode_max_tokens": True, "pooling_mode_cls_token": True}, ("cls", "max")),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": False}, ("mean",)),
        ({"pooling_mode_weightedmean_tokens": True, "word_embedding_dimension": HIDDEN}, ("weightedmean",)),
    ],
)
def test_poolings_of_every_version(folder: Folder, config: Dict[str, Any], poolings: tuple) -> None:
    assert folder.add("Pooling", config).read().poolings == poolings


def test_what_belongs_to_the_whole_model(folder: Folder) -> None:
    whole = {
        "prompts": {"query": "q: ", "document": None},
        "default_prompt_name": "query",
        "similarity_fn_name": "euclidean",
        "truncate_dim": 16,
    }
    folder.pooling().write("config_sentence_transformers.json", whole)
    model = folder.read()
    assert model.prompts == {"query": "q: ", "document": ""}
    assert (model.default_prompt_name, model.similarity, model.truncate_dim) == ("query", "euclidean", 16)


def test_a_version_3_reranker_is_known_by_its_function(folder: Folder, saved: Path) -> None:
    (folder.path / "modules.json").unlink()
    (folder.path / "config.json").unlink()
    config = json.loads((saved / "config.json").read_text())
    folder.write("config.json", {**config, "sbert_ce_default_activation_function": "torch.nn.Sigmoid"})
    model = folder.read()
    assert (model.kind, model.function) == ("CrossEncoder", "sigmoid")


Change = Callable[[Folder], Any]

#: What a folder may hold, and what is said of it.
REFUSED: Dict[str, Any] = {
    "static embeddings": (
        lambda f: f.pooling().add("StaticEmbedding"),
        "of type sentence_transformers.models.Static",
    ),
    "weighted layers": (
        lambda f: f.add("WeightedLayerPooling", {}),
        "type sentence_transformers.models.WeightedLayer",
    ),
    "a router": (
        lambda f: f.add("Router", {}),
        "supported are Transformer, Pooling, Dense, LayerNorm, Normalize",
    ),
    "somebody's own dense": (
        lambda f: f.pooling().add("Dense", {}, kind="my_code.{}"),
        "of type my_code.Dense",
    ),
    "no pooling": (lambda f: f.add("Normalize", {}), "lists the modules Transformer, Normalize"),
    "two poolings": (lambda f: f.pooling().pooling(), "lists the modules Transformer, Pooling, Pooling"),
    "an unknown pooling": (lambda f: f.pooling(pooling_mode="median"), "asks for the pooling 'median'"),
    "an unknown switch": (
        lambda f: f.pooling(pooling_mode_median=True),
        "asks for the pooling 'pooling_mode_median'",
    ),
    "no modules": (lambda f: f.write("modules.json", []), "modules.json lists no modules"),
    "a module without a folder": (
        lambda f: f.pooling().write("modules.json", [{"type": "sentence_transformers.models.Pooling"}]),
        "at None; expected two texts",
    ),
    "an empty list of poolings": (lambda f: f.pooling(pooling_mode=[]), "has no pooling_mode"),
    "a number as pooling": (lambda f: f.pooling(pooling_mode=3), "asks for the pooling 3"),
    "a pooling of another width": (
        lambda f: f.pooling(embedding_dimension=32),
        "pools vectors of 32 numbers; the enc",
    ),
    "a pooling without its folder": (lambda f: f.add("Pooling"), "1_Pooling/config.json is missing"),
    "a dense of another width": (
        lambda f: f.pooling().dense({"in_features": 32}),
        "is a Dense from 32 to 8 numbers; the module before it gives 64",
    ),
    "a dense behind two poolings": (
        lambda f: f.pooling(pooling_mode=["cls", "max"]).dense(),
        "is a Dense from 64 to 8 numbers; the module before it gives 128",
    ),
    "a dense of no width": (lambda f: f.pooling().dense({"out_features": 0}), "is a Dense from 64 to 0"),
    "dense weights of another shape": (
        lambda f: f.pooling().dense(tensors=dense_weights(outputs=9)),
        r"'linear.weight' of .*2_Dense has shape \(9, 64\); config.json implies \(8, 64\)",
    ),
    "a dense without its bias": (
        lambda f: f.pooling().dense(tensors={"linear.weight": dense_weights()["linear.weight"]}),
        "has no tensor 'linear.bias'",
    ),
    "a dense with more than it says": (
        lambda f: f.pooling().dense({"bias": False}),
        "has the tensors linear.bias; its config.json implies no such",
    ),
    "dense weights that are not finite": (
        lambda f: f.pooling().dense(
            tensors={**dense_weights(), "linear.bias": np.full(8, np.nan, np.float32)}
        ),
        "holds NaN",
    ),
    "a dense without weights": (lambda f: f.pooling().add("Dense", DENSE), "has neither model.safetensors"),
    "an unknown function": (
        lambda f: f.pooling().dense({"activation_function": "my_code.Swish"}),
        "has the activation function 'my_code.Swish'; supported are torch.nn.modules.linear.Identity",
    ),
    "a softmax in a dense": (
        lambda f: f.pooling().dense({"activation_function": "torch.nn.modules.activation.Softmax"}),
        "has the activation function",
    ),
    "a dense on tokens": (
        lambda f: f.pooling().dense({"module_input_name": "token_embeddings"}),
        "has module_input_name = 'token_embeddings'",
    ),
    "a normalize of tokens": (
        lambda f: f.pooling().add("Normalize", {"module_output_name": "token_embeddings"}),
        "has module_output_name = 'token_embeddings'",
    ),
    "a layer norm of another width": (
        lambda f: f.pooling().add("LayerNorm", {"dimension": 8}, dense_weights()),
        "is a LayerNorm of 8 numbers; the module before it gives 64",
    ),
    "modules that are no list": (lambda f: f.write("modules.json", {}), "is not a list of objects"),
    "modules that are no JSON": (lambda f: f.write("modules.json", "["), "cannot be read as JSON"),
    "a module outside": (
        lambda f: f.write("modules.json", [{"type": "sentence_transformers.models.Pooling", "path": "../x"}]),
        "names the folder '../x', which is outside",
    ),
    "a type that is no text": (lambda f: f.write("modules.json", [{"type": 3}]), "has a module of type 3"),
}

#: What config_sentence_transformers.json may hold, and what is said of it.
REFUSED_WHOLE: Dict[str, Any] = {
    "prompts that are no texts": ({"prompts": ["q"]}, r"has prompts \['q'\]; expected texts by name"),
    "an unknown default prompt": (
        {"prompts": {"query": "q"}, "default_prompt_name": "passage"},
        "has the default prompt 'passage'; its prompts are query",
    ),
    "an unknown similarity": (
        {"similarity_fn_name": "maxsim"},
        "has the similarity 'maxsim'; supported are cosine",
    ),
    "a width of nothing": ({"truncate_dim": 0}, "has truncate_dim = 0"),
}

#: What sentence_bert_config.json may hold, and what is said of it.
REFUSED_TRANSFORMER: Dict[str, Any] = {
    "a length that is none": ({"max_seq_length": -1}, "cuts texts to -1 tokens"),
    "another configuration": ({"config_args": {"hidden_act": "relu"}}, "has hidden_act in config_args"),
    "another tokenizer": ({"processor_kwargs": {"add_special_tokens": False}}, "has add_special_tokens in"),
    "settings of the processor": (
        {"processing_kwargs": {"text": {"max_length": 5}}},
        "has processing_kwargs",
    ),
    "longer queries": ({"query_expansion": {"length": 32}}, "has query_expansion"),
    "another task": ({"transformer_task": "fill-mask"}, "has transformer_task = 'fill-mask'"),
    "another output": (
        {"modality_config": {"text": {"method": "forward", "method_output_name": "pooler_output"}}},
        "'pooler_output'} of the encoder; supported is last_hidden_state",
    ),
    "no text": ({"modality_config": {"image": {}}}, "reads None of the encoder"),
    "another name": (
        {"module_output_name": "sentence_embedding"},
        "has module_output_name = 'sentence_embedding'",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_modules_that_cannot_be_computed_are_refused(folder: Folder, case: str) -> None:
    change, found = REFUSED[case]
    change(folder)
    with pytest.raises(CheckpointError, match=found) as caught:
        folder.read()
    assert caught.value.hint


@pytest.mark.parametrize("case", REFUSED_WHOLE)
def test_settings_of_the_whole_that_make_no_sense_are_refused(folder: Folder, case: str) -> None:
    whole, found = REFUSED_WHOLE[case]
    folder.pooling().write("config_sentence_transformers.json", whole)
    with pytest.raises(CheckpointError, match=found):
        folder.read()


@pytest.mark.parametrize("case", REFUSED_TRANSFORMER)
def test_settings_of_the_transformer_that_change_answers_are_refused(folder: Folder, case: str) -> None:
    settings, found = REFUSED_TRANSFORMER[case]
    folder.pooling().write("sentence_bert_config.json", settings)
    with pytest.raises(CheckpointError, match=found):
        folder.read()


@pytest.mark.parametrize("length", [0, -1, "512", 8.0])
def test_a_length_of_the_tokenizer_that_is_none_is_refused_by_the_name_of_its_file(
    folder: Folder, length: Any
) -> None:
    folder.pooling().write("tokenizer_config.json", {"model_max_length": length})
    with pytest.raises(CheckpointError, match="tokenizer_config.json has model_max_length = ") as caught:
        folder.read()
    assert repr(length) in caught.value.message
    assert "sentence_bert_config" not in str(caught.value)


def test_an_encoder_in_a_folder_of_its_own_is_found(tmp_path: Path, saved: Path) -> None:
    inner = tmp_path / "0_Transformer"
    inner.mkdir()
    folder = Folder(inner, saved)
    folder.write("sentence_bert_config.json", {"max_seq_length": 20})
    (inner / "modules.json").unlink()
    entries = [("Transformer", "0_Transformer"), ("Pooling", "1_Pooling")]
    listed = [{"type": f"sentence_transformers.models.{word}", "path": path} for word, path in entries]
    (tmp_path / "modules.json").write_text(json.dumps(listed))
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    assert encoder_folder(tmp_path) == inner
    assert encoder_folder(saved) == saved
    model = read_sentence_model(Checkpoint.open(encoder_folder(tmp_path)), HIDDEN)
    assert (model.poolings, model.max_length) == (("cls",), 20)


def test_a_pickle_of_a_module_is_read_without_running_it(folder: Folder) -> None:
    folder.pooling().add("Dense", DENSE)
    weights = {name: torch.from_numpy(array) for name, array in dense_weights().items()}
    torch.save(weights, folder.path / "2_Dense" / "pytorch_model.bin")
    assert np.array_equal(folder.read().weights[0], dense_weights()["linear.weight"])


@pytest.mark.parametrize("lowercase", [True, False])
def test_a_tokenizer_that_lowercases_first(tmp_path: Path, lowercase: bool) -> None:
    save_bert_tokenizer(tmp_path)
    description = json.loads((tmp_path / "tokenizer.json").read_text())
    description["normalizer"]["lowercase"] = lowercase
    changed = lowercased(json.dumps(description).encode())
    tokenizer = Tokenizer.from_str(changed.decode())
    assert tokenizer.encode("The FILM").tokens == ["[CLS]", "the", "film", "[SEP]"]
    assert lowercased(changed) == changed


def test_somebody_else_s_file_beside_a_model_folder_is_left_alone(tmp_path: Path, saved: Path) -> None:
    inner = tmp_path / "model"
    inner.mkdir()
    (Folder(inner, saved).path / "modules.json").unlink()
    (tmp_path / "modules.json").write_text(json.dumps({"name": "a web page"}))
    assert read_sentence_model(Checkpoint.open(inner), HIDDEN) == SentenceModel()


@pytest.mark.parametrize("value", [["query"], {"query": 1}, 3])
@pytest.mark.parametrize("field", ["default_prompt_name", "similarity_fn_name"])
def test_a_name_of_another_type_is_refused_in_words(folder: Folder, field: str, value: Any) -> None:
    folder.pooling().write("config_sentence_transformers.json", {"prompts": {"query": "q: "}, field: value})
    with pytest.raises(CheckpointError, match=r"config_sentence_transformers\.json has the"):
        folder.read()
