"""``load_task``: from a task's name and its data to a :class:`~obert_edge.host.data.base.Task`."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Optional, Sequence, Union

from obert_edge.errors import UsageError
from obert_edge.host.data.base import Task
from obert_edge.host.data.glue import DEFINITIONS, load_glue, load_hub_glue
from obert_edge.host.data.tables import HUB

#: Every task that :func:`load_task` knows.
TASK_NAMES = (*DEFINITIONS, "squad", "text", "tokens", "mlm")


def load_task(
    name: str,
    data: Union[str, Path],
    *,
    text_columns: Sequence[str] = (),
    label_column: str = "label",
    labels: Optional[Sequence[str]] = None,
    tune: int = 0,
) -> Task:
    """Load a task.

    Args:
        name: a GLUE task (``sst2``, ``mrpc``, ``rte``, ``cola``, ``stsb``, ``qnli``, ``mnli``,
            ``qqp``), ``squad``, ``text`` (classification of your own CSV, TSV or JSON Lines),
            ``tokens`` (token classification of CoNLL or JSON Lines) or ``mlm`` (masked language modeling
            of plain text).
        data: a folder with one file per split, one file, or ``hub:owner/set[:configuration]``
            (``hub:`` alone: the task's own set) for the `datasets` library.
        text_columns: for ``text``: one column, or two for pairs; default ``text``.
        label_column: for ``text``: the column of the label.
        labels: for ``text`` and ``tokens``: the class names by id; default: those of the train split.
        tune: rows (``squad``: questions' paragraphs) of train held out as split ``tune``.

    Raises:
        UsageError: no such task.
        DataError: the data are missing or wrong; the message names file and line.
    """
    source = str(data)
    if name in DEFINITIONS:
        return (
            load_hub_glue(name, tune=tune)
            if source.startswith(HUB)
            else load_glue(name, Path(data), tune=tune)
        )
    if name == "squad":
        from obert_edge.host.data.question_answering import load_squad

        return load_squad(source, tune=tune)
    if name == "text":
        from obert_edge.host.data.text import load_text

        return load_text(
            source,
            text_columns=tuple(text_columns) or ("text",),
            label_column=label_column,
            labels=labels,
            tune=tune,
        )
    if name == "tokens":
        from obert_edge.host.data.tokens import load_tokens

        return load_tokens(Path(data), labels=labels)
    if name == "mlm":
        from obert_edge.host.data.masked_lm import load_mlm

        return load_mlm(Path(data))
    near = difflib.get_close_matches(name, TASK_NAMES, n=1)
    raise UsageError(
        f"there is no task {name!r}; there are {', '.join(TASK_NAMES)}",
        hint=f"did you mean {near[0]!r}?" if near else "use 'text' for your own classification data",
    )
