"""One thread and two, alone and beside a busy process: what is measured, and what the rows say of it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from obert_edge.device.runtime import machine
from obert_edge.errors import UsageError
from tools.bench import beside
from tools.bench.beside import Case, Turns

GOLDEN = Path(__file__).parents[2] / "golden" / "v2.oeb"
two_cpus = pytest.mark.skipif(machine.affinity() < 2, reason="this process may use one CPU only")


@two_cpus
def test_every_case_has_its_turns_in_every_scene(capsys):
    beside.main([str(GOLDEN), "--rounds", "1", "--seconds", "0.05", "--tokens", "8"])
    title, _, header, _, *rows = capsys.readouterr().out.splitlines()
    assert title.startswith("v2.oeb, 1 x 8 tokens, on ")
    assert header == f"| {' | '.join(beside.HEADERS)} |"
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert [row[:3] for row in cells] == [
        [scene, "this", threads] for scene in beside.SCENES for threads in ("1", "2")
    ]
    for row in cells:
        assert int(row[3]) > 0
        assert float(row[4].split()[0]) > 0
        assert (row[6] == "") == (row[2] == "1")
        assert (row[7] == "") == (row[0] == "quiet")


@two_cpus
def test_turns_among_too_many_others_do_not_count():
    with pytest.raises(UsageError, match="in no turn did others have 1000 to 2000 CPUs"):
        beside.main(
            [str(GOLDEN), "--rounds", "1", "--seconds", "0.01", "--others", "1000", "2000", "--tokens", "8"]
        )


def test_a_row_compares_with_one_thread_of_the_same_engine_and_scene():
    found = {
        ("quiet", Case("this", 1)): Turns([0.010, 0.012, 0.014], [], [0.0]),
        ("quiet", Case("this", 2)): Turns([0.006, 0.006, 0.006], [], [0.1]),
        ("pinned", Case("this", 1)): Turns([0.020], [0.9], [0.0]),
        ("pinned", Case("this", 2)): Turns([0.025], [0.4, 0.6], [0.25]),
        ("pinned", Case("old", 2)): Turns([0.030], [0.5], [0.0]),
    }
    rows = beside.rows(found)
    assert rows[0] == ["quiet", "this", "1", "3", "12.00 (10.20 to 13.80)", "1.16", "", "", "0 %"]
    assert [row[6:] for row in rows[1:]] == [
        ["2.00", "", "10 %"],
        ["", "90 %", "0 %"],
        ["0.80", "50 %", "25 %"],
        ["", "50 %", "0 %"],
    ]


@two_cpus
def test_the_busy_process_stays_on_the_last_cpu_and_ends_with_its_scene():
    with beside.busy_process("pinned") as busy:
        assert busy is not None
        assert os.sched_getaffinity(busy) == {max(os.sched_getaffinity(0))}
        assert beside.cpu_seconds(busy) > 0
    with pytest.raises(ProcessLookupError):
        os.kill(busy, signal.SIG_DFL)
