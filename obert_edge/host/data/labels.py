"""What the classes of a model mean in the words of a task: the one place that decides it.

A model names its classes by row of its head (``id2label`` of ``config.json``, ``labels`` of a bundle), and a
task names them as its data do. Neither order nor spelling has to be the same, so rows are matched by name and
never by position, with one exception that is said aloud: names such as ``LABEL_0``, which transformers writes
where nobody named a class.
"""

from __future__ import annotations

import logging
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from typing import Any, Callable, Dict, Mapping, Optional, Sequence, Tuple

from obert_edge.errors import CheckpointError, UsageError

#: Names that a message shows of each list; the others are counted.
_SHOWN = 12

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rows:
    """What the rows of a head stand for.

    Attributes:
        classes: for each row of the head the task's label, or the model's own name where the data have no
            such class. A label occurs twice only where the user's map gives it to two rows.
        note: what was assumed, as a sentence to show; empty: the names say it.
    """

    classes: Tuple[str, ...]
    note: str = ""


def counted(labels: Sequence[str]) -> str:
    """How many labels there are, in words."""
    return f"{len(labels)} label{'' if len(labels) == 1 else 's'}"


def match_labels(
    names: Sequence[str],
    labels: Sequence[str],
    *,
    model: object = "the model",
    task: str = "",
    label_map: Sequence[str] = (),
) -> Rows:
    """Find what each row of a model's head means in the words of a task.

    In this order: what the user's map says; equal names; names that differ in case and separators alone
    (``NOT_ENTAILMENT`` and ``not entailment``); and for a model whose classes have no names of their own
    (``LABEL_0``) the ids that the data use, or else the order of the task's labels. The model may have
    classes that the data lack, but not the other way round.

    Args:
        names: the model's names by row.
        labels: the task's names by id.
        model: the folder or bundle, for messages.
        task: the task's name, for messages.
        label_map: what the user says, as ``MODEL'S NAME=TASK'S LABEL``; the id of a row may stand for its
            name.

    Raises:
        CheckpointError: a label of the task has no row; the message has both lists.
        UsageError: an entry of ``label_map`` names no class of the model, or none of the task.
    """
    found: Dict[int, str] = _mapped(names, labels, label_map)
    _match(names, labels, found, exact=True)
    _match(names, labels, found, exact=False)
    note = ""
    lost = [label for label in labels if label not in found.values()]
    if lost and not found and is_generic(names):
        by_row = _generic_order(len(names), labels)
        if by_row:
            found, lost = by_row, []
            said = ", ".join(f"{names[row]} is {found[row]}" for row in sorted(found)[:_SHOWN])
            note = (
                f"{model} does not name its classes: {said}{' ...' if len(found) > _SHOWN else ''}, in the "
                "order of the task (--label gives another order, --label-map says what each class is)"
            )
    if lost:
        whose = f"task {task!r}" if task else "the task"
        fitting = "use a checkpoint with the classes of the data, or fine-tune the bare encoder"
        free = next((name for row, name in enumerate(names) if row not in found), names[0])
        # Which of several it is only the user knows: an order is no reason to propose one.
        which = lost[0] if len(lost) == 1 else f"<{listed(lost).replace(', ', ' or ')}>"
        example = f"--label-map '{free}={which}'"
        if lost == list(labels) and all(label.isdecimal() and int(label) < len(names) for label in labels):
            own_ids = " ".join(f"--label-map {label}={label}" for label in labels[:_SHOWN])
            example += f", or if these are the model's own ids {own_ids}"
        map_it = f"say which class is which with --label-map, such as {example}, or "
        raise CheckpointError(
            f"{model} has a head of {counted(names)} ({listed(names)}); {whose} has {len(labels)} "
            f"({listed(labels)}): none of the model's is {listed(lost)}",
            hint=map_it + fitting if len(labels) <= len(names) else fitting,
        )
    return Rows(tuple(found.get(row, name) for row, name in enumerate(names)), note)


