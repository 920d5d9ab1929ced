"""What a configuration may ask for, and what is said when it asks for more."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict

import pytest

from obert_edge.bundle.program import Activation
from obert_edge.errors import CheckpointError, UsageError
from obert_edge.host.checkpoints.checkpoint import Checkpoint
from obert_edge.host.checkpoints.model_config import ModelConfig, read_config
from tests.host.compiler.tiny_checkpoints import save_model


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    save_model(folder, "bert", "sequence-classification", layers=1)
    return folder


def config_of(saved: Path, folder: Path, changes: Dict[str, Any], **arguments: Any) -> ModelConfig:
    """Read the saved model with some fields of config.json changed (``None``: removed)."""
    fields = {**json.loads((saved / "config.json").read_text()), **changes}
    kept = {name: value for name, value in fields.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(kept))
    if not (folder / "model.safetensors").exists():
        (folder / "model.safetensors").symlink_to(saved / "model.safetensors")
    return read_config(Checkpoint.open(folder), **arguments)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"model_type": "gpt2"}, "supported are bert, distilbert, roberta, electra"),
        ({"model_type": None, "architectures": ["GPT2Model"]}, "is a None model"),
        ({"hidden_act": "mish"}, "activation 'mish'; supported are gelu"),
        ({"position_embedding_type": "relative_key"}, "position embeddings of type 'relative_key'"),
        ({"is_decoder": True}, "is a decoder; only encoders"),
        ({"add_cross_attention": True}, "is a decoder"),
        ({"quantization_config": {"bits": 4}}, "already quantized by another tool"),
        ({"num_attention_heads": 5}, "5 attention heads do not divide the hidden size 64"),
        ({"head_dim": 7}, "4 attention heads of 7 channels do not make up the hidden size 64"),
        ({"hidden_size": "64"}, "hidden_size = '64'"),
        ({"num_hidden_layers": 0}, "num_hidden_layers = 0"),
        ({"vocab_size": None}, "vocab_size = None"),
        ({"pad_token_id": -1}, "pad_token_id = -1; expected a whole number from 0 to "),
        ({"pad_token_id": 1 << 20}, "pad_token_id = 1048576; expected a whole number from 0 to "),
        ({"pad_token_id": "0"}, "pad_token_id = '0'; expected a whole number"),
        ({"pad_token_id": True}, "pad_token_id = True; expected a whole number"),
        ({"architectures": ["BertForMultipleChoice"]}, "BertForMultipleChoice, a head that is not supported"),
    ],
)
def test_unsupported_configurations_say_what_is_supported(
    saved: Path, tmp_path: Path, changes: Dict[str, Any], complaint: str
) -> None:
    with pytest.raises(CheckpointError, match=complaint) as caught:
        config_of(saved, tmp_path, changes)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("name", "activation"),
    [("gelu", Activation.GELU), ("gelu_new", Activation.GELU_TANH), ("relu", Activation.RELU)],
)
def test_activations(saved: Path, tmp_path: Path, name: str, activation: Activation) -> None:
    assert config_of(saved, tmp_path, {"hidden_act": name}).activation is activation


def test_the_task_comes_from_the_class_unless_it_is_given(saved: Path, tmp_path: Path) -> None:
    assert config_of(saved, tmp_path, {}).task == "sequence-classification"
    with pytest.raises(CheckpointError, match="names no class .* sequence-classification, token-classif"):
        config_of(saved, tmp_path, {"architectures": None})
    assert config_of(saved, tmp_path, {"architectures": None}, task="encoder").task == "encoder"
    multiple_choice = {"architectures": ["BertForMultipleChoice"]}
    config = config_of(saved, tmp_path, multiple_choice, task="encoder")
    assert (config.task, config.class_for_task, config.base) == ("encoder", "BertModel", "bert.")
    with pytest.raises(UsageError, match="no task 'poetry'"):
        config_of(saved, tmp_path, {}, task="poetry")


def test_roberta_counts_positions_after_the_padding_id(tmp_path: Path) -> None:
    save_model(tmp_path, "roberta", "encoder", layers=1)
    config = read_config(Checkpoint.open(tmp_path))
    assert (config.position_offset, config.positions, config.longest) == (2, 66, 64)


def test_the_pooling_is_the_mean_unless_the_folder_or_the_user_says_else(saved: Path, tmp_path: Path) -> None:
    assert config_of(saved, tmp_path, {}, task="encoder").pooling == "mean"
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    assert config_of(saved, tmp_path, {}, task="encoder").pooling == "cls"
    assert config_of(saved, tmp_path, {}, task="encoder", pooling="pooler").pooling == "pooler"
    with pytest.raises(UsageError, match="pooling 'max' does not exist"):
        config_of(saved, tmp_path, {}, task="encoder", pooling="max")


def test_a_pooling_that_the_engine_has_not_is_left_to_the_device(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "1_Pooling").mkdir()
    pooling = {"pooling_mode_max_tokens": True, "pooling_mode_mean_tokens": True}
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    config = config_of(saved, tmp_path, {}, task="encoder")
    assert config.pooling == ""
    assert [(module.type, module.modes, module.outputs) for module in config.modules] == [
        ("pooling", ["max", "mean"], 128)
    ]


def test_another_kind_of_sentence_transformers_needs_a_task(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "config_sentence_transformers.json").write_text(json.dumps({"model_type": "SparseEncoder"}))
    with pytest.raises(
        CheckpointError, match="is a SparseEncoder of sentence-transformers; supported are"
    ) as caught:
        config_of(saved, tmp_path, {})
    assert "name the task" in caught.value.hint
    assert config_of(saved, tmp_path, {}, task="encoder").pooling == "mean"


@pytest.mark.parametrize(
    ("sentence_bert", "tokenizer", "length"),
    [
        (None, None, 66),
        (None, {"model_max_length": 40}, 40),
        (None, {"model_max_length": 10**30}, 66),
        ({"max_seq_length": 30}, {"model_max_length": 40}, 30),
        ({"max_seq_length": None}, {"model_max_length": 40}, 40),
        ({"max_seq_length": 500}, None, 66),
        ({"tokenizer_args": {"model_max_length": 20}, "max_seq_length": 30}, None, 20),
    ],
)
def test_texts_are_cut_to_what_the_tokenizer_says_and_positions_allow(
    saved: Path, tmp_path: Path, sentence_bert: Any, tokenizer: Any, length: int
) -> None:
    for name, content in (("sentence_bert_config", sentence_bert), ("tokenizer_config", tokenizer)):
        if content is not None:
            (tmp_path / f"{name}.json").write_text(json.dumps(content))
    config = config_of(saved, tmp_path, {})
    assert (config.default_length, config.longest) == (length, 66)


def listed_modules(folder: Path) -> None:
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": "cls"}))
    modules = [("Transformer", ""), ("Pooling", "1_Pooling")]
    listed = [{"type": f"sentence_transformers.models.{word}", "path": path} for word, path in modules]
    (folder / "modules.json").write_text(json.dumps(listed))
    whole = {"prompts": {"query": "q: "}, "default_prompt_name": "query"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(whole))


@pytest.mark.parametrize("name", ["BertModel", "BertForMaskedLM", "BertForPreTraining"])
def test_an_embedder_whose_class_has_no_head_of_a_task_is_an_encoder(
    saved: Path, tmp_path: Path, name: str
) -> None:
    listed_modules(tmp_path)
    config = config_of(saved, tmp_path, {"architectures": [name]})
    assert (config.task, config.pooling) == ("encoder", "cls")
    assert config.sentence.default_prompt_name == "query"


def test_a_head_that_was_trained_on_an_embedder_has_none_of_its_prompts(saved: Path, tmp_path: Path) -> None:
    listed_modules(tmp_path)
    config = config_of(saved, tmp_path, {})
    assert config.task == "sequence-classification"
    assert (config.sentence.default_prompt_name, config.modules) == ("", ())


def test_a_reranker_without_a_head_is_refused(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "config_sentence_transformers.json").write_text(json.dumps({"model_type": "CrossEncoder"}))
    with pytest.raises(CheckpointError, match="is a CrossEncoder of a BertModel"):
        config_of(saved, tmp_path, {"architectures": ["BertModel"]})
    assert config_of(saved, tmp_path, {}).sentence.kind == "CrossEncoder"


@pytest.mark.parametrize(
    ("architecture", "field", "value"),
    [
        ("bert", "layer_norm_eps", [1e-12]),
        ("bert", "layer_norm_eps", "1e-12"),
        ("bert", "layer_norm_eps", -1.0),
        ("bert", "hidden_act", {"name": "gelu"}),
        ("bert", "hidden_act", ["gelu"]),
        ("bert", "model_type", {"bert": 1}),
        ("bert", "model_type", ["bert"]),
        ("bert", "architectures", 3),
        ("modernbert", "max_position_embeddings", 2**31 - 1),
        ("modernbert", "layer_types", [["full_attention"]]),
        ("modernbert", "layer_types", "full_attention"),
        ("modernbert", "rope_parameters", "default"),
        ("modernbert", "rope_parameters", {"full_attention": [1]}),
        ("modernbert", "rope_scaling", ["linear"]),
    ],
)
def test_a_field_of_another_type_is_refused_in_words(
    tmp_path: Path, architecture: str, field: str, value: Any
) -> None:
    """Found by ``tests/fuzz``: each ended in a TypeError or an AttributeError."""
    save_model(tmp_path, architecture, "encoder", layers=1)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    with pytest.raises(
        CheckpointError, match=field.partition(".")[0] if field != "hidden_act" else "activation"
    ):
        read_config(Checkpoint.open(tmp_path))
