"""A report's numbers are what they are called, and its words are careful."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from obert_edge.device.bench.environment import Environment
from obert_edge.device.bench.interference import Interference
from obert_edge.device.bench.report import Latency, Measurement, Ratio, Report, paired_ratios
from obert_edge.device.roofline.profile import OpTime, Profile
from obert_edge.device.text_table import text_table
from obert_edge.errors import UnsupportedDeviceError, UsageError, VerificationError

MS = 1_000_000


def measured(name: str, ms: float) -> Measurement:
    latency = Latency.from_turns([[int(ms * MS)] * 4])
    return Measurement(name, "avx2", latency, 1e3 / ms, 12.0, 3.0, 50_000_000, 30_000_000, 4_000_000)


def report(ours=2.0, **rounds) -> Report:
    mine = [[int(ours * MS)] * 3] * 10
    return Report(
        bundle={"path": "m.oeb", "layers": 6, "hidden": 384, "encoder_sparsity": 0.8, "target": "x86"},
        batch_size=1,
        sequence_length=128,
        threads=2,
        engine=measured("obert-edge", ours),
        baselines={name: measured(name, turns[0][0] / MS) for name, turns in rounds.items()},
        ratios=paired_ratios(mine, rounds),
        missing={},
        environment=dataclasses.replace(Environment.current(), emulation=None),
    )


def turns(*ms: float):
    return [[int(value * MS)] * 3 for value in ms]


def test_latency_percentiles():
    latency = Latency.from_turns(
        [[value * MS for value in range(1, 41)], [value * MS for value in range(41, 102)]]
    )
    assert (latency.p50, latency.p90, latency.p99, latency.min, latency.mean) == (51, 91, 100, 1, 51)
    assert latency.runs == 101


def test_the_tail_is_that_of_a_turn():
    # the machine was twice as slow in the second turn, and one run of fifty was held up by half
    steady = [2 * MS] * 98 + [3 * MS] * 2
    assert Latency.from_turns([steady, [2 * time for time in steady]]).tail == 1.5


def test_a_few_runs_have_no_tail():
    assert Latency.from_turns([[MS] * 99, [MS] * 200]).tail is None


def test_a_ratio_is_paired_by_round():
    # the machine was twice as slow in the second half: the ratio is 3 all along
    ratio = Ratio.from_rounds(turns(*[1.0] * 5, *[2.0] * 5), turns(*[3.0] * 5, *[6.0] * 5))
    assert (ratio.median, ratio.low, ratio.high, ratio.rounds) == (3, 3, 3, 10)
    assert ratio.significant


def test_a_spread_that_covers_1_is_not_significant():
    unclear = report(onnx=turns(*np.linspace(1.6, 2.6, 10)))
    assert not unclear.ratios["onnx"].significant
    assert "not significant" in unclear.to_text()
    assert unclear.to_dict()["ratios"]["onnx"]["significant"] is False
    clear = report(onnx=turns(*np.linspace(5, 6, 10)))
    assert "not significant" not in clear.to_text()


def test_json_holds_all_there_is():
    found = json.loads(report(fast=turns(*[8.0] * 10)).to_json())
    assert found["speedup"] == {"fast": 4.0}
    assert found["latency_ms"]["p50"] == 2.0
    assert found["engine"]["peak_memory"] == 50_000_000
    assert found["environment"]["cpu"]
    assert found["profile"] is None


@pytest.mark.parametrize("plain", [True, False])
def test_text_names_every_engine_and_the_environment(plain):
    one = dataclasses.replace(report(fast=turns(*[8.0] * 10)), missing={"litert-int8": "not installed"})
    text = one.to_text(plain=plain)
    for part in (
        "6 layers",
        "80 % sparse in the linears of the layers",
        "2 threads",
        "fast avx2",
        "4.00x",
        "litert-int8: not installed",
        "governor",
    ):
        assert part in text


def test_a_least_speedup_is_required_of_the_first_baseline_or_of_each_named():
    one = report(first=turns(*[8.0] * 10), second=turns(*[4.0] * 10))
    one.require(3)
    one.require({"first": 4, "second": 2})
    with pytest.raises(VerificationError, match=r"4\.00, less than 5"):
        one.require(5)
    with pytest.raises(VerificationError, match="second"):
        one.require({"second": 3})
    with pytest.raises(UsageError, match="third"):
        one.require({"third": 3})
    with pytest.raises(UsageError, match="none ran"):
        report().require(3)


def test_under_emulation_no_speedup_is_required_and_the_text_warns():
    real = report(first=turns(*[8.0] * 10))
    emulated = dataclasses.replace(
        real, environment=dataclasses.replace(real.environment, emulation="runs under qemu")
    )
    with pytest.raises(UnsupportedDeviceError, match="qemu"):
        emulated.require(1)
    assert "say nothing" in emulated.to_text()


def test_a_throttled_board_is_warned_about():
    cool = report()
    assert "throttling" not in dataclasses.replace(cool, throttled_after="0x0").to_text()
    assert "throttling" in dataclasses.replace(cool, throttled_after="0x50005").to_text()


def test_a_measurement_with_interference_is_warned_about():
    quiet = dataclasses.replace(report(), interference=Interference(others=0.01, stolen=0.0))
    assert "other processes used 1.0 %" in quiet.to_text()
    assert "WARNING" not in quiet.to_text()
    for interference in (Interference(others=0.2, stolen=0.0), Interference(others=0.0, stolen=0.2)):
        assert "WARNING" in dataclasses.replace(quiet, interference=interference).to_text()


def test_a_profile_sums_kinds_and_shows_what_takes_time():
    ops = [
        OpTime(
            "query", "Linear dense_4", 3.0, 2.0, 0.6, 6_000_000, 2.0, 1_000_000, "multiply-adds", 1.0, 0.5
        ),
        OpTime("key", "Linear dense_4", 1.99, 2.0, 0.398, 2_000_000, 1.0, 500_000, "memory", 0.5, 0.25),
        OpTime("tiny", "Output", 0.01, 0.01, 0.002, 0, 0.0, 0),
    ]
    profile = Profile(ops, runs=7)
    both = profile.kinds()[0]
    assert (both.multiply_adds, both.bytes_moved, both.bound) == (8_000_000, 1_500_000, "multiply-adds")
    assert both.reached == pytest.approx(1.5 / 4)
    text = profile.to_text(plain=True)
    assert "Linear dense_4 x2" in text
    assert "8.00 M" in text  # of both
    assert "query" in text
    assert "\ntiny" not in text
    assert "medians of 7 runs" in text


def test_plain_tables_line_up():
    assert text_table(["a", "n"], [["x", "10"], ["long", "5"]], plain=True).splitlines() == [
        "a      n",
        "----  --",
        "x     10",
        "long   5",
    ]
