"""Long runs go on where they were, and tell apart which code and which library was tried."""

from __future__ import annotations

from pathlib import Path

from tests.fuzz.loop import Result
from tests.fuzz.record import Record


def _counted(path: Path, commit: str, library: str, tried: int) -> Record:
    record = Record(path)
    result = Result("bundle", 1, tried=tried, accepted=tried - 1, refused=0)
    result.kinds["KeyError"] += 1
    result.numbers["KeyError"] = [3]
    record.entry("bundle", 1, commit, library).add(result)
    record.write()
    return record


def test_tries_of_the_same_code_are_added_up(tmp_path: Path) -> None:
    path = tmp_path / "fuzz.json"
    _counted(path, "a", "x", 10)
    record = _counted(path, "a", "x", 5)
    (entry,) = record.entries
    assert (entry.first, entry.following, entry.tried) == (0, 15, 15)
    assert entry.accepted == 13 and entry.faults == {"KeyError": 2}
    assert entry.numbers == {"KeyError": [3, 3]}


def test_no_try_is_repeated_with_other_code(tmp_path: Path) -> None:
    path = tmp_path / "fuzz.json"
    for commit, library in (("a", "x"), ("b", "x"), ("b", "x sanitized"), ("a", "x")):
        record = _counted(path, commit, library, 10)
    assert [entry.first for entry in record.entries] == [0, 10, 20, 30]
    assert record.tried("bundle", 1, "x") == 30
    assert record.tried("bundle", 1, "x sanitized") == 10
    assert record.tried("bundle", 2, "x") == 0
