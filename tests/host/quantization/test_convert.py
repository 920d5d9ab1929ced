"""Every linear, embedding and attention of a supported model is swapped, under its old name."""

from __future__ import annotations

import copy

import pytest
import torch
import transformers
from torch import nn

from obert_edge.errors import CheckpointError, UsageError
from obert_edge.host.architectures import ARCHITECTURES as KNOWN
from obert_edge.host.quantization import is_quantized, quantize_model, quantizers, set_observers
from obert_edge.host.quantization.convert import embeddings_of
from obert_edge.host.quantization.modules import QuantEmbedding, QuantLinear
from tests.host.quantization.tiny_models import ARCHITECTURES, MODELS, make_batch, make_model

every_model = pytest.mark.parametrize("architecture, head", MODELS)


@every_model
def test_every_linear_and_embedding_is_swapped_and_no_key_is_renamed(architecture, head):
    model = make_model(architecture, head)
    before = set(model.state_dict())
    parameters = {name: id(parameter) for name, parameter in model.named_parameters()}
    assert quantize_model(model) is model
    kinds = {type(module) for module in model.modules()}
    linears = [name for name, module in model.named_modules() if type(module) is nn.Linear]
    # Its columns are quantized with those of the decoder, which it is a part of.
    joined = (architecture, head) == ("MobileBert", "ForMaskedLM")
    assert linears == (["cls.predictions.dense"] if joined else [])
    kept = [name for name, module in model.named_modules() if type(module) is nn.Embedding]
    # Added to scores in float, or what the compiler makes the rows of.
    assert all(name.endswith(("relative_attention_bias", "rel_embeddings")) for name in kept)
    assert {QuantLinear, QuantEmbedding} <= kinds
    added = set(model.state_dict()) - before
    assert before <= set(model.state_dict())
    assert all(".input." in key or ".quantizers." in key for key in added)
    assert parameters == {name: id(parameter) for name, parameter in model.named_parameters()}


@every_model
@pytest.mark.parametrize("activations", ["static", "dynamic"])
def test_one_step_of_training_reaches_every_parameter(architecture, head, activations):
    model = quantize_model(make_model(architecture, head), activations).train()
    sum(value.square().sum() for value in model(**make_batch()).values()).backward()
    missing = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert missing in ([], ["bert.pooler.dense.weight", "bert.pooler.dense.bias"])
    assert all(quantizer.ready for quantizer in quantizers(model).values())


def test_quantizers_are_named_as_transformers_names_its_modules():
    model = quantize_model(make_model("Bert"))
    layer = "bert.encoder.layer.0."
    self_attention = f"{layer}attention.self"
    expected = [f"{self_attention}:{which}" for which in ("query", "key", "value")]
    expected += [f"{self_attention}.{which}:input" for which in ("query", "key", "value")]
    expected += [f"{layer}{name}.dense:input" for name in ("attention.output", "intermediate", "output")]
    found = quantizers(model)
    assert sorted(expected) == sorted(name for name in found if name.startswith(layer))
    assert {"bert.pooler.dense:input", "classifier:input"} <= set(found)
    assert all(quantizer.name for quantizer in found.values())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_query_key_and_value_share_the_range_of_their_input(architecture):
    """Behind a bottleneck queries and keys alone."""
    model = quantize_model(make_model(architecture))
    known = next(known for known in KNOWN.values() if known.class_prefix == architecture)
    paths = set(known.layer_paths(model.config.to_dict()))
    sharing = known.modules.linears[: 2 if known.bottleneck else 3]
    inputs = {}
    for name, quantizer in quantizers(model).items():
        if name.endswith(tuple(f".{linear}:input" for linear in sharing)):
            inputs.setdefault(name.rsplit(".", 1)[0], set()).add(id(quantizer))
    assert len(inputs) == len(paths)
    assert all(len(shared) == 1 for shared in inputs.values())
    apart = {id(quantizer) for name, quantizer in quantizers(model).items() if name.endswith(".value:input")}
    assert not known.bottleneck or len(apart | set().union(*inputs.values())) == 2 * len(paths)


