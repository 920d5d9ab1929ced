"""quantization.json: the quantizers of docs/architecture.md, and nothing vague."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest

from obert_edge.bundle.program import DType
from obert_edge.errors import CheckpointError
from obert_edge.host.checkpoints.scales import QuantParams, Scales

QUANTIZERS: Dict[str, Any] = {
    "bert.layer.query:input": {"scale": 0.1, "zero_point": 117},
    "bert.layer:query": {"scale": 0.03, "zero_point": 128},
    "bert.layer:key": {"scale": 0.04, "zero_point": 0},
    "bert.layer:value": {"scale": 0.02, "zero_point": 0},
    "classifier:input": {"scale": 1, "zero_point": 0},
}


def content(**changes: Any) -> Dict[str, Any]:
    return {"format": 1, "method": "qat", "activations": "static", "sites": QUANTIZERS, **changes}


def test_a_folder_without_the_file_has_no_scales(tmp_path: Path) -> None:
    assert Scales.load(tmp_path, "bert.") is None
    (tmp_path / "quantization.json").write_text(json.dumps(content()))
    scales = Scales.load(tmp_path, "bert.")
    assert scales is not None and scales.activations == "static" and scales.method == "qat"


@pytest.mark.parametrize("module", ["bert.layer.query", "layer.query"])
def test_a_quantizer_is_found_with_and_without_the_encoders_prefix(module: str) -> None:
    scales = Scales.from_mapping(content(), "bert.")
    assert scales.linear_input(module) == QuantParams(np.float32(0.1), 117)
    stripped = {name.replace("bert.", ""): quantizer for name, quantizer in QUANTIZERS.items()}
    assert Scales.from_mapping(content(sites=stripped), "bert.").linear_input(module).zero_point == 117


def test_attention_has_an_unsigned_query_and_signed_keys_and_values() -> None:
    operands = Scales.from_mapping(content(), "bert.").attention("bert.layer")
    assert operands["query"] == QuantParams(np.float32(0.03), 128, DType.U8)
    assert operands["key"] == QuantParams(np.float32(0.04), 0, DType.S8)
    assert (operands["query"].limits, operands["value"].limits) == ((0, 255), (-127, 127))


def test_the_inverse_scale_is_one_float32_division() -> None:
    params = QuantParams(np.float32(0.3), 0)
    assert params.inv_scale == float(np.float32(1) / np.float32(0.3)) != 1 / 0.3


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"format": 5}, "has format 5.*reads 1, 2, 3, 4"),
        ({"activations": "some"}, "activations 'some'"),
        ({"sites": None}, "sites of type NoneType; expected .* an object 'sites'"),
        ({"sites": {"x:input": {"scale": 0, "zero_point": 0}}}, "'x:input'"),
        ({"sites": {"x:input": {"scale": float("inf"), "zero_point": 0}}}, "'x:input'"),
        ({"sites": {"x:input": {"scale": 1e-60, "zero_point": 0}}}, "'x:input'"),
        ({"sites": {"x:input": {"scale": 1.0, "zero_point": 256}}}, "'x:input'"),
        ({"sites": {"x:input": {"scale": 1.0, "zero_point": 1.5}}}, "'x:input'"),
        ({"sites": {"x:input": 3}}, "'x:input'"),
    ],
)
def test_what_is_not_as_documented_is_refused(changes: Dict[str, Any], complaint: str) -> None:
    with pytest.raises(CheckpointError, match=complaint):
        Scales.from_mapping(content(**changes), "bert.")


def test_missing_and_impossible_quantizers_are_named() -> None:
    scales = Scales.from_mapping(content(), "bert.")
    with pytest.raises(CheckpointError, match="no scale for 'bert.pooler:input'"):
        scales.linear_input("bert.pooler")
    lopsided = {**QUANTIZERS, "bert.layer:key": {"scale": 0.1, "zero_point": 3}}
    with pytest.raises(CheckpointError, match="bert.layer:key the zero point 3"):
        Scales.from_mapping(content(sites=lopsided), "bert.").attention("bert.layer")


def test_word_embeddings_are_int8_unless_the_record_says_int4() -> None:
    assert Scales.from_mapping(content(), "bert.").embeddings == "int8"
    assert Scales.from_mapping(content(format=3, embeddings="int4"), "bert.").embeddings == "int4"
    with pytest.raises(CheckpointError, match="has embeddings 'int2', expected one of int8, int4"):
        Scales.from_mapping(content(format=3, embeddings="int2"), "bert.")


@pytest.mark.parametrize(
    ("activations", "known", "other"),
    [("static", False, False), ("dynamic", True, True), ("mixed", False, True)],
)
def test_mixed_activations_have_a_scale_per_token_where_the_file_has_none(
    activations: str, known: bool, other: bool
) -> None:
    scales = Scales.from_mapping(content(format=4, activations=activations), "bert.")
    assert scales.per_token("bert.layer.query") is known
    assert scales.per_token("layer.query") is known
    assert scales.per_token("bert.layer.output") is other
