"""A benchmark runs each engine in its own process, turn by turn."""

from __future__ import annotations

import pytest

import obert_edge
from obert_edge.bundle.container import Bundle
from obert_edge.device.bench import benchmark as module
from obert_edge.device.bench.benchmark import benchmark
from obert_edge.device.bench.comparison import OUR_ENGINE, Comparison
from obert_edge.device.bench.engine_process import EngineProcess
from obert_edge.device.runtime import machine
from obert_edge.errors import BundleError, ObertEdgeError, UnsupportedDeviceError, UsageError


def test_iterations_are_split_over_rounds(classifier):
    steps = []
    report = benchmark(
        classifier,
        iterations=20,
        rounds=6,
        sequence_length=16,
        batch_size=2,
        threads=1,
        progress=lambda *step: steps.append(step),
    )
    assert report.latency_ms.runs == 20
    assert (report.batch_size, report.sequence_length, report.threads) == (2, 16, 1)
    assert report.engine.throughput == pytest.approx(2e3 / report.latency_ms.p50)
    assert report.engine.peak_memory >= report.engine.start_memory > 0
    assert report.engine.model_bytes == classifier.stat().st_size
    assert steps[-1] == ("measuring", 6, 6)
    assert report.speedup == {}


def test_a_profile_has_every_op_of_the_program(classifier):
    report = obert_edge.benchmark(
        classifier, threads=1, implementation="scalar", iterations=3, sequence_length=8, profile=True
    )
    assert report.engine.implementation == "scalar"
    assert report.threads == 1
    with Bundle.open(classifier) as bundle:
        assert len(report.profile.ops) == len(bundle.program.ops)
    assert sum(op.share for op in report.profile.ops) == pytest.approx(1)
    query = next(op for op in report.profile.ops if op.name.endswith("layer.0.attention.self.query"))
    assert query.multiply_adds >= 32 * 32 * 8 * 0.9


def test_engine_and_baselines_are_compared_in_one_interleaved_run(classifier):
    pytest.importorskip("onnxruntime")
    report = benchmark(
        classifier, baselines=["onnxruntime-fp32"], iterations=6, rounds=3, sequence_length=8, threads=1
    )
    assert list(report.baselines) == ["onnxruntime-fp32"]
    assert report.ratios["onnxruntime-fp32"].rounds == 3
    assert report.baselines["onnxruntime-fp32"].latency_ms.runs == 6
    assert report.environment.packages["onnxruntime-fp32"]
    assert report.speedup["onnxruntime-fp32"] == report.ratios["onnxruntime-fp32"].median


def test_a_baseline_that_is_not_installed_is_reported_unless_it_was_named_exactly(classifier, monkeypatch):
    def refuse(stack, comparison, *rest):
        raise UnsupportedDeviceError(f"{comparison.label} needs onnx", hint="run `pip install onnx`")

    monkeypatch.setattr(module, "_load_comparison", refuse)
    options = {"iterations": 2, "sequence_length": 8, "threads": 1}
    report = benchmark(classifier, baselines=["onnxruntime"], **options)
    assert set(report.missing) == {"onnxruntime-fp32", "onnxruntime-int8"}
    assert "pip install" in report.missing["onnxruntime-fp32"]
    with pytest.raises(UnsupportedDeviceError, match="onnxruntime-int8"):
        benchmark(classifier, baselines=["onnxruntime", "onnxruntime-int8"], **options)


def test_our_engine_is_compared_with_itself_on_other_threads_and_with_other_kernels(classifier):
    baselines = [
        Comparison(OUR_ENGINE, threads=2),
        Comparison(OUR_ENGINE, implementation="scalar", name="plain"),
    ]
    report = benchmark(classifier, baselines=baselines, iterations=4, rounds=2, sequence_length=8, threads=1)
    assert list(report.ratios) == ["obert-edge on 2 threads", "plain"]
    assert report.baselines["plain"].implementation == "scalar"
    assert report.engine.implementation == report.baselines["obert-edge on 2 threads"].implementation


def test_a_baseline_can_run_another_bundle(classifier, roberta_tagger):
    pytest.importorskip("onnxruntime")
    baseline = Comparison("onnxruntime-fp32", bundle=roberta_tagger, name="onnxruntime of the tagger")
    report = benchmark(classifier, baselines=[baseline], iterations=2, sequence_length=8, threads=1)
    same = benchmark(classifier, baselines=["onnxruntime-fp32"], iterations=2, sequence_length=8, threads=1)
    other = report.baselines["onnxruntime of the tagger"].model_bytes
    assert other > same.baselines["onnxruntime-fp32"].model_bytes  # its vocabulary is larger


def test_sequences_of_different_lengths_are_padded_for_all_and_skipped_by_ours(classifier):
    pytest.importorskip("onnxruntime")
    report = benchmark(
        classifier, lengths=[5, 24, 9], baselines=["onnxruntime-fp32"], iterations=3, threads=1, profile=True
    )
    assert (report.batch_size, report.sequence_length, report.lengths) == (3, 24, [5, 24, 9])
    assert "5 to 24 (38 tokens in all)" in report.to_text()
    query = next(op for op in report.profile.ops if op.name.endswith("layer.0.attention.self.query"))
    assert query.multiply_adds < 32 * 32 * 3 * 24
    with pytest.raises(UsageError, match="sequence_length is 97"):
        benchmark(classifier, lengths=[4, 97])
    with pytest.raises(UsageError, match="sequence_length is 0"):
        benchmark(classifier, lengths=[4, 0])


def test_under_emulation_baselines_are_not_run(classifier, monkeypatch):
    monkeypatch.setattr(machine, "emulation", lambda: "this Python runs under qemu-aarch64")
    report = benchmark(classifier, baselines=["onnxruntime"], iterations=2, sequence_length=8, threads=1)
    assert report.speedup == {}
    assert "qemu" in report.missing["onnxruntime-fp32"]


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"sequence_length": 97}, "up to 96"),
        ({"threads": 0}, "threads is 0"),
        ({"iterations": 0}, "iterations is 0"),
        ({"rounds": 0}, "rounds is 0"),
        ({"duration": -1.0}, "duration is -1"),
        ({"baselines": ["tensorrt"]}, "tensorrt"),
    ],
)
def test_arguments_out_of_range_are_usage_errors(classifier, options, found):
    with pytest.raises(UsageError, match=found):
        benchmark(classifier, **{"sequence_length": 8, **options})


def test_errors_of_the_worker_are_raised_here_as_they_were_there(tmp_path):
    with EngineProcess("obert-edge") as process, pytest.raises(BundleError, match="no bundle"):
        process.call("load_bundle", path=str(tmp_path / "missing.oeb"), threads=1, implementation=None)


def test_a_worker_that_dies_is_named_with_how_it_died(classifier):
    with EngineProcess("some-engine") as process:
        process._process.kill()
        process._process.wait()
        with pytest.raises(ObertEdgeError, match="some-engine was ended by SIGKILL") as caught:
            process.call("memory")
    assert "memory" in caught.value.hint


def test_workers_end_with_the_benchmark(classifier, monkeypatch):
    started = []

    class Recorded(EngineProcess):
        def __init__(self, name):
            super().__init__(name)
            started.append(self._process)

    monkeypatch.setattr(module, "EngineProcess", Recorded)
    benchmark(classifier, iterations=1, sequence_length=8, threads=1)
    assert [process.poll() for process in started] == [0]
