"""A campaign can be stopped and repeated in parts, and its page says for every goal whether it was met."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest

from tools import command_line
from tools.bench import baselines
from tools.bench.baseline_cases import CASES, BaselineSpec, Case, Goal
from tools.bench.models import Spec

TINY = Spec(layers=1, hidden=48, heads=4, intermediate=96, positions=64, vocabulary=600, sparsity=0.75)


@pytest.fixture
def campaign(tmp_path, monkeypatch):
    """Two tiny cases in place of the real ones; returns a function that runs the command."""
    one = Case(
        "tiny-threads",
        "tiny, 2 threads over 1",
        TINY,
        1,
        16,
        (BaselineSpec("obert-edge", "one thread", threads=1),),
        (Goal("speedup", 1e9, 2e9, "one thread"), Goal("file", 1e9, 5e8, row="file of tiny")),
    )
    padded = dataclasses.replace(
        one, name="tiny-texts", lengths=(3, 16), goals=(Goal("speedup", 1e-9, 1e9, "one thread"),)
    )
    for name in list(CASES):
        monkeypatch.delitem(CASES, name)
    for case in (one, padded):
        monkeypatch.setitem(CASES, case.name, case)

    def run(*arguments: str, status: int = 0) -> Path:
        options = ["--models", str(tmp_path / "models"), "--output", str(tmp_path / "out")]
        options += ["--duration", "0.05", "--rounds", "2", "--threads", "1"]
        assert command_line.run(baselines.main, [*options, *arguments]) == status
        return tmp_path / "out"

    return run


@pytest.fixture
def avx2_case(monkeypatch):
    """The tiny case in which every engine sees a CPU with AVX2 alone."""
    case = dataclasses.replace(CASES["tiny-threads"], name="tiny-avx2", avx2_cpu=True)
    monkeypatch.setitem(CASES, case.name, case)
    return case.name


def can_mask_cpuid() -> bool:
    flags = baselines.CPUINFO.read_text().split() if baselines.CPUINFO.exists() else []
    return {"cpuid_fault", "avx2"} <= set(flags)


@pytest.mark.skipif(not can_mask_cpuid(), reason="this CPU or kernel cannot make CPUID fault")
def test_every_engine_can_be_shown_a_cpu_with_avx2_alone(campaign, avx2_case):
    out = campaign("--cases", avx2_case)
    report = json.loads((out / "baselines.json").read_text())["cases"][avx2_case]["report"]
    assert report["engine"]["implementation"] == "avx2"
    assert report["baselines"]["one thread"]["implementation"] == "avx2"
    assert "LD_PRELOAD" not in os.environ


def test_a_machine_that_cannot_mask_cpuid_is_told_so(campaign, avx2_case, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(baselines, "CPUINFO", tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text("flags : fpu avx2\n")
    campaign("--cases", avx2_case, status=2)
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


def test_a_page_can_be_told_its_heading(campaign):
    out = campaign("--cases", "tiny-texts", "--heading", "Speed on a toaster")
    page = (out / "baselines.md").read_text()
    assert page.startswith("# Speed on a toaster\n")
    assert "--heading 'Speed on a toaster'" in page


def test_resuming_leaves_out_what_was_measured(campaign, tmp_path, monkeypatch):
    campaign("--cases", "tiny-texts")
    measured = []
    real = baselines.measure
    monkeypatch.setattr(
        baselines, "measure", lambda case, *rest: measured.append(case.name) or real(case, *rest)
    )
    campaign("--cases", "all", "--resume")
    assert measured == ["tiny-threads"]
    campaign("--cases", "--resume")  # only writes the pages again
    assert measured == ["tiny-threads"]


def test_an_unknown_case_is_a_usage_error(campaign, capsys):
    campaign("--cases", "huge", status=2)
    assert "there is no case 'huge'" in capsys.readouterr().err
