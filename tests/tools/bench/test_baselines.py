"""A campaign can be stopped and repeated in parts, and its page says for every goal whether it was met."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from tools.bench import baseline_cases as peer_cases
from tools.bench import baseline_page as peer_page
from tools.bench import baselines as bench_peers
from tools.bench import op_profiles as bench_profile
from tools.bench.baseline_cases import CASES, Case, Goal, Peer
from tools.bench.charts import Bars, Lines, bar_chart, line_chart
from tools.bench.models import Spec

TINY = Spec(layers=1, hidden=48, heads=4, intermediate=96, positions=64, vocabulary=600, sparsity=0.75)
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def campaign(tmp_path, monkeypatch):
    """Two tiny cases in place of the real ones; returns a function that runs the command."""
    one = Case(
        "tiny-threads",
        "tiny, 2 threads over 1",
        TINY,
        1,
        16,
        (Peer("obert-edge", "one thread", threads=1),),
        (Goal("speedup", 1e9, 2e9, "one thread"), Goal("file", 1e9, 5e8, row="file of tiny")),
    )
    padded = dataclasses.replace(
        one, name="tiny-texts", lengths=(3, 16), goals=(Goal("speedup", 1e-9, 1e9, "one thread"),)
    )
    monkeypatch.setattr(sys.modules["peer_cases"], "CASES", CASES)
    for name in list(CASES):
        monkeypatch.delitem(CASES, name)
    for case in (one, padded):
        monkeypatch.setitem(CASES, case.name, case)

    def run(*arguments: str) -> Path:
        command = ["bench_peers", "--models", str(tmp_path / "models"), "--output", str(tmp_path / "out")]
        command += ["--duration", "0.05", "--rounds", "2", "--threads", "1", *arguments]
        monkeypatch.setattr(sys, "argv", command)
        bench_peers.main()
        return tmp_path / "out"

    return run


@pytest.fixture
def avx2_case(monkeypatch):
    """The tiny case in which every engine sees a CPU with AVX2 alone."""
    case = dataclasses.replace(CASES["tiny-threads"], name="tiny-avx2", avx2_cpu=True)
    monkeypatch.setitem(CASES, case.name, case)
    return case.name


def can_mask_cpuid() -> bool:
    flags = bench_peers.CPUINFO.read_text().split() if bench_peers.CPUINFO.exists() else []
    return {"cpuid_fault", "avx2"} <= set(flags)


@pytest.mark.skipif(not can_mask_cpuid(), reason="this CPU or kernel cannot make CPUID fault")
def test_every_engine_can_be_shown_a_cpu_with_avx2_alone(campaign, avx2_case):
    out = campaign("--cases", avx2_case)
    report = json.loads((out / "baselines.json").read_text())["cases"][avx2_case]["report"]
    assert report["engine"]["implementation"] == "avx2"
    assert report["baselines"]["one thread"]["implementation"] == "avx2"
    assert "LD_PRELOAD" not in os.environ


def test_a_machine_that_cannot_mask_cpuid_is_told_so(campaign, avx2_case, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench_peers, "CPUINFO", tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text("flags : fpu avx2\n")
    with pytest.raises(SystemExit):
        campaign("--cases", avx2_case)
    assert "cpuid_fault" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_cases_measured_one_by_one_become_one_page(campaign, tmp_path):
    out = campaign("--cases", "tiny-texts")
    assert set(json.loads((out / "baselines.json").read_text())["cases"]) == {"tiny-texts"}
    out = campaign("--cases", "tiny-threads")
    found = json.loads((out / "baselines.json").read_text())
    assert list(found["cases"]) == ["tiny-threads", "tiny-texts"]
    seconds = [case["wall_seconds"] for case in found["cases"].values()]
    assert found["wall_seconds"] == pytest.approx(sum(seconds), abs=0.2)
    page = (out / "baselines.md").read_text()
    assert "| tiny, 2 threads over 1 | 1 x 16 | one thread | 1e+09x | 2e+09x |" in page
    assert page.count("**missed**") == 1
    assert "3..16" in page
    assert str(tmp_path) not in page + json.dumps(found)


def test_resuming_leaves_out_what_was_measured(campaign, tmp_path, monkeypatch):
    campaign("--cases", "tiny-texts")
    measured = []
    real = bench_peers.measure
    monkeypatch.setattr(
        bench_peers, "measure", lambda case, *rest: measured.append(case.name) or real(case, *rest)
    )
    campaign("--cases", "all", "--resume")
    assert measured == ["tiny-threads"]
    campaign("--cases", "--resume")  # only writes the pages again
    assert measured == ["tiny-threads"]


def test_an_unknown_case_is_a_usage_error(campaign, capsys):
    with pytest.raises(SystemExit) as ended:
        campaign("--cases", "huge")
    assert ended.value.code == 2
    assert "there is no case 'huge'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("metric", "value", "said"),
    [
        ("speedup", 9.9, "**missed**"),
        ("speedup", 10.0, "met"),
        ("speedup", 20.0, "met, aim too"),
        ("load", 20.1, "**missed**"),
        ("load", 20.0, "met"),
        ("load", 9.0, "met, aim too"),
    ],
)
def test_a_goal_is_met_from_its_floor_on(metric, value, said):
    goal = Goal(metric, *((10, 20) if metric == "speedup" else (20, 10)))
    assert peer_page.verdict(goal, value) == said


def test_every_case_of_the_campaign_has_the_peer_of_its_goal():
    cases = peer_cases._cases()
    assert len({case.name for case in cases}) == len(cases)
    for case in cases:
        labels = {peer.label for peer in case.peers}
        speedups = [goal for goal in case.goals if goal.metric == "speedup"]
        assert {goal.peer for goal in speedups} <= labels
        assert all(goal.floor < goal.aim for goal in speedups)
        assert all(goal.row for goal in case.goals if goal.metric != "speedup")


def test_texts_have_the_lengths_that_were_asked_for():
    assert len(peer_cases.SST2_LENGTHS) == 32
    assert all(8 <= length <= 128 for length in peer_cases.SST2_LENGTHS)


def test_a_line_chart_has_a_line_for_every_series():
    series = {"a & b": [(16.0, 2.0), (128.0, 9.0)], "c": [(16.0, 20.0), (384.0, 500.0)]}
    chart = ElementTree.fromstring(line_chart(Lines("t", "x", "y", series)))
    lines = [line.get("points").split() for line in chart.iter(f"{SVG}polyline")]
    heights = [float(point.split(",")[1]) for line in lines for point in line]
    assert heights == sorted(heights, reverse=True)  # larger values are higher up
    assert "a & b" in {text.text for text in chart.iter(f"{SVG}text")}


def test_a_bar_below_its_floor_has_another_color():
    rows = [("met", 2.0, 4.0, 3.0), ("missed", 2.0, None, 1.0)]
    chart = ElementTree.fromstring(bar_chart(Bars("t", "times", rows)))
    met, missed = list(chart.iter(f"{SVG}rect"))[1:]
    assert float(met.get("width")) == pytest.approx(3 * float(missed.get("width")), rel=0.01)
    assert met.get("fill") != missed.get("fill")
    assert len(list(chart.iter(f"{SVG}circle"))) == 1


def test_the_page_of_profiles_gives_every_kind_of_op_its_bound(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench_profile, "spec", lambda *rest: TINY)
    page = tmp_path / "profiles.md"
    arguments = ["--models", str(tmp_path / "models"), "--sparsity", "0.75", "--sequence-length", "16", "24"]
    bench_profile.main([*arguments, "--duration", "0.05", "--threads", "1", "--output", str(page)])
    text = page.read_text()
    assert "## bert-base, 75 % 4x1, 1 x 16, 1 thread" in text
    assert "## bert-base, 75 % 4x1, 1 x 24, 1 thread" in text
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| Linear")]
    assert rows
    assert all(row[-1].endswith("% |") for row in rows)
    assert str(tmp_path) not in text
    assert "Linear" in capsys.readouterr().out
