from __future__ import annotations

import json
import threading

import pytest

from obert_edge.errors import UsageError
from obert_edge.host.stages.folders import is_main_process, output_folder, remove_work, work_folder


def test_only_the_main_process_writes(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert not is_main_process()
    with output_folder(tmp_path / "o", overwrite=False) as folder:
        (folder / "x").touch()
    assert not (tmp_path / "o").exists()
    monkeypatch.setenv("RANK", "0")
    with output_folder(tmp_path / "o", overwrite=False) as folder:
        (folder / "x").touch()
    assert (tmp_path / "o" / "x").exists()
    with pytest.raises(UsageError), output_folder(tmp_path / "o", overwrite=False):
        pass


IDENTITY = {"stage": "finetune", "settings": {"seed": 42, "keep": (0, 2)}}


def trained(folder):
    """Leave what training leaves that came to a checkpoint."""
    (folder / "checkpoints" / "checkpoint-1").mkdir(parents=True)
    (folder / "checkpoints" / "checkpoint-1" / "complete").touch()


def test_the_work_folder_survives_a_failure_and_goes_with_success(tmp_path):
    with pytest.raises(RuntimeError), work_folder(tmp_path / "o", IDENTITY) as folder:
        trained(folder)
        raise RuntimeError
    with pytest.raises(UsageError), work_folder(tmp_path / "o", IDENTITY):
        raise UsageError("a refusal of the very same stage")
    with work_folder(tmp_path / "o", IDENTITY) as folder:
        assert (folder / "checkpoints" / "checkpoint-1").exists()
    remove_work(tmp_path / "o")
    assert not folder.exists()


@pytest.mark.parametrize("error", [UsageError("a refusal"), RuntimeError(), KeyboardInterrupt()])
def test_a_failure_before_training_leaves_no_work_folder(tmp_path, error):
    with pytest.raises(type(error)), work_folder(tmp_path / "o", IDENTITY) as folder:
        (folder / "tensorboard").mkdir()
        (folder / "checkpoints" / "checkpoint-1").mkdir(parents=True)  # half of one
        raise error
    assert list(tmp_path.iterdir()) == []


def test_the_log_of_a_training_that_fails_early_stays(tmp_path):
    with pytest.raises(RuntimeError), work_folder(tmp_path / "o", IDENTITY) as folder:
        (folder / "train_log.csv").touch()
        raise RuntimeError
    assert (folder / "train_log.csv").is_file()


def test_other_options_start_with_an_empty_work_folder(tmp_path):
    with pytest.raises(RuntimeError), work_folder(tmp_path / "o", IDENTITY) as folder:
        trained(folder)
        raise RuntimeError
    with work_folder(tmp_path / "o", {**IDENTITY, "settings": {"seed": 1, "keep": (0, 2)}}) as folder:
        assert not (folder / "checkpoints").exists()


def test_work_that_is_thrown_away_is_spoken_of(tmp_path, caplog):
    with pytest.raises(RuntimeError), work_folder(tmp_path / "o", {**IDENTITY, "task": ["a"]}) as folder:
        trained(folder)
        raise RuntimeError
    with work_folder(tmp_path / "o", {**IDENTITY, "task": ["a"]}):
        assert caplog.messages == []
    with work_folder(tmp_path / "o", {**IDENTITY, "task": ["b"]}) as folder:
        pass
    assert caplog.messages == [
        f"what an interrupted run left in {folder} is thrown away, and the stage begins anew: "
        "the runs differ in the data"
    ]


def test_a_work_folder_with_half_a_record_is_begun_anew(tmp_path):
    folder = tmp_path / ".o.work"
    folder.mkdir()
    (folder / "identity.json").write_text('{"stage": "fine')
    with work_folder(tmp_path / "o", IDENTITY):
        assert json.loads((folder / "identity.json").read_text())["stage"] == "finetune"


def test_other_processes_wait_for_the_main_one(tmp_path, monkeypatch):
    ready = threading.Event()
    started = threading.Event()

    def other():
        started.set()
        with work_folder(tmp_path / "o", IDENTITY):
            ready.set()

    monkeypatch.setenv("RANK", "1")
    thread = threading.Thread(target=other)
    thread.start()
    started.wait()
    assert not ready.wait(0.3)
    monkeypatch.setenv("RANK", "0")
    with work_folder(tmp_path / "o", IDENTITY):
        assert ready.wait(30)
        thread.join()


@pytest.mark.parametrize("other", [IDENTITY, {**IDENTITY, "stage": "prune"}], ids=["same", "another"])
def test_two_stages_do_not_make_one_output(tmp_path, other):
    with work_folder(tmp_path / "o", {"stage": "an older one"}) as folder:
        (folder / "left").touch()
    with work_folder(tmp_path / "o", IDENTITY) as folder:  # which throws the older one's work away
        (folder / "checkpoint").touch()
        with pytest.raises(UsageError, match="another command works in"), work_folder(tmp_path / "o", other):
            pass
        assert (folder / "checkpoint").exists()
        assert not (folder / "left").exists()
