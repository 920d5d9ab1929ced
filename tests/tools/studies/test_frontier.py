"""The committed page and plots are what the JSON file and the YAML file give."""

from __future__ import annotations

import json

import yaml

from tests.tools.results import RESULTS
from tools.studies import frontier


def test_the_committed_page_and_plots_are_what_the_json_file_gives():
    document = json.loads((RESULTS / "frontier_sst2.json").read_text())
    wanted = yaml.safe_load((RESULTS / "frontier_sst2.yaml").read_text())
    pages = frontier.pages(document, wanted["note"], "frontier_sst2.yaml", "frontier_sst2")
    assert len(pages) == 3
    assert {name: (RESULTS / name).read_text() for name in pages} == pages
    assert [row["command"] for row in document["rows"]] == [row["command"] for row in wanted["rows"]]
