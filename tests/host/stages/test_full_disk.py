"""A disk that fills up while a stage runs: one clear error, the space given back, and a run that goes on."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file

from obert_edge.errors import ObertEdgeError
from obert_edge.files import check_room, free_bytes
from obert_edge.host.pruning.settings import Pruning
from obert_edge.host.stages import finetune, prune, quantize
from obert_edge.host.stages.resume import CompleteCheckpoint

from .conftest import FAST


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file may become larger, as on a disk with so much room; Python ignores the signal for it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def left_in(folder: Path) -> list[str]:
    """Every file below a folder, without what tells of the run itself."""
    files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    return sorted(str(path) for path in files if path.name not in ("identity.json", "train_log.csv", ".lock"))


def checkpoints_in(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / ".out.work" / "checkpoints").glob("*"))


def same_weights(one: Path, other: Path) -> bool:
    first, second = (load_file(folder / "model.safetensors") for folder in (one, other))
    return all(bool((first[key] == second[key]).all()) for key in first)


#: Bytes that the weights of the tiny encoder stay below, and its optimizer's state does not.
WEIGHTS_ALONE = 130_000


def test_the_limit_lies_between_the_weights_and_the_optimizer(dense) -> None:
    assert (dense / "model.safetensors").stat().st_size < WEIGHTS_ALONE


@pytest.mark.parametrize("limit", [40_000, WEIGHTS_ALONE])
def test_a_checkpoint_without_room_is_told_and_removed(encoder, task, tmp_path, limit) -> None:
    """Below the smaller limit safetensors fails, below the larger one torch, whose error tells nothing."""
    with largest_file(limit), pytest.raises(ObertEdgeError, match="may not become that large here") as caught:
        finetune(encoder, task, tmp_path / "out", training=FAST, progress=False)
    assert "was not written" in caught.value.message and "ulimit -f" in caught.value.hint
    assert checkpoints_in(tmp_path) == []
    assert [path.name for path in tmp_path.iterdir()] == [".out.work"]


def test_a_run_goes_on_from_the_last_whole_checkpoint(encoder, task, dense, tmp_path, monkeypatch) -> None:
    saved = []
    original = CompleteCheckpoint.on_save

    def fills_the_disk(self, args, state, control, **kwargs) -> None:
        original(self, args, state, control, **kwargs)
        saved.append(state.global_step)
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (WEIGHTS_ALONE, most))

    monkeypatch.setattr(CompleteCheckpoint, "on_save", fills_the_disk)
    with largest_file(1 << 30), pytest.raises(ObertEdgeError, match="was not written"):
        finetune(encoder, task, tmp_path / "out", training=FAST, progress=False)
    assert saved == [20]
    assert checkpoints_in(tmp_path) == ["checkpoint-20"]
    monkeypatch.undo()
    finetune(encoder, task, tmp_path / "out", training=FAST, progress=False)
    assert same_weights(tmp_path / "out", dense)


@pytest.mark.parametrize("stage", ["prune", "quantize", "prune without training"])
def test_every_stage_ends_so(dense, task, tmp_path, stage) -> None:
    few = dataclasses.replace(FAST, max_steps=4, save_steps=2)
    pruning = Pruning(sparsity=0.5, pattern="2x1", method="magnitude", steps=2)
    with largest_file(40_000), pytest.raises(ObertEdgeError, match="was not written"):
        if stage == "quantize":
            quantize(dense, task, tmp_path / "out", training=few, progress=False)
        elif stage == "prune":
            prune(dense, task, tmp_path / "out", pruning=pruning, training=few, progress=False)
        else:
            none = dataclasses.replace(few, max_steps=0)
            prune(dense, task, tmp_path / "out", pruning=pruning, training=none, progress=False)
    assert not (tmp_path / "out").exists()
    assert left_in(tmp_path) == []


def test_too_little_room_for_one_checkpoint_is_told_before_training(tmp_path) -> None:
    free = free_bytes(tmp_path / "not" / "there")
    assert free
    with pytest.raises(
        ObertEdgeError, match="the disk has no room for a checkpoint in .*: it takes about .* are free"
    ):
        check_room(tmp_path / "not" / "there", "a checkpoint", free * 10)
    check_room(tmp_path / "not" / "there", "a checkpoint", 1)


@pytest.fixture
def small_disk(dense: Path) -> Iterator[Path]:
    """A file system of its own with room for one checkpoint and half of the next."""
    folder = Path(tempfile.mkdtemp())
    size = int(1.5 * 3.3 * (dense / "model.safetensors").stat().st_size)  # with two moments of each weight
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        folder.rmdir()
        pytest.skip("only an administrator may mount a small file system")
    yield folder
    # Lazily: a model that was read from it may still be mapped.
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
    folder.rmdir()


def test_a_real_full_disk_is_told_and_given_back(encoder, task, dense, small_disk) -> None:
    with pytest.raises(
        ObertEdgeError, match=r"the disk is full: .* takes more than .*, and .* free"
    ) as caught:
        finetune(encoder, task, small_disk / "out", training=FAST, progress=False)
    assert "free space on the disk" in caught.value.hint
    assert checkpoints_in(small_disk) == ["checkpoint-20"]
    free = free_bytes(small_disk)
    assert free and free > (dense / "model.safetensors").stat().st_size
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    finetune(encoder, task, small_disk / "out", training=FAST, progress=False)
    assert same_weights(small_disk / "out", dense)
    assert json.loads((small_disk / "out" / "stage.json").read_text())["stage"] == "finetune"
