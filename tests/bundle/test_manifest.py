"""The manifest says only what it may, and says it clearly when it may not."""

from __future__ import annotations

import json
import re
from typing import Any, Dict

import pytest

from obert_edge.bundle.manifest import (
    FORMAT_VERSION,
    BoardFacts,
    LinearFacts,
    Manifest,
    ModuleFacts,
    QualityFacts,
    TaskFacts,
)
from obert_edge.bundle.records import DEEPEST
from obert_edge.errors import BundleError
from tests.bundle.samples import sample_manifest


def changed(**changes: Any) -> bytes:
    fields: Dict[str, Any] = json.loads(sample_manifest().to_json())
    fields.update(changes)
    return json.dumps(fields).encode()


def with_modules(*modules: Dict[str, Any]) -> Dict[str, Any]:
    """The task of an encoder with modules, each a dense one from 8 or 4 to 4 channels with changes."""
    dense = {"type": "dense", "outputs": 4, "activation": "tanh", "bias": True}
    listed = [{**dense, "inputs": 4 if index else 8, **module} for index, module in enumerate(modules)]
    return {"type": "encoder", "modules": listed}


def test_the_sparsity_of_the_encoder_counts_the_linears_of_its_layers_alone() -> None:
    shape = {"format": "DENSE_4", "bytes": 1, "cost": 1.0, "dense_cost": 1.0, "per_token": True}
    linears = [
        LinearFacts("bert.encoder.layer.0.attention.self.query", 8, 8, 0.75, **shape),
        LinearFacts("bert.encoder.layer.11.output.dense", 8, 24, 0.95, **shape),
        LinearFacts("bert.pooler.dense", 8, 8, 0.0, **shape),
        LinearFacts("classifier", 2, 8, 0.01, **shape),
    ]
    manifest = sample_manifest(linears=linears)
    assert manifest.encoder_sparsity == pytest.approx(0.9)
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert b"encoder_sparsity" not in manifest.to_json()
    assert sample_manifest(linears=linears[2:]).encoder_sparsity == 0


def test_the_quality_says_what_each_of_its_cosines_is_of() -> None:
    text = QualityFacts("float", 32, 0.99912, 0.98765, 32, 1.0).summary
    assert text == (
        "cosine 0.999 between all outputs on 32 texts and the float model's, text by text at least 0.988, "
        "100.0 % of 32 answers alike"
    )


def test_modules_come_back_with_the_shapes_of_their_weights() -> None:
    modules = [
        ModuleFacts("pooling", 8, 16, modes=["max", "cls"], include_prompt=False),
        ModuleFacts("dense", 16, 4, activation="gelu", bias=True, residual=True),
        ModuleFacts("dense", 4, 4, residual=True),
        ModuleFacts("layer_norm", 4, 4, epsilon=1e-5),
        ModuleFacts("normalize", 4, 4),
    ]
    task = TaskFacts("encoder", modules=modules, prompts={"query": "q: "}, default_prompt_name="query")
    assert Manifest.from_json(sample_manifest(task=task).to_json()).task == task
    shapes = [[], [(4, 16), (4,), (4, 16)], [(4, 4)], [(4,), (4,)], []]
    assert [module.shapes for module in modules] == shapes


@pytest.mark.parametrize(
    ("fields", "reader"),
    [
        ({"pooling": "mean", "normalize": True}, 1),
        ({"prompts": {"query": "q"}, "similarity": "dot"}, 1),
        ({"prompts": {"query": "q"}, "default_prompt_name": "query"}, 3),
        ({"truncate_dim": 8}, 3),
        ({"function": "sigmoid"}, 3),
        ({"modules": [ModuleFacts("normalize", 4, 4)]}, 3),
    ],
)
def test_what_an_older_reader_would_answer_wrongly_needs_a_newer_one(
    fields: Dict[str, Any], reader: int
) -> None:
    assert TaskFacts("encoder", **fields).minimum_reader == reader


def test_json_gives_the_same_manifest_back() -> None:
    manifest = sample_manifest()
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_boards_come_back_and_may_be_absent() -> None:
    boards = [BoardFacts("Raspberry Pi 4", 4, 1 << 18)]
    assert Manifest.from_json(sample_manifest(boards=boards).to_json()).boards == boards
    fields = json.loads(sample_manifest(boards=boards).to_json())
    del fields["boards"]
    assert Manifest.from_json(json.dumps(fields).encode()).boards == []


def test_facts_a_later_writer_adds_are_ignored() -> None:
    assert Manifest.from_json(changed(color="green", format_version=7)).target == "x86"


