"""``build --tflite``: dense INT8 with the bundle's parameters, checked by every runtime that loads it."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from obert_edge.bundle.container import Bundle
from obert_edge.cli import run_command
from obert_edge.device.export.dense import Dense, read_dense_model
from obert_edge.device.export.litert_runtime import load_tflite, read_case
from obert_edge.device.runtime.session import load
from obert_edge.errors import BundleError, InputError, UnsupportedDeviceError, UsageError, VerificationError
from tests.emulation.bundles import make_bundle


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A bundle, and the .tflite the command line writes beside it."""
    pytest.importorskip("ai_edge_litert")
    bundle = make_bundle(tmp_path_factory.mktemp("model"), "x86")
    output = bundle.parent / "model.oeb"
    assert run_command(["build", str(bundle.parent), "-o", str(output), "--tflite"]) == 0
    return output, output.with_suffix(".tflite")


def test_it_answers_as_the_bundle_does_but_for_8_bit_steps(built):
    bundle, tflite = built
    case = read_case(tflite)
    with load(bundle) as session:
        ours = session.run(input_ids=case["ids"], attention_mask=case["mask"], token_type_ids=case["types"])
    (theirs,) = load_tflite(tflite, threads=1)(case["ids"], case["mask"], case["types"])
    np.testing.assert_allclose(theirs, ours["logits"], atol=0.3 * np.abs(ours["logits"]).max())


def test_arrays_of_another_size_are_refused_with_the_size_it_takes(built):
    run = load_tflite(built[1], threads=1)
    length = read_case(built[1])["ids"].shape[1]
    whole, short = np.ones((1, length), np.int64), np.ones((1, 5), np.int64)
    for arrays, name, found in (
        ((short, short, short), "ids", [1, 5]),
        ((whole, short, whole), "mask", [1, 5]),
        ((np.ones((2, length), np.int64),) * 3, "ids", [2, length]),
        ((whole[0],) * 3, "ids", [length]),
    ):
        with pytest.raises(InputError) as caught:
            run(*arrays)
        assert f"{name} has the shape {found}; {built[1]} takes [1, {length}]" in caught.value.message
        assert f"pad or cut each sequence to {length} tokens" in caught.value.hint
    run(whole, whole, whole)


def test_the_same_command_writes_the_compiled_graph_for_our_delegate(built):
    bundle, dense = built
    case = read_case(dense)
    run = load_tflite(bundle.with_suffix(".obert-edge.tflite"), threads=1)
    with load(bundle) as session:
        ours = session.run(input_ids=case["ids"], attention_mask=case["mask"], token_type_ids=case["types"])
    assert run(case["ids"], case["mask"], case["types"])[0].tobytes() == ours["logits"].tobytes()


def test_the_case_is_the_longest_embedded_sequence_that_fits(built):
    bundle, tflite = built
    case = read_case(tflite)
    with Bundle.open(bundle) as opened:
        longest = max(int(end - begin) for c in opened.cases for begin, end in zip(c.starts, c.starts[1:]))
        assert case["ids"].shape == (1, opened.manifest.model.max_length)
    assert case["mask"].sum() == longest


def test_a_runtime_that_computes_nonsense_is_noticed(built, tmp_path):
    """As tflite-runtime 2.14 does on some models; here it is the weights that are not what they were."""
    bundle, tflite = built
    data = tflite.read_bytes()
    for op in read_dense_model(bundle).ops:
        if isinstance(op, Dense):
            weights = np.ascontiguousarray(op.weight_q, np.int8).tobytes()
            data = data.replace(weights, bytes(len(weights)))
    assert data != tflite.read_bytes()
    spoiled = tmp_path / "spoiled.tflite"
    spoiled.write_bytes(data)
    with pytest.raises(VerificationError, match="gives other results here"):
        load_tflite(spoiled)


@pytest.mark.parametrize("keep", [0, 7, 40, 1000])
def test_a_truncated_file_is_refused(built, tmp_path, keep):
    short = tmp_path / "short.tflite"
    short.write_bytes(built[1].read_bytes()[:keep])
    with pytest.raises(BundleError):
        load_tflite(short)


def test_a_tflite_of_others_is_refused(built, tmp_path):
    other = tmp_path / "other.tflite"
    other.write_bytes(built[1].read_bytes().replace(b"obert_edge.case", b"something_else_"))
    with pytest.raises(BundleError, match="carries no case"):
        load_tflite(other)


def test_no_file_is_said(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        load_tflite(tmp_path / "none.tflite")


def test_no_runtime_is_said(built, monkeypatch):
    for name in ("ai_edge_litert.interpreter", "tflite_runtime.interpreter"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UnsupportedDeviceError, match="pip install ai-edge-litert"):
        load_tflite(built[1])
