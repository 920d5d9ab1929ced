"""The study compares bundles row by row, and counts as a statistician would."""

from __future__ import annotations

import json
import math

import pytest

from obert_edge.host.stages import quantize
from tests.host.stages.conftest import data, dense, encoder, task  # noqa: F401
from tools.studies import embeddings


def test_every_variant_is_compared_with_the_int8_bundle(dense, data, task, tmp_path):  # noqa: F811
    quantize(dense, task, tmp_path / "int8", method="calibrate", progress=False)
    more = tmp_path / "more.txt"
    more.write_text("film plot\n")
    arguments = ["--model", tmp_path / "int8", "--task", "text", "--data", data, "--work", tmp_path / "work"]
    arguments += ["--output", tmp_path / "o.json", "--corpus", more, "--reference", dense, "--threads", "1"]
    embeddings.main([*map(str, arguments)])
    rows = json.loads((tmp_path / "o.json").read_text())["rows"]
    assert [row["name"] for row in rows] == [
        "INT8",
        "INT4",
        "INT8, vocabulary of train",
        "INT4, vocabulary of train",
        "INT8, vocabulary of train and more",
        "INT4, vocabulary of train and more",
        "dense FP32 (PyTorch)",
    ]
    assert all(row["n"] == 60 for row in rows)
    assert (rows[0]["agreement"], rows[0]["gained"], rows[0]["lost"], rows[0]["p"]) == (100, 0, 0, 1)
    assert rows[2]["agreement"] == 100  # the train split has every word of dev
    assert rows[1]["part_bytes"]["embeddings"] < rows[0]["part_bytes"]["embeddings"]
    table = (tmp_path / "o.md").read_text().splitlines()
    assert len(table) == 2 + len(rows)
    assert {text.count("|") for text in table} == {11}


def test_changes_are_counted_in_both_directions():
    first = ({"a": "x", "b": "x", "c": "x", "d": "x"}, {"a": True, "b": True, "c": False, "d": False})
    other = ({"a": "x", "b": "y", "c": "y", "d": "z"}, {"a": True, "b": False, "c": True, "d": False})
    found = embeddings.paired(first, other)
    assert (found["agreement"], found["gained"], found["lost"], found["difference"]) == (25, 1, 1, 0)
    assert found["difference_standard_error"] == pytest.approx(100 * math.sqrt(2) / 4)