def test_a_newer_format_says_which_reader_it_needs() -> None:
    needed = FORMAT_VERSION + 1
    with pytest.raises(
        BundleError, match=f"needs a reader of version {needed}.*up to {FORMAT_VERSION}"
    ) as caught:
        Manifest.from_json(changed(minimum_reader=needed, format_version=needed))
    assert "upgrade" in caught.value.hint


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"target": 3}, "manifest.target = 3, expected str"),
        ({"model": []}, "manifest.model that is not a JSON object"),
        ({"model": {"hidden": 8}}, "lacks manifest.model.architecture"),
        ({"outputs": {}}, "manifest.outputs that is not a list"),
        ({"outputs": [{"name": "x", "domain": "pixels", "channels": 1}]}, "domain 'pixels'"),
        ({"outputs": [{"name": "x", "domain": "tokens", "channels": True}]}, "channels = True, expected int"),
        ({"task": {"type": "poetry"}}, "task 'poetry'"),
        ({"members": {"a": {"sha256": "00", "bytes": "9"}}}, "expected int"),
        ({"boards": [{"model": "Pi", "threads": 0, "cache": 0}]}, "the board 'Pi' 0 threads"),
        ({"boards": [{"model": "", "threads": 1, "cache": 0}]}, "the board ''"),
        ({"boards": [{"model": "Pi", "threads": 1, "cache": -1}]}, "-1 bytes of cache"),
        ({"task": {"type": "encoder", "similarity": "maxsim"}}, "the similarity 'maxsim'; known are cosine"),
        ({"task": {"type": "encoder", "function": "exp"}}, "the function 'exp'"),
        ({"task": {"type": "encoder", "default_prompt_name": "q"}}, "the default prompt 'q'; known are none"),
        ({"task": {"type": "encoder", "truncate_dim": -1}}, "keeps -1 numbers"),
        ({"task": with_modules({"type": "lstm"})}, "module 0 of type 'lstm'"),
        ({"task": with_modules({"activation": "swish"})}, "module 0 with the activation 'swish'"),
        ({"task": with_modules({"type": "pooling"})}, "module 0, pooling, with the pooling modes []"),
        ({"task": with_modules({"type": "pooling", "modes": ["median"]})}, "the pooling modes ['median']"),
        ({"task": with_modules({}, {"type": "pooling", "modes": ["max"]})}, "module 1, pooling, with the"),
        ({"task": with_modules({}, {"inputs": 8})}, "module 1 8 inputs; the one before writes 4"),
        ({"task": with_modules({"outputs": 0})}, "from 8 to 0 channels"),
        ({"task": with_modules({"type": "layer_norm"})}, "module 0, layer_norm, from 8 to 4 channels"),
        ({"format_version": "1"}, "lacks format_version or minimum_reader"),
        ({"minimum_reader": None}, "lacks format_version or minimum_reader"),
    ],
)
def test_wrong_fields_are_named(changes: Dict[str, Any], complaint: str) -> None:
    with pytest.raises(BundleError, match=re.escape(complaint)):
        Manifest.from_json(changed(**changes))


@pytest.mark.parametrize("text", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_manifest_is_refused(text: bytes) -> None:
    with pytest.raises(BundleError, match="manifest"):
        Manifest.from_json(text)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"sparsity": 10**400}, "manifest.sparsity of 1329 bits"),
        (
            {"outputs": [{"name": "logits", "domain": "sequences", "channels": 2**40}]},
            "1099511627776 channels",
        ),
        (
            {"outputs": [{"name": "probabilities", "domain": "sequences", "channels": 2}]},
            "expected {'logits'",
        ),
        ({"outputs": [{"name": "logits", "domain": "tokens", "channels": 2}]}, "expected {'logits': 'seq"),
        ({"outputs": [{"name": "logits", "domain": "sequences", "channels": 2}] * 2}, "gives the outputs"),
        ({"outputs": [{"name": "x", "domain": "sequences", "channels": 2}] * 33}, "lists 33 outputs"),
        ({"task": {"type": "sequence-classification", "labels": ["a"] * 3}}, "3 labels; its logits have 2"),
        ({"reference": {"multiply_add": 0}}, "multiply_add = 0; expected a rate above 0"),
        ({"reference": {"multiply_add": -1.5}}, "expected a rate above 0"),
    ],
)
def test_sizes_that_no_model_has_are_refused(changes: Dict[str, Any], complaint: str) -> None:
    with pytest.raises(BundleError, match=re.escape(complaint)):
        Manifest.from_json(changed(**changes))


@pytest.mark.parametrize(
    ("field", "value"), [("vocabulary", 2**32 + 20), ("max_length", 0), ("pad_id", -1), ("hidden", 2**31)]
)
def test_sizes_of_a_model_fit_the_32_bits_that_the_engine_takes(field: str, value: int) -> None:
    """ctypes would keep the lower half, so that 2^32 + 20 ids would be 20 without a word."""
    model = json.loads(sample_manifest().to_json())["model"]
    with pytest.raises(BundleError, match=f"gives the model {field} {value}"):
        Manifest.from_json(changed(model={**model, field: value}))


def test_a_manifest_with_more_linears_than_any_encoder_is_refused() -> None:
    """60,000 of them took `inspect` half a minute."""
    linear = json.loads(sample_manifest().to_json())["linears"][0]
    with pytest.raises(BundleError, match="lists 60000 linears; expected at most 2048"):
        Manifest.from_json(changed(linears=[linear] * 60_000))


def test_a_million_labels_are_refused() -> None:
    with pytest.raises(BundleError, match="1000000 labels"):
        Manifest.from_json(
            changed(task={"type": "token-classification", "labels": ["a"] * 1_000_000}, outputs=[])
        )


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity"])
def test_numbers_that_json_does_not_have_are_refused(number: bytes) -> None:
    text = sample_manifest().to_json().replace(b'"sparsity": 0.5,', b'"sparsity": ' + number + b",")
    with pytest.raises(BundleError, match="is no number of JSON"):
        Manifest.from_json(text)


@pytest.mark.parametrize("kind", ["list", "object"])
def test_a_value_nested_deeper_than_its_readers_can_follow_is_refused(kind: str) -> None:
    fields = json.loads(sample_manifest().to_json())
    fields["tokenizer"] = {"deep": _nested(DEEPEST - 2, kind)}
    kept = Manifest.from_json(json.dumps(fields).encode())
    assert Manifest.from_json(kept.to_json()) == kept
    for depth in (DEEPEST, 300):
        fields["tokenizer"] = {"deep": _nested(depth, kind)}
        with pytest.raises(BundleError, match=f"nests manifest.tokenizer.* more than {DEEPEST} levels deep"):
            Manifest.from_json(json.dumps(fields).encode())


def _nested(depth: int, kind: str) -> Any:
    value: Any = "core"
    for _ in range(depth):
        value = [value] if kind == "list" else {"a": value}
    return value
