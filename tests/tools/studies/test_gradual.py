"""The study gives every method the recipe's budget, scores the bundle, and goes on where it was stopped."""

from __future__ import annotations

import json

import pytest

from tests.host.stages.conftest import data, dense, encoder, task  # noqa: F401
from tests.tools.results import RESULTS
from tools import command_line
from tools.studies import frontier, gradual

_RECIPE = """
task: {name: text}
prune:
  {initial_sparsity: 0.3, steps: 2, gradients: 2, gradient_batch_size: 4,
   training: {max_steps: 6, batch_size: 8, max_length: 16, save_steps: 6}}
quantize: {training: {max_steps: 2, batch_size: 8, max_length: 16, save_steps: 2}}
build: {target: x86}
"""


def test_methods_are_compared_by_their_bundles_and_shown_with_size_and_latency(
    dense,  # noqa: F811
    data,  # noqa: F811
    tmp_path,
    capsys,
):
    recipe, output, work = tmp_path / "recipe.yaml", tmp_path / "study.json", tmp_path / "work"
    recipe.write_text(_RECIPE)

    def run(*more):
        line = [str(recipe), "--model", str(dense), "--data", str(data), "--work", str(work)]
        line += ["--output", str(output), "--cells", "4x1:0.5", *more]
        return command_line.run(gradual.main, line), capsys.readouterr()

    assert run("--methods", "magnitude")[0] == 0
    assert run("--methods", "magnitude", "obert")[0] == 0
    dense_row, *rows = json.loads(output.read_text())["rows"]
    assert [row["method"] for row in rows] == ["magnitude", "obert"]  # nothing twice
    for row in rows:
        assert row["sparsity"] == pytest.approx(0.5, abs=0.01)
        assert row["metrics"]["accuracy"] == pytest.approx(100 - 100 * len(row["wrong"]) / row["n"])
        assert row["bytes"] < dense_row["bytes"]
    table = output.with_suffix(".md").read_text()
    assert "6 steps of 8 while pruning and 2 of QAT" in table
    assert "| pattern | sparsity | magnitude | obert | MB |" in table

    recipe.write_text(_RECIPE.replace("max_steps: 6", "max_steps: 7"))
    status, printed = run()
    assert status != 0
    assert "another study: recipe" in printed.err

    pytest.importorskip("onnxruntime")
    wanted = tmp_path / "frontier.yaml"
    one = {"method": "obert", "pattern": "4x1"}
    wanted.write_text(
        json.dumps(  # which is YAML, too
            {
                "title": "Tiny",
                "note": "A test.",
                "dense": "dense.oeb",
                "metric": "accuracy",
                "rows": [
                    {
                        "name": name,
                        "series": "all",
                        "recipe": "recipe.yaml",
                        "command": "study",
                        "bundle": bundle,
                        "results": "study.json",
                        "row": row,
                    }
                    for name, bundle, row in (
                        ("dense", "dense.oeb", {"method": "dense"}),
                        ("pruned", "obert-4x1-0.5-42/model.oeb", one),
                    )
                ],
            }
        )
    )
    page = tmp_path / "page.json"
    line = [str(wanted), "--bundles", str(work), "--output", str(page), "--sequence-length", "16"]
    line += ["--duration", "0.1", "--rounds", "2", "--threads", "1"]
    assert command_line.run(frontier.main, line) == 0
    first, second = json.loads(page.read_text())["rows"]
    assert (first["bytes"], second["score"]) == (dense_row["bytes"], rows[1]["metrics"]["accuracy"])
    assert second["latency_ms"] > 0
    assert "| pruned |" in page.with_suffix(".md").read_text()
    for name in ("page_size.svg", "page_latency.svg"):
        assert ">pruned</text>" in (tmp_path / name).read_text()

    wanted.write_text(wanted.read_text().replace('"method": "obert"', '"method": "none"'))
    assert command_line.run(frontier.main, line) != 0
    assert "0 rows like" in capsys.readouterr().err


PUBLISHED = sorted(RESULTS.glob("gradual_*.json"))


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_a_committed_table_is_what_its_json_file_gives(path):
    content = json.loads(path.read_text())
    assert path.with_suffix(".md").read_text() == gradual.table(content["settings"], content["rows"])
