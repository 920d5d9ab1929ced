"""The page says for every goal whether it was met, and the committed page is the one its JSON file gives."""

from __future__ import annotations

import json

import pytest

from tests.tools.results import RESULTS
from tools.bench import baseline_page
from tools.bench.baseline_cases import Goal


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
    assert baseline_page.verdict(goal, value) == said


@pytest.mark.parametrize("campaign", ["baselines", "baselines_zen5"])
def test_the_committed_page_and_plots_are_what_the_json_file_gives(campaign):
    document = json.loads((RESULTS / f"{campaign}.json").read_text())
    plots = {f"{campaign}_{name}": svg for name, svg in baseline_page.plots(document).items()}
    assert len(plots) == 2
    assert {name: (RESULTS / name).read_text() for name in plots} == plots
    assert (RESULTS / f"{campaign}.md").read_text() == baseline_page.markdown(document, list(plots))
