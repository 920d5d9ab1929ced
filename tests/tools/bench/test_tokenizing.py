"""Both ways of tokenizing are measured on the same ids, and the committed page is what its file gives."""

from __future__ import annotations

import json

import pytest

from obert_edge.errors import DataError
from tests.tools.results import RESULTS
from tools.bench import tokenizing

LINES = [f"line {number} says that the river under bridge {number % 7} is wide" for number in range(60)]


@pytest.mark.parametrize("family", tokenizing.FAMILIES)
def test_a_family_is_cut_alike_by_both(family):
    found = tokenizing.measure(family, LINES, LINES)
    assert found["differing"] == 0
    assert found["tokens"] > 8 * len(LINES)
    assert {len(rates) for rates in found["rates"].values()} == {tokenizing.ROUNDS}


def test_too_few_lines_are_refused(tmp_path):
    (tmp_path / "few.txt").write_text("\n".join(LINES), encoding="utf-8")
    command = ["--text", str(tmp_path / "few.txt"), "--models", str(tmp_path)]
    with pytest.raises(DataError, match="60 lines"):
        tokenizing.main(command)


def test_the_committed_page_is_what_the_json_file_gives():
    document = json.loads((RESULTS / "tokenizing.json").read_text(encoding="utf-8"))
    assert (RESULTS / "tokenizing.md").read_text(encoding="utf-8") == tokenizing.page(document)
    assert [found["differing"] for found in document["families"]] == [0] * len(tokenizing.FAMILIES)
