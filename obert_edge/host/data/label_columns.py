"""What a column of labels holds: one class per row, several, or a number."""

from __future__ import annotations

import ast
import json
import math
import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple, Union

from obert_edge.bundle.manifest import PROBLEM_TYPES
from obert_edge.errors import DataError
from obert_edge.host.data.labels import listed
from obert_edge.host.data.tables import Row, column, is_number

SINGLE_LABEL, MULTI_LABEL, REGRESSION = PROBLEM_TYPES

#: A class id, the ids of several classes, or a number.
Label = Union[int, Tuple[int, ...], float]

#: Numbers written with a point that are all whole, such as 1.0, are class ids where there are at most so many
#: different ones: a table program writes ids like this beside an empty cell. More of them are measurements.
_WHOLE_CLASSES = 20
_MOST_CLASSES = 1000
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")


@dataclass(frozen=True)
class Cell:
    """A value of the column, and where it is."""

    where: str
    value: Any


@dataclass(frozen=True)
class LabelColumn:
    """How the cells of one column become labels.

    Attributes:
        name: of the column.
        problem_type: one of ``PROBLEM_TYPES``.
        labels: class names by id; one name for a regression.
        aliases: other spellings of labels (``0`` for ``negative``).
        separator: what is between the classes of a cell; empty: cells are lists.
        whole: whether ``1.0`` is the class ``1``.
        marks: how many marks a list has, a 0 or a 1 for every class; 0: lists hold names.
        hint: what to do about an unknown label.
    """

    name: str
    problem_type: str
    labels: Tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    separator: str = ""
    whole: bool = False
    marks: int = 0
    hint: str = "correct the label, or add rows with it to the train split"

    def cell(self, row: Row, where: object) -> Cell:
        """The cell of a row.

        Raises:
            DataError: the row has no such column.
        """
        return Cell(f"{where}, line {row[0]}", column(row, self.name, where))

    def label(self, cell: Cell) -> Label:
        """The label that a cell stands for.

        Raises:
            DataError: it stands for none.
        """
        if self.problem_type == REGRESSION:
            return self._number(cell)
        ids = [self._id(cell, name) for name in self.classes_of(cell)]
        return tuple(sorted(ids)) if self.problem_type == MULTI_LABEL else ids[0]

    def classes_of(self, cell: Cell) -> List[str]:
        """The names in a cell: one, or with several labels any number of different ones.

        Raises:
            DataError: there is none where one must be, or there are several.
        """
        if self.marks:
            return self._marked(cell)
        if self.problem_type == MULTI_LABEL:
            return list(dict.fromkeys(_members(cell, self.separator)))
        if isinstance(cell.value, (list, dict)):
            raise DataError(
                f"{cell.where}: column {self.name!r} holds {_shown(cell.value)}; expected one class",
                hint="several classes in a row need --problem-type multi_label",
            )
        if self.whole and _is_number(cell.value):
            return [str(int(float(cell.value)))]
        name = str(cell.value).strip()
        if not name:
            raise DataError(
                f"{cell.where}: column {self.name!r} is empty; expected a class",
                hint="fill in the class, or leave the row out",
            )
        return [name]

    def _marked(self, cell: Cell) -> List[str]:
        """The names at the ones of a list of marks; their places where there are no names yet."""
        marks = as_list(cell.value)
        if marks is None or not _are_marks(marks) or len(marks) != self.marks:
            raise DataError(
                f"{cell.where}: {_shown(cell.value)} in column {self.name!r}; expected {self.marks} marks, "
                "a 0 or a 1 for every class",
                hint="correct the row, or write the names of the classes instead of marks",
            )
        names = self.labels or tuple(map(str, range(self.marks)))
        return [name for name, mark in zip(names, marks) if mark]

    def _number(self, cell: Cell) -> float:
        value = float(cell.value) if _is_number(cell.value) else math.nan
        if not math.isfinite(value):
            raise DataError(
                f"{cell.where}: {_shown(cell.value)} in column {self.name!r} is not a number",
                hint="a regression task needs a number in every row",
            )
        return value

    def _id(self, cell: Cell, name: str) -> int:
        if name not in self._ids:
            raise DataError(
                f"{cell.where}: unknown label {name!r}; known are {listed(self.labels)}", hint=self.hint
            )
        return self._ids[name]

    @cached_property
    def _ids(self) -> Dict[str, int]:
        ids = {label: index for index, label in enumerate(self.labels)}
        return {**{alias: ids[label] for alias, label in self.aliases.items()}, **ids}


def decide(name: str, cells: Sequence[Cell], problem_type: Optional[str], separator: str) -> LabelColumn:
    """Say what a column holds, from its values unless the user says it.

    Lists are several labels per row; numbers of which one is not whole are a regression; whole numbers are
    class ids, and so are texts.

    Args:
        name: of the column.
        cells: its values in all splits that have labels.
        problem_type: what the user says; None: nothing.
        separator: what the user says is between the classes of a cell; empty: nothing.

    Returns:
        The column, without its labels.

    Raises:
        DataError: lists are mixed with other values, or numbers that are not whole with texts.
    """
    if separator:
        return LabelColumn(name, MULTI_LABEL, separator=separator)
    numbers = [cell for cell in cells if _is_number(cell.value)]
    pointed = [cell for cell in numbers if not _is_integer(cell.value)]
    all_whole = all(float(cell.value).is_integer() for cell in pointed)
    whole = bool(pointed) and all_whole and len(numbers) == len(cells)
    lists = [cell for cell in cells if as_list(cell.value) is not None]
    if problem_type is not None:
        marks = _count_marks(lists) if problem_type == MULTI_LABEL and len(lists) == len(cells) else 0
        return LabelColumn(name, problem_type, whole=whole and problem_type == SINGLE_LABEL, marks=marks)
    if lists:
        _refuse_mixture(
            name, "a list", lists, [c for c in cells if as_list(c.value) is None and c.value != ""]
        )
        return LabelColumn(name, MULTI_LABEL, marks=_count_marks(lists))
    if pointed and not all_whole:
        _refuse_mixture(name, "a number", numbers, [c for c in cells if not _is_number(c.value)])
        return LabelColumn(name, REGRESSION)
    if whole and len({float(cell.value) for cell in cells}) > _WHOLE_CLASSES:
        return LabelColumn(name, REGRESSION)
    return LabelColumn(name, SINGLE_LABEL, whole=whole)


