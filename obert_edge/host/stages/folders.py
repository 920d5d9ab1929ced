"""The folders of a stage: its output, whole or absent, and the work folder that survives a kill."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, Iterator, Optional

from obert_edge.errors import ObertEdgeError
from obert_edge.files import alone_in, atomic_file, atomic_folder, empty_folder

#: The logs of training in a work folder, which a finished stage has too.
LOG_FILE = "train_log.csv"
EVENTS = "tensorboard"
#: The folder of checkpoints in a work folder, and the file in each that was written to its end.
CHECKPOINTS, COMPLETE = "checkpoints", "complete"
_IDENTITY = "identity.json"
#: Seconds that the other processes wait for the main one.
_PATIENCE = 60
#: The parts of an identity, as a user knows them.
_PARTS = {
    "source": "the model",
    "task": "the data",
    "settings": "the options",
    "named": "files that the options name",
}

_log = logging.getLogger(__name__)


def is_main_process() -> bool:
    """Whether this is the process that writes: rank 0 under ``torchrun`` or ``accelerate launch``."""
    return os.environ.get("RANK", "0") == "0"


@contextlib.contextmanager
def output_folder(output: Path, *, overwrite: bool) -> Iterator[Path]:
    """The folder a stage fills, whole or absent; processes other than the main one fill one that is dropped.

    Raises:
        UsageError: the output exists.
    """
    if is_main_process():
        with atomic_folder(output, overwrite=overwrite) as folder:
            yield folder
    else:
        with tempfile.TemporaryDirectory() as dropped:
            yield Path(dropped)


def work_of(output: Path) -> Path:
    """Where a stage works until its output is in its place."""
    return output.parent / f".{output.name}.work"


@contextlib.contextmanager
def work_folder(output: Path, identity: Dict[str, Any]) -> Iterator[Path]:
    """The folder ``.<output>.work`` beside a stage's output: checkpoints and logs while it runs.

    It is kept when the stage is interrupted, so that running the very same stage again goes on from
    the last checkpoint; :func:`remove_work` removes it when the output is in its place. A stage that ends in
    an error before it trained, such as a refusal, leaves none. What another stage, or the same with other
    options, another model or other data, has left there is thrown away, and that is said.

    Args:
        output: the stage's output.
        identity: plain values that together say what "the very same stage" means.

    Raises:
        UsageError: another process makes the same output.
    """
    work = work_of(output)
    identity = json.loads(json.dumps(identity))  # as it will be read: tuples are lists
    record = work / _IDENTITY
    if not is_main_process():
        _wait_for(record, identity)
        yield work
        return
    with alone_in(work):
        theirs = _recorded(record)
        if theirs is not None and theirs != identity:
            _log.warning(
                "what an interrupted run left in %s is thrown away, and the stage begins anew: "
                "the runs differ in %s",
                work,
                _difference(theirs, identity),
            )
        if theirs != identity:
            empty_folder(work)
        with atomic_file(record) as path:
            path.write_text(json.dumps(identity), encoding="utf-8")
        try:
            yield work
        except BaseException:
            if not _has_trained(work):
                remove_work(output)
            raise


def _has_trained(work: Path) -> bool:
    """Whether a work folder holds what another run goes on from, or a log of how far this one came."""
    return (work / LOG_FILE).is_file() or any(work.glob(f"{CHECKPOINTS}/*/{COMPLETE}"))


def remove_work(output: Path) -> None:
    """Remove the work folder of a stage whose output is in its place."""
    if is_main_process():
        work = work_of(output)
        # The record first: where a kill leaves part of the folder, no later run goes on with it.
        (work / _IDENTITY).unlink(missing_ok=True)
        shutil.rmtree(work, ignore_errors=True)


def write_json(path: Path, content: Dict[str, Any]) -> None:
    """Write plain values, whole or not at all."""
    with atomic_file(path) as file:
        file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _recorded(record: Path) -> Optional[Dict[str, Any]]:
    """The identity of the run that a work folder is of; ``None``: a kill left no whole record of it."""
    try:
        found = json.loads(record.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _difference(theirs: Dict[str, Any], ours: Dict[str, Any]) -> str:
    """The parts in which two identities differ."""
    changed = sorted(key for key in {*theirs, *ours} if theirs.get(key) != ours.get(key))
    return ", ".join(_PARTS.get(key, f"the {key}") for key in changed)


def _wait_for(record: Path, identity: Dict[str, Any]) -> None:
    """Wait until the main process has put the work folder in order."""
    for _ in range(_PATIENCE * 10):
        with contextlib.suppress(OSError, ValueError):
            if json.loads(record.read_text("utf-8")) == identity:
                return
        time.sleep(0.1)
    raise ObertEdgeError(
        f"the main process did not prepare {record.parent} within {_PATIENCE} s",
        hint="all processes must see one file system, and run the same command",
    )
