"""Checkpoints that are complete or not there: what a killed run goes on from."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Any, Iterator, List, Optional

import torch
from transformers import TrainerCallback

from obert_edge.files import no_torn_file
from obert_edge.host.stages.folders import COMPLETE, is_main_process


class CompleteCheckpoint(TrainerCallback):
    """Marks a checkpoint when everything is in it, and only then removes those before it.

    The Trainer writes file by file and callbacks add theirs after it; it would remove the checkpoint
    before while the new one is still growing. So this must be the last callback, and the Trainer's own
    ``save_total_limit`` unset.
    """

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Mark the checkpoint of this step as complete."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.barrier()  # the other processes write their random states into it
        if not state.is_world_process_zero:
            return
        folder = Path(args.output_dir)
        newest = folder / f"checkpoint-{state.global_step}"
        (newest / COMPLETE).touch()
        for checkpoint in _all(folder):
            if checkpoint != newest:
                shutil.rmtree(checkpoint, ignore_errors=True)


@contextlib.contextmanager
def whole_checkpoints(folder: Path) -> Iterator[None]:
    """Train within this block: a checkpoint that an error leaves unfinished is removed.

    What was written to its end stays, and a later run goes on from it.

    Raises:
        ObertEdgeError: there is no room for a checkpoint, or for the logs beside it.
    """
    if not is_main_process():
        yield
        return
    with no_torn_file(folder, "checkpoint-*", whole=COMPLETE):
        yield


def last_complete_checkpoint(folder: Path) -> Optional[Path]:
    """The newest checkpoint that was written to its end, or ``None``; unfinished ones are removed."""
    newest: Optional[Path] = None
    for checkpoint in reversed(_all(folder)):
        if newest is None and (checkpoint / COMPLETE).is_file():
            newest = checkpoint
        else:
            shutil.rmtree(checkpoint, ignore_errors=True)
    return newest


def step_of(checkpoint: Path) -> int:
    """The optimizer step a checkpoint was written after."""
    return int(checkpoint.name.rpartition("-")[2])


def _all(folder: Path) -> List[Path]:
    found = [path for path in folder.glob("checkpoint-*") if path.name.rpartition("-")[2].isdigit()]
    return sorted(found, key=step_of)
