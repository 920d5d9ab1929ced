"""What a soak test finds is told: wrong bits, hung children, memory that grows."""

from __future__ import annotations

import json

from tests.tools.results import RESULTS
from tools import soak


def test_the_committed_page_is_what_the_json_file_gives() -> None:
    document = json.loads((RESULTS / "soak.json").read_text())
    assert (RESULTS / "soak.md").read_text() == soak.markdown(document)
    assert soak.faults(document) == []


def test_memory_that_grows_is_not_flat() -> None:
    level = [(float(second), 50_000_000 + second % 3 * 100_000) for second in range(100)]
    assert soak.trend(level)["flat"]
    assert not soak.trend([(second, size + int(second) * 100_000) for second, size in level])["flat"]


def test_a_wrong_answer_is_a_fault() -> None:
    document = json.loads((RESULTS / "soak.json").read_text())
    document["processes"]["forks"]["counts"]["wrong answers"] = 2
    document["processes"]["kills"]["error"] = "Traceback\nAssertionError: a child hung for 600 s"
    assert soak.faults(document) == [
        "forks: 2 wrong answers",
        "kills: AssertionError: a child hung for 600 s",
    ]
    assert "What went wrong" in soak.markdown(document)
