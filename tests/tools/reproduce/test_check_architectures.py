"""The committed page of architectures is one that the program writes, of the checkpoints it makes."""

from __future__ import annotations

from tests.tools.results import RESULTS
from tools.reproduce import check_architectures


def test_the_committed_page_has_a_row_for_every_checkpoint():
    lines = (RESULTS / "architectures.md").read_text().splitlines()
    introduction, rows = check_architectures.INTRODUCTION, lines[len(check_architectures.INTRODUCTION) + 2 :]
    assert lines[: len(introduction)] == introduction
    assert [row.split(" | ")[0].strip("| ") for row in rows] == list(check_architectures.CHECKPOINTS)
    assert all(row.endswith("| ok |") for row in rows)