@pytest.mark.parametrize("architecture", ["NomicBert", "Gte", "EuroBert"])
def test_both_linears_of_a_gated_unit_share_the_range_of_their_input(architecture):
    found = quantizers(quantize_model(make_model(architecture)))
    gates = [name for name in found if name.endswith("gate_proj:input")]
    assert len(gates) == 2
    assert all(found[name] is found[name.replace("gate_proj", "up_proj")] for name in gates)


def test_quantizers_of_layers_that_share_weights_know_how_often_a_batch_passes():
    changes = {"num_hidden_layers": 6, "num_hidden_groups": 2}
    model = quantize_model(make_model("Albert", **changes)).train()
    uses = {name: quantizer.observer.uses for name, quantizer in quantizers(model).items()}
    assert {count for name, count in uses.items() if "albert_layers" in name} == {3}
    assert {count for name, count in uses.items() if "albert_layers" not in name} == {1}
    model(**make_batch())
    assert all(quantizer.ready for quantizer in quantizers(model).values())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_tied_decoder_of_a_masked_language_model_stays_tied(architecture):
    model = quantize_model(make_model(architecture, "ForMaskedLM", tie_word_embeddings=True))
    embeddings = model.get_input_embeddings()
    decoder = model.get_output_embeddings()
    assert isinstance(decoder, QuantLinear)
    assert decoder.weight is embeddings.weight


def test_padding_and_the_other_sequences_of_a_batch_do_not_change_an_answer():
    model = quantize_model(make_model("Bert", "ForTokenClassification")).train()
    batch = make_batch()
    model(**batch)
    set_observers(model.eval(), "frozen")
    together = model(**batch).logits
    for i, length in enumerate(batch["attention_mask"].sum(1).tolist()):
        alone = model(input_ids=batch["input_ids"][i : i + 1, :length]).logits[0]
        torch.testing.assert_close(together[i, :length], alone, rtol=1e-4, atol=1e-4)


def test_a_deep_copy_shares_nothing_with_the_original():
    model = quantize_model(make_model())
    twin = copy.deepcopy(model).train()
    twin(**make_batch())
    assert all(quantizer.ready for quantizer in quantizers(twin).values())
    assert not any(quantizer.ready for quantizer in quantizers(model).values())
    query = twin.bert.encoder.layer[0].attention.self
    assert query.query.input is query.quantizers.input


def test_converting_twice_changes_nothing():
    model = quantize_model(make_model(), "dynamic")
    before = list(model.modules())
    assert list(quantize_model(model, "dynamic").modules()) == before
    with pytest.raises(UsageError, match="already quantized with dynamic"):
        quantize_model(model, "static")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_only_word_embeddings_take_four_bits(architecture):
    model = quantize_model(make_model(architecture), embeddings="int4")
    assert embeddings_of(model) == "int4"
    four = [module for module in model.modules() if isinstance(module, QuantEmbedding) and module.int4]
    assert four == [model.get_input_embeddings()]
    with pytest.raises(UsageError, match="already quantized with static activations and int4 embeddings"):
        quantize_model(model)
    assert embeddings_of(quantize_model(make_model(architecture))) == "int8"


def test_the_model_must_be_a_supported_encoder():
    config = transformers.GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=9)
    with pytest.raises(
        CheckpointError, match=r"\(GPT2Model\) is a 'gpt2' model; supported are bert, distilbert"
    ):
        quantize_model(transformers.GPT2Model(config))
    with pytest.raises(CheckpointError, match="decoder"):
        quantize_model(make_model("Bert", "Model", is_decoder=True))


def test_arguments_are_checked_before_the_model_is_touched():
    model = make_model()
    with pytest.raises(UsageError, match="'int4'.*static, dynamic"):
        quantize_model(model, "int4")
    with pytest.raises(UsageError, match="'int2'.*int8, int4"):
        quantize_model(model, embeddings="int2")
    assert not is_quantized(model)
    with pytest.raises(UsageError, match="'learning'"):
        set_observers(quantize_model(model), "learning")
