"""A study's file keeps what every process adds, refuses another study, and the paired test is exact."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from obert_edge.errors import UsageError
from tools.studies import rows
from tools.studies.rows import StudyRows, mcnemar, mcnemar_of


def _open(path, **settings):
    def table(settings, rows):
        return f"{settings['budget']}: {[row['value'] for row in rows]}\n"

    settings = {"budget": 1, "machine": "this", **settings}
    return StudyRows(path, settings, same=("budget",), cell=("method", "seed"), table=table)


def test_a_row_is_in_both_files_as_soon_as_it_is_added(tmp_path):
    study = _open(tmp_path / "new" / "study.json")
    assert study.rows == []
    study.add({"method": "a", "seed": 1, "value": 3}, {"method": "a", "value": 4})
    assert study.has("a", 1)
    assert study.has("a", None)
    assert not study.has("a", 2)
    content = json.loads((tmp_path / "new" / "study.json").read_text())
    assert content["settings"] == {"budget": 1, "machine": "this"}
    assert [row["value"] for row in content["rows"]] == [3, 4]
    assert (tmp_path / "new" / "study.md").read_text() == "1: [3, 4]\n"
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["study.json", "study.md"]


def test_a_cell_is_kept_as_first_measured(tmp_path):
    path = tmp_path / "study.json"
    first, second = _open(path), _open(path)
    first.add({"method": "a", "seed": 1, "value": 3})
    second.add({"method": "a", "seed": 1, "value": 5}, {"method": "b", "seed": 1, "value": 6})
    assert [row["value"] for row in second.rows] == [3, 6]
    assert not first.has("b", 1)  # not before it looks again
    first.add({"method": "c", "seed": 1, "value": 7})
    assert [row["value"] for row in first.rows] == [3, 6, 7]


def test_processes_that_add_at_once_lose_nothing(tmp_path):
    code = (
        "import sys; from tools.studies.rows import StudyRows\n"
        "from pathlib import Path\n"
        "rows = StudyRows(Path(sys.argv[1]), {}, same=(), cell=('n',), table=lambda settings, rows: '')\n"
        "for n in range(20): rows.add({'n': (sys.argv[2], n)})\n"
    )
    path = tmp_path / "study.json"
    root = Path(rows.__file__).parents[2]
    processes = [subprocess.Popen([sys.executable, "-c", code, str(path), name], cwd=root) for name in "abc"]
    assert [process.wait(timeout=120) for process in processes] == [0, 0, 0]
    found = [tuple(row["n"]) for row in json.loads(path.read_text())["rows"]]
    assert sorted(found) == [(name, n) for name in "abc" for n in range(20)]


def test_another_study_is_refused_and_stays(tmp_path):
    path = tmp_path / "study.json"
    _open(path).add({"method": "a", "seed": 1, "value": 3})
    before = path.read_bytes()
    with pytest.raises(UsageError, match="another study: budget"):
        _open(path, budget=2)
    assert path.read_bytes() == before
    assert _open(path, machine="that").has("a", 1)  # only describes


@pytest.mark.parametrize(
    ("first", "second", "p"),
    [([], [], 1.0), ([1, 2], [1, 2], 1.0), ([1, 2, 3, 4, 5, 6], [], 2 / 64), ([1], [2], 1.0)],
)
def test_the_paired_test_is_exact(first, second, p):
    assert mcnemar_of({"wrong": first}, {"wrong": second}) == pytest.approx(p)


@pytest.mark.parametrize(
    ("gained", "lost", "p"), [(0, 0, 1), (1, 0, 1), (3, 3, 1), (0, 6, 2 / 64), (8, 1, 20 / 512)]
)
def test_the_paired_test_counts_one_sided_changes_twice(gained, lost, p):
    assert mcnemar(gained, lost) == pytest.approx(p)
    assert mcnemar(lost, gained) == pytest.approx(p)
