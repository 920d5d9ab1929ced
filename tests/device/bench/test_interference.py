"""CPU time that others take is told from our own."""

from __future__ import annotations

import os

import pytest

from obert_edge.device.bench.interference import CpuWatch, Interference
from obert_edge.device.runtime import machine

TICKS = os.sysconf("SC_CLK_TCK")


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A made-up /proc of two CPUs; returns a function that sets the seconds spent."""
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    (tmp_path / "proc" / "7").mkdir(parents=True)

    def spend(busy, stolen, ours):
        ticks = [int(value * TICKS) for value in (busy, 0, 0, 50, 0, 0, 0, stolen, 0, 0)]
        (tmp_path / "proc/stat").write_text(f"cpu  {' '.join(map(str, ticks))}\ncpu0 1 2 3\n")
        fields = ["S", *["0"] * 10, str(int(ours * TICKS)), "0", *["0"] * 30]
        (tmp_path / "proc/7/stat").write_text(f"7 (a name) with ) in it) {' '.join(fields)}\n")

    return spend


def watch(times):
    return CpuWatch([7], clock=iter(times).__next__)


def test_busy_time_that_is_not_ours_is_of_others(system):
    system(busy=100, stolen=5, ours=10)
    watched = watch([0.0, 10.0])
    system(busy=116, stolen=6, ours=22)
    # 20 CPU seconds passed: 12 ours, 4 of others, 1 stolen
    assert watched.read() == Interference(others=pytest.approx(0.2), stolen=pytest.approx(0.05))


def test_rounding_of_ticks_never_gives_a_negative_share(system):
    system(busy=100, stolen=0, ours=10)
    watched = watch([0.0, 10.0])
    system(busy=101, stolen=0, ours=12)
    assert watched.read() == Interference(0.0, 0.0)


def test_where_the_system_does_not_tell_nothing_is_claimed(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    assert watch([0.0, 1.0]).read() is None


def test_a_share_above_a_twentieth_is_significant():
    assert not Interference(0.04, 0.04).significant
    assert Interference(0.06, 0.0).significant
    assert Interference(0.0, 0.06).significant


def test_this_machine_is_read():
    watched = CpuWatch([os.getpid()])
    sum(range(2_000_000))
    found = watched.read()
    assert found is None or 0 <= found.others <= 1
