"""The study measures what it says, keeps what it has, and refuses to mix studies."""

from __future__ import annotations

import json

import pytest

from obert_edge.errors import UsageError
from tests.host.stages.conftest import data, dense, encoder, task  # noqa: F401
from tests.tools.results import RESULTS
from tools.studies import pruning


def test_a_study_goes_on_where_it_was_stopped(dense, data, tmp_path, capsys):  # noqa: F811
    output = tmp_path / "study.json"

    def run(methods, **more):
        arguments = {"model": dense, "data": data, "task": "text", "output": output, "gradients": 4, **more}
        line = [f"--{key.replace('_', '-')}={value}" for key, value in arguments.items()]
        line += ["--threads=1", "--sparsities", "0.5", "--patterns", "unstructured", "2:4"]
        pruning.main([*line, "--methods", *methods])
        return capsys.readouterr().out.splitlines()

    assert len(run(["magnitude", "paper"])) == 4
    assert len(run(["magnitude", "paper", "joint", "outputs"])) == 4  # only what is new
    assert run(["magnitude"], max_seconds=0) == []
    rows = json.loads(output.read_text())["rows"]
    assert len(rows) == 9
    assert all(row["sparsity"] == pytest.approx(0.5, abs=1e-3) for row in rows[1:])
    by_method = {row["method"]: row["loss_increase"] for row in rows if row["pattern"] == "2:4"}
    assert by_method["joint"] < by_method["paper"]
    table = output.with_suffix(".md").read_text()
    assert "| pattern | sparsity | magnitude | paper | joint | outputs |" in table
    with pytest.raises(UsageError, match="another study: gradients"):
        run(["magnitude"], gradients=5)


def test_cells_that_a_method_cannot_do_are_left_out():
    assert ("sparsegpt", "2:4", 0.4) not in pruning.cells(["sparsegpt"], ["2:4"], [0.4, 0.5, 0.6])
    assert pruning.cells(["joint"], ["2:4"], [0.4, 0.5, 0.6]) == [
        ("joint", "2:4", 0.4),
        ("joint", "2:4", 0.5),
    ]


PUBLISHED = sorted(RESULTS.glob("pruning_study*.json"))


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_a_committed_table_is_what_its_json_file_gives(path):
    content = json.loads(path.read_text())
    assert path.with_suffix(".md").read_text() == pruning.table(content["settings"], content["rows"])