def tell(note: str) -> None:
    """Say what was assumed, where the user reads it."""
    if note:
        _log.warning("%s", note)


def names_of(config: Mapping[str, Any]) -> Tuple[str, ...]:
    """The names of a head's rows by ``config.json``, as transformers reads it: two generic ones by default.

    Raises:
        CheckpointError: its ``id2label`` is no map of the ids from 0.
    """
    by_id = config.get("id2label")
    if isinstance(by_id, Mapping) and by_id:
        by_row = {str(key): str(name) for key, name in by_id.items()}
        if set(by_row) != set(map(str, range(len(by_row)))):
            raise CheckpointError(
                f"config.json has id2label with the ids {listed(sorted(by_row))}; "
                f"expected 0 to {len(by_row) - 1}",
                hint="use the config.json that was saved with the weights",
            )
        return tuple(by_row[str(row)] for row in range(len(by_row)))
    count = config.get("num_labels")
    return tuple(f"LABEL_{row}" for row in range(count if isinstance(count, int) and count > 0 else 2))


def is_generic(names: Sequence[str]) -> bool:
    """Whether these are the names that transformers gives classes without one."""
    return all(name == f"LABEL_{row}" for row, name in enumerate(names))


def listed(names: Sequence[str]) -> str:
    """Names for a message; of many only the first."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _loose(name: str) -> str:
    """A name without case, and with one kind of separator inside: a leading minus is part of a number."""
    folded = unicodedata.normalize("NFC", name).strip().casefold()
    return re.sub(r"(?<=[^\W_])[\s_\-]+(?=[^\W_])", "_", folded)


def _match(names: Sequence[str], labels: Sequence[str], found: Dict[int, str], *, exact: bool) -> None:
    """Add to ``found`` the rows that have the name of a label, where only one row and one label have it."""
    spelled: Callable[[str], str] = str if exact else _loose
    of_rows, of_labels = Counter(map(spelled, names)), Counter(map(spelled, labels))
    by_name = {spelled(label): label for label in labels if label not in found.values()}
    for row, name in enumerate(map(spelled, names)):
        if row not in found and name in by_name and of_rows[name] == of_labels[name] == 1:
            found[row] = by_name[name]


def _generic_order(count: int, labels: Sequence[str]) -> Dict[int, str]:
    """The rows of unnamed classes: by id where the data hold ids from 0, else in order; empty: unknown."""
    if "0" in labels and all(label.isdecimal() and int(label) < count for label in labels):
        return {int(label): label for label in labels}
    return dict(enumerate(labels)) if len(labels) == count else {}


def _mapped(names: Sequence[str], labels: Sequence[str], label_map: Sequence[str]) -> Dict[int, str]:
    """What the user's map says."""
    found: Dict[int, str] = {}
    for entry in label_map:
        row, label = _entry(entry, names, labels)
        if found.get(row, label) != label:
            raise UsageError(
                f"--label-map gives the class {names[row]} both {found[row]!r} and {label!r}",
                hint="name each class of the model once",
            )
        found[row] = label
    return found


def _entry(entry: str, names: Sequence[str], labels: Sequence[str]) -> Tuple[int, str]:
    """The row and the label of one entry; names may hold an equals sign themselves."""
    splits = [(entry[: at.start()], entry[at.end() :]) for at in re.finditer("=", entry)]
    for name, label in splits:
        row, known = _row(name.strip(), names), label.strip()
        if row is not None and known in labels:
            return row, known
    raise UsageError(
        f"--label-map {entry!r} is no pair of a class of the model ({listed(names)}) and one of the data "
        f"({listed(labels)})",
        hint="write MODEL=DATA, such as "
        f"'{names[0]}={labels[0]}'; the id of a class may stand for the model's name",
    )


def _row(name: str, names: Sequence[str]) -> Optional[int]:
    if name in names:
        return list(names).index(name)
    return int(name) if name.isdecimal() and int(name) < len(names) else None
