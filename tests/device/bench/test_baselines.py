"""Every baseline runs the bundle's model, and says what it lacks."""

from __future__ import annotations

import importlib.util
import re

import numpy as np
import pytest

from obert_edge.device.bench.baselines import ENGINES, NAMES, expand_baselines, get_baseline
from obert_edge.device.bench.baselines.onnxruntime_cpu import OnnxRuntimeFp32
from obert_edge.device.export.evaluate import evaluate
from obert_edge.errors import BundleError, UnsupportedDeviceError, UsageError
from tests.device.export.test_dense import DENSE
from tests.device.samples import BATCH, SEQUENCE


def optional(name):
    """A baseline whose package is an extra of its own."""
    missing = importlib.util.find_spec("openvino") is None
    return pytest.param(name, marks=pytest.mark.skipif(missing, reason="openvino is not installed"))


FLOAT = ["onnxruntime-fp32", "litert-fp32", optional("openvino-fp32")]
INT8 = ["onnxruntime-int8", "litert-int8", optional("openvino-int8")]
ALL = [*FLOAT, *INT8]
#: Some of the heads, over all architectures.
SAMPLED = [case for i, case in enumerate(DENSE) if i % 6 in (0, 1)]
#: With many outputs: a few logits of a random model are too coarse a thing to correlate.
WIDE = [case for case in DENSE if case[1] == "token-classification"]


def run(name, sample, workdir):
    baseline = get_baseline(name)
    artifact = baseline.prepare(sample.bundle, workdir, batch_size=BATCH, sequence_length=SEQUENCE)
    return baseline.load(artifact, threads=1)(*sample.inputs)


def correlation(ours, theirs):
    return np.corrcoef(np.ravel(ours), np.ravel(theirs))[0, 1]


@pytest.mark.parametrize("name", FLOAT)
@pytest.mark.parametrize(("architecture", "task"), SAMPLED)
def test_a_float_baseline_computes_the_dense_model(make_sample, tmp_path, name, architecture, task):
    sample = make_sample(architecture, task)
    results = run(name, sample, tmp_path)
    expected = evaluate(sample.model, *sample.inputs)
    assert [result.shape for result in results] == [value.shape for value in expected]
    for ours, theirs in zip(sample.real(results), sample.real(expected)):
        np.testing.assert_allclose(ours, theirs, atol=2e-4)


@pytest.mark.parametrize("name", INT8)
@pytest.mark.parametrize(("architecture", "task"), WIDE)
def test_an_int8_baseline_stays_close_to_it(make_sample, tmp_path, name, architecture, task):
    sample = make_sample(architecture, task)
    expected = sample.real(evaluate(sample.model, *sample.inputs))
    for ours, theirs in zip(sample.real(run(name, sample, tmp_path)), expected):
        assert correlation(ours, theirs) > 0.97


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("activation", ["gelu_new", "relu", "silu"])
def test_every_activation_is_translated(make_sample, tmp_path, name, activation):
    sample = make_sample("bert", hidden_act=activation)
    expected = evaluate(sample.model, *sample.inputs)[0]
    # On a CPU without VNNI, ONNX Runtime's products of eight bits saturate.
    tolerance = 1e-3 if name.endswith("fp32") else 0.5
    np.testing.assert_allclose(run(name, sample, tmp_path)[0], expected, atol=tolerance)


@pytest.mark.parametrize("architecture", ["bert", "roberta"])
def test_the_engine_and_the_float_baseline_agree(make_sample, tmp_path, architecture):
    sample = make_sample(architecture, "token-classification")
    (baseline,) = sample.real(run("onnxruntime-fp32", sample, tmp_path))
    (engine,) = sample.engine()
    assert correlation(baseline, engine) > 0.995


def test_onnx_takes_any_shape(make_sample, tmp_path):
    sample = make_sample("bert", "token-classification")
    baseline = get_baseline("onnxruntime-int8")
    artifact = baseline.prepare(sample.bundle, tmp_path, batch_size=1, sequence_length=1)
    session = baseline.load(artifact, threads=1)
    for shape in ((1, 1), (3, 50)):
        ids = np.full(shape, 20)
        assert session(ids, np.ones_like(ids), np.zeros_like(ids))[0].shape == (*shape, 3)


@pytest.mark.parametrize("name", ALL)
def test_a_sequence_longer_than_the_model_takes_is_refused(make_sample, tmp_path, name):
    sample = make_sample("bert")
    with pytest.raises(UsageError, match="67 was asked for; this model takes 1 to 66"):
        get_baseline(name).prepare(sample.bundle, tmp_path, batch_size=1, sequence_length=67)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ALL)
def test_a_file_that_is_no_bundle_is_refused(tmp_path, name):
    other = tmp_path / "model.oeb"
    other.write_bytes(b"something else")
    with pytest.raises(BundleError):
        get_baseline(name).prepare(other, tmp_path, batch_size=1, sequence_length=8)


def test_an_engine_stands_for_its_baselines():
    assert expand_baselines("onnxruntime") == ["onnxruntime-fp32", "onnxruntime-int8"]
    assert expand_baselines("litert") == ["litert-fp32", "litert-int8"]
    assert expand_baselines("litert-int8") == ["litert-int8"]


@pytest.mark.parametrize("lookup", [expand_baselines, get_baseline])
def test_an_unknown_name_is_refused_with_the_known_ones(lookup):
    with pytest.raises(UsageError) as caught:
        lookup("tensorrt")
    assert all(name in str(caught.value) for name in NAMES)


@pytest.mark.parametrize("name", ALL)
def test_a_baseline_knows_its_version(name):
    assert get_baseline(name).version[0].isdigit()


def test_every_name_has_a_baseline():
    assert [get_baseline(name).name for name in NAMES] == NAMES
    assert [name for engine in ENGINES for name in expand_baselines(engine)] == NAMES


def test_a_missing_package_is_named_with_the_line_that_installs_it(tmp_path):
    class Uninstalled(OnnxRuntimeFp32):
        engine = ("no_such_engine", "no-such-engine")
        converter = ("no_such_converter", "no-such-converter")

    with pytest.raises(UnsupportedDeviceError, match="pip install no-such-engine`"):
        Uninstalled().load(tmp_path, 1)
    # Who is told of one missing package at a time has to come back for the next.
    both = "needs no-such-converter and no-such-engine.*\n.*pip install no-such-converter no-such-engine`"
    with pytest.raises(UnsupportedDeviceError) as caught:
        Uninstalled().prepare(tmp_path / "model.oeb", tmp_path, batch_size=1, sequence_length=8)
    assert re.search(both, str(caught.value))
    Uninstalled.engine = OnnxRuntimeFp32.engine
    with pytest.raises(UnsupportedDeviceError) as caught:
        Uninstalled().prepare(tmp_path / "model.oeb", tmp_path, batch_size=1, sequence_length=8)
    assert "pip install no-such-converter`" in str(caught.value)
