from __future__ import annotations

import threading

import pytest

from obert_edge.errors import UsageError
from obert_edge.host.stages.recipe import Training
from obert_edge.host.stages.stage import is_main_process, remove_work, stage_folder, stage_work


def test_only_the_main_process_writes(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert not is_main_process()
    with stage_folder(tmp_path / "o", overwrite=False) as folder:
        (folder / "x").touch()
    assert not (tmp_path / "o").exists()
    monkeypatch.setenv("RANK", "0")
    with stage_folder(tmp_path / "o", overwrite=False) as folder:
        (folder / "x").touch()
    assert (tmp_path / "o" / "x").exists()
    with pytest.raises(UsageError), stage_folder(tmp_path / "o", overwrite=False):
        pass


def test_the_work_folder_survives_a_failure_and_goes_with_success(tmp_path, task):
    def work(options):
        return stage_work(tmp_path / "o", "finetune", tmp_path, task, options)

    with pytest.raises(RuntimeError), work(Training()) as folder:
        (folder / "checkpoint").touch()
        raise RuntimeError
    with work(Training()) as folder:
        assert (folder / "checkpoint").exists()
    remove_work(tmp_path / "o")
    assert not folder.exists()


def test_other_options_start_with_an_empty_work_folder(tmp_path, task):
    with (
        pytest.raises(RuntimeError),
        stage_work(tmp_path / "o", "prune", tmp_path, task, Training()) as folder,
    ):
        (folder / "checkpoint").touch()
        raise RuntimeError
    with stage_work(tmp_path / "o", "prune", tmp_path, task, Training(seed=1)) as folder:
        assert not (folder / "checkpoint").exists()


def test_other_processes_wait_for_the_main_one(tmp_path, task, monkeypatch):
    ready = threading.Event()
    started = threading.Event()

    def other():
        started.set()
        with stage_work(tmp_path / "o", "prune", tmp_path, task, Training()):
            ready.set()

    monkeypatch.setenv("RANK", "1")
    thread = threading.Thread(target=other)
    thread.start()
    started.wait()
    assert not ready.wait(0.3)
    monkeypatch.setenv("RANK", "0")
    with stage_work(tmp_path / "o", "prune", tmp_path, task, Training()):
        assert ready.wait(30)
        thread.join()
