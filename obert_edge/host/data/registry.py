"""``load_task``: from a task's name and its data to a :class:`~obert_edge.host.data.base.Task`."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, Dict, Optional, Sequence, Union

from obert_edge.errors import UsageError
from obert_edge.host.data.base import Task
from obert_edge.host.data.glue import DEFINITIONS, load_glue, load_hub_glue
from obert_edge.host.data.tables import HUB

#: Every task that :func:`load_task` knows.
TASK_NAMES = (*DEFINITIONS, "squad", "text", "tokens", "mlm", "embedding")
#: The columns of task ``text``, unless others are named.
DEFAULT_TEXT, DEFAULT_LABEL = ("text",), "label"


def load_task(
    name: str,
    data: Union[str, Path],
    *,
    text_columns: Sequence[str] = (),
    label_column: str = "label",
    labels: Optional[Sequence[str]] = None,
    label_map: Sequence[str] = (),
    problem_type: Optional[str] = None,
    label_separator: str = "",
    prompt_names: Sequence[str] = (),
    tune: int = 0,
    needs_labels: bool = True,
) -> Task:
    """Load a task.

    Args:
        name: a GLUE task (``sst2``, ``mrpc``, ``rte``, ``cola``, ``stsb``, ``qnli``, ``mnli``,
            ``qqp``), ``squad``, ``text`` (classification of your own CSV, TSV or JSON Lines),
            ``tokens`` (token classification of CoNLL or JSON Lines), ``mlm`` (masked language modeling
            of plain text) or ``embedding`` (texts, or pairs, for an embedder).
        data: a folder with one file per split, one file, or ``hub:owner/set[:configuration]``
            (``hub:`` alone: the task's own set) for the `datasets` library.
        text_columns: for ``text`` and ``embedding``: one column, or two for pairs; default ``text``, and for
            ``embedding`` what is usual.
        label_column: for ``text``: the column of the label; for ``embedding``: of the score of a pair.
        labels: for ``text`` and ``tokens``: the class names by id; default: those of the train split.
        label_map: ``MODEL'S NAME=LABEL`` for classes that a model calls otherwise than the data do; see
            :func:`obert_edge.host.data.labels.match_labels`.
        problem_type: for ``text``: ``single_label``, ``multi_label`` or ``regression``; default: what the
            column of the label holds.
        label_separator: for ``text``: what is between several labels of one cell; default: they are a list.
        prompt_names: for ``embedding``: the model's prompts to put before texts; default: its own.
        tune: rows (``squad``: questions' paragraphs) of train held out as split ``tune``.
        needs_labels: for ``text``: whether rows must have a label; else texts alone will do, ``.txt`` too.

    Raises:
        UsageError: no such task, or it has no such option.
        DataError: the data are missing or wrong; the message names file and line.
    """
    tables = name == "embedding"
    own = {
        "--text-column": tuple(text_columns) not in ((), DEFAULT_TEXT) and not tables,
        "--label-column": label_column != DEFAULT_LABEL and not tables,
        "--label": labels is not None and name != "tokens",
        "--problem-type": problem_type is not None,
        "--label-separator": bool(label_separator),
    }
    given = [flag for flag, is_given in own.items() if is_given]
    if name in TASK_NAMES and name != "text" and given:
        raise UsageError(
            f"task {name!r} has no {given[0]}: its data say where texts and labels are",
            hint="leave the option out, or use task 'text' for a table of your own",
        )
    if prompt_names and name in TASK_NAMES and name != "embedding":
        raise UsageError(
            f"task {name!r} has no --prompt-name: its models read texts as they are",
            hint="leave the option out, or use task 'embedding'",
        )
    task = _load(
        name,
        str(data),
        tune,
        needs_labels,
        {
            "text_columns": tuple(text_columns) or DEFAULT_TEXT,
            "label_column": label_column,
            "labels": labels,
            "problem_type": problem_type,
            "label_separator": label_separator,
            "prompt_names": tuple(prompt_names),
        },
    )
    if label_map and (not task.labels or task.problem_type == "regression"):
        raise UsageError(
            f"task {name!r} has no classes that --label-map could name", hint="leave --label-map out"
        )
    task.label_map = tuple(label_map)
    return task


def _load(name: str, source: str, tune: int, needs_labels: bool, own: Dict[str, Any]) -> Task:
    """Load a task; ``own`` are the options of tasks ``text``, ``tokens`` and ``embedding``."""
    if name in DEFINITIONS:
        if source.startswith(HUB):
            return load_hub_glue(name, tune=tune)
        return load_glue(name, Path(source), tune=tune)
    if name == "squad":
        from obert_edge.host.data.question_answering import load_squad

        return load_squad(source, tune=tune)
    if name == "text":
        from obert_edge.host.data.plain_texts import load_plain_texts
        from obert_edge.host.data.text import load_text

        # Who says what the labels are has some.
        said = any(own[key] for key in ("labels", "problem_type", "label_separator"))
        columns = own["text_columns"], own["label_column"]
        plain = None if needs_labels or said else load_plain_texts(source, *columns)
        told = {key: value for key, value in own.items() if key != "prompt_names"}
        return plain or load_text(source, tune=tune, **told)
    if name == "tokens":
        from obert_edge.host.data.tokens import load_tokens

        return load_tokens(_local(name, source), labels=own["labels"], tune=tune)
    if name == "embedding":
        from obert_edge.host.data.embedding import load_embedding

        return load_embedding(
            source,
            text_columns=() if own["text_columns"] == DEFAULT_TEXT else own["text_columns"],
            score_column=None if own["label_column"] == DEFAULT_LABEL else own["label_column"],
            prompt_names=own["prompt_names"],
            tune=tune,
        )
    if name == "mlm":
        from obert_edge.host.data.masked_lm import load_mlm

        return load_mlm(_local(name, source), tune=tune)
    near = difflib.get_close_matches(name, TASK_NAMES, n=1)
    raise UsageError(
        f"there is no task {name!r}; there are {', '.join(TASK_NAMES)}",
        hint=f"did you mean {near[0]!r}?" if near else "use 'text' for your own classification data",
    )


def _local(name: str, source: str) -> Path:
    """The path of data that are files.

    Raises:
        UsageError: a data set of the Hub is named.
    """
    if source.startswith(HUB):
        raise UsageError(
            f"task {name!r} reads files, and {source} is a data set of the Hugging Face Hub",
            hint="save the set as files, one for each split, and name their folder",
        )
    return Path(source)