def discover(label_column: LabelColumn, cells: Iterable[Cell], where: object, *, least: int) -> List[str]:
    """The distinct classes of a column: in numeric order when all are whole numbers, else sorted.

    Args:
        label_column: how its cells are read.
        cells: its values in the train split.
        where: the file, for messages.
        least: the fewest classes that make a task.

    Raises:
        DataError: there are too few or too many classes.
    """
    if label_column.marks:
        return list(map(str, range(label_column.marks)))
    found = {name for cell in cells for name in label_column.classes_of(cell)}
    if not least <= len(found) <= _MOST_CLASSES:
        raise DataError(
            f"{where}: column {label_column.name!r} holds {len(found)} distinct "
            f"label{'s' if len(found) != 1 else ''}; {least} to {_MOST_CLASSES} make a task",
            hint="name the column of the class with --label-column"
            + ("; numbers to predict need --problem-type regression" if len(found) > _MOST_CLASSES else ""),
        )
    return sorted(found, key=int) if all(map(_is_integer, found)) else sorted(found)


def describe(label_column: LabelColumn, cells: Sequence[Cell]) -> str:
    """What a column holds, in a few words."""
    if label_column.problem_type == REGRESSION:
        values = [float(cell.value) for cell in cells if _is_number(cell.value)]
        low, high = (f"{bound:g}" for bound in (min(values), max(values)))
        return f"regression, column {label_column.name!r} holds numbers {low} to {high}"
    labels = label_column.labels
    classes = f"{len(labels)} class{'es' if len(labels) > 1 else ''} ({listed(labels)}){_near(labels)}"
    if label_column.problem_type == MULTI_LABEL:
        return f"multi-label, {classes}"
    if all(map(_is_integer, labels)):
        return f"{classes}: whole numbers are class ids (--problem-type regression takes them as numbers)"
    return classes


def _near(labels: Sequence[str]) -> str:
    """What to say of classes whose names differ in case alone, which may be one to whoever wrote them."""
    spelled: Dict[str, List[str]] = {}
    for label in labels:
        spelled.setdefault(label.casefold(), []).append(label)
    alike = next((found for found in spelled.values() if len(found) > 1), [])
    return f", of which {' and '.join(map(repr, alike))} differ in case alone" if alike else ""


def _refuse_mixture(name: str, what: str, some: Sequence[Cell], others: Sequence[Cell]) -> None:
    if others:
        raise DataError(
            f"{others[0].where}: column {name!r} holds {_shown(others[0].value)} here, and {what} in "
            f"{len(some)} other row{'s' if len(some) > 1 else ''}, such as {_shown(some[0].value)} "
            f"({some[0].where})",
            hint="correct the row, or say what the column holds with --problem-type",
        )


def _members(cell: Cell, separator: str) -> List[str]:
    if separator and isinstance(cell.value, str):
        return [name.strip() for name in cell.value.split(separator) if name.strip()]
    found = as_list(cell.value)
    if found is None:
        if isinstance(cell.value, dict):
            raise DataError(
                f"{cell.where}: {_shown(cell.value)} is no list of classes", hint='write ["one", "another"]'
            )
        found = [cell.value]
    for value in found:
        if isinstance(value, (list, dict)) or value is None:
            raise DataError(
                f"{cell.where}: {_shown(value)} in {_shown(found)} is no class",
                hint='write ["one", "another"]',
            )
    return [name for name in (str(value).strip() for value in found) if name]


def as_list(value: Any) -> Optional[List[Any]]:
    """The list that a cell holds, as JSON or as pandas writes it into a CSV; None: it holds none."""
    if isinstance(value, list):
        return value
    if not isinstance(value, str) or not (value.strip().startswith("[") and value.strip().endswith("]")):
        return None
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(value.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        return found if isinstance(found, list) else None
    return None


def _are_marks(values: Sequence[Any]) -> bool:
    return all(isinstance(value, (int, float)) and value in (0, 1) for value in values)


def _count_marks(lists: Sequence[Cell]) -> int:
    """How many marks every list has, such as ``[0, 1, 1]`` for the second and third of three classes; else 0.

    A list of marks has a value twice or more, which a list of class ids has not.
    """
    found = [as_list(cell.value) or [] for cell in lists]
    length = len(found[0]) if found else 0
    alike = all(len(one) == length and _are_marks(one) for one in found)
    return length if alike and any(len(set(one)) < len(one) for one in found) else 0


def _is_number(value: Any) -> bool:
    """Whether a cell is a number: NaN, infinity and truth values are none."""
    if isinstance(value, str):
        return _NUMBER.fullmatch(value.strip()) is not None
    return is_number(value)


def _is_integer(value: Any) -> bool:
    """Whether a cell is a number written without a point."""
    return _is_number(value) and re.fullmatch(r"[+-]?\d+", str(value).strip()) is not None


def _shown(value: Any) -> str:
    text = repr(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def aliases_by_id(labels: Sequence[str]) -> Dict[str, str]:
    """Ids as other spellings of class names."""
    return {str(index): label for index, label in enumerate(labels)}
