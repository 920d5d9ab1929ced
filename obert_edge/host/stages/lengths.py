"""How long a feature may be: what the user asks for, within what the model has positions for."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Optional, Sequence

from obert_edge.errors import UsageError
from obert_edge.host.checkpoints.checkpoint import Checkpoint
from obert_edge.host.checkpoints.model_config import read_config
from obert_edge.host.checkpoints.tokenizer_files import tokenizer_facts
from obert_edge.host.data import Task
from obert_edge.host.data.base import ENCODER, MASKED_LM

_log = logging.getLogger(__name__)


def longest_sequence(folder: Path) -> int:
    """Tokens of the longest sequence that a model folder's position table covers."""
    # With a head named, nothing but the encoder's configuration is looked at.
    return read_config(Checkpoint.open(Path(folder)), task=MASKED_LM).longest


def fitted_to(folder: Path, task: Task, asked: Optional[int], what: str = "features") -> Task:
    """The task with a length that the model in a folder has positions for.

    What is asked for wins, up to the model's positions. The task's default is cut to these, and to the
    tokenizer's ``model_max_length``, with a line that says so.

    Args:
        folder: the model folder.
        task: its default is used where nothing is asked for.
        asked: tokens per feature that the user wants.
        what: the features that this is about, for the line.

    Returns:
        The task, or a copy with another default.

    Raises:
        UsageError: ``asked`` is more than the model has positions for.
        CheckpointError: the folder is no model.
    """
    positions = longest_sequence(folder)
    if task.head == ENCODER:
        # What an embedder cuts texts to is part of it.
        config = read_config(Checkpoint.open(Path(folder)), task=ENCODER)
        return fitted_within(str(folder), task, asked, positions, config.default_length, what)
    told = tokenizer_facts(Path(folder)).get("model_max_length", positions)
    return fitted_within(str(folder), task, asked, positions, min(positions, told), what)


def fitted_to_recipe(folder: Path, task: Task, users: Sequence[str]) -> Task:
    """The task for all stages of a recipe, whose model has the positions of the one it starts from.

    So the line about a default that is cut comes once, and says whom it concerns.

    Args:
        folder: the model folder that the recipe starts from.
        task: see :func:`fitted_to`.
        users: from :meth:`Recipe.with_default_length`.
    """
    if not users:
        return task
    *others, last = users
    named = f"{', '.join(others)} and {last}" if others else last
    return fitted_to(folder, task, None, f"features of {named}")


def fitted_within(
    name: str, task: Task, asked: Optional[int], positions: int, usual: int, what: str = "features"
) -> Task:
    """As :func:`fitted_to`, for a model whose limits are known.

    Args:
        name: what to call the model.
        task: see there.
        asked: see there.
        positions: tokens of its longest sequence.
        usual: tokens that the task's default is cut to.
        what: see there.

    Raises:
        UsageError: ``asked`` is more than ``positions``.
    """
    if asked is not None and asked > positions:
        raise UsageError(
            f"max_length is {asked}; {name} has positions for {positions} tokens",
            hint=f"use --max-length {positions} or less",
        )
    if asked is not None or (task.default_length <= usual and task.head != ENCODER):
        return task
    if task.head != ENCODER:
        _log.warning(
            "%s are cut to %d tokens, the longest that %s takes; task %s has %d by default",
            what,
            usual,
            name,
            task.name,
            task.default_length,
        )
    shorter = copy.copy(task)
    shorter.default_length = usual
    return shorter
