"""The results of a study: a file of rows that several processes may add to, and the paired test."""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Sequence, Tuple

from obert_edge.errors import UsageError
from obert_edge.files import atomic_file

Row = Dict[str, Any]


class StudyRows:
    """The rows of a study: a JSON file, with a table in Markdown beside it.

    Every row is written as soon as it is added, and a file is replaced in one step, so that a reader never
    finds half of one. Processes that measure different cells may share a file: the rows that others added are
    kept.

    Args:
        path: the JSON file; the table has the same name with ``.md``.
        settings: the settings all rows were measured with.
        same: names of the settings that must be equal for rows to be of one study; the others only describe.
        cell: names of the fields that tell one row from another.
        table: a function from settings and rows to Markdown.

    Raises:
        UsageError: the file there is of another study.
    """

    def __init__(
        self,
        path: Path,
        settings: Dict[str, Any],
        *,
        same: Sequence[str],
        cell: Sequence[str],
        table: Callable[[Dict[str, Any], List[Row]], str],
    ) -> None:
        self._path, self._settings, self._same, self._cell, self._table = path, settings, same, cell, table
        self.rows = self._saved()

    def has(self, *cell: object) -> bool:
        """Whether a row has these values of the fields of ``cell``, in their order."""
        return cell in map(self._cell_of, self.rows)

    def add(self, *rows: Row) -> None:
        """Add rows, and write both files; a row whose cell is there already is left out."""
        with _locked(self._path.parent):
            self.rows = self._saved()
            self.rows += [row for row in rows if not self.has(*self._cell_of(row))]
            with atomic_file(self._path) as temporary:
                content = {"settings": self._settings, "rows": self.rows}
                temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
            with atomic_file(self._path.with_suffix(".md")) as temporary:
                temporary.write_text(self._table(self._settings, self.rows), encoding="utf-8")

    def _cell_of(self, row: Row) -> Tuple[object, ...]:
        return tuple(row.get(field) for field in self._cell)

    def _saved(self) -> List[Row]:
        if not self._path.exists():
            return []
        content = json.loads(self._path.read_text(encoding="utf-8"))
        other = [name for name in self._same if content["settings"].get(name) != self._settings[name]]
        if other:
            raise UsageError(
                f"{self._path} is of another study: {', '.join(other)} differ",
                hint="give another --output, or remove the file",
            )
        return list(content["rows"])


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock a folder against other processes; unlike a lock file, the lock is gone when the process is."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def mcnemar(gained: int, lost: int) -> float:
    """The p-value of McNemar's exact two-sided test that two models are equally good.

    Args:
        gained: number of examples that only the second model has right.
        lost: number of examples that only the first model has right.
    """
    total = gained + lost
    tail = sum(math.comb(total, k) for k in range(min(gained, lost) + 1))
    return min(1.0, 2 * tail / 2**total)


def mcnemar_of(first: Row, second: Row) -> float:
    """:func:`mcnemar` of two rows, from the examples that each of them has in ``wrong``."""
    wrong, others = set(first["wrong"]), set(second["wrong"])
    return mcnemar(len(wrong - others), len(others - wrong))
