"""Processes that test side by side fetch the packages of other machines one after the other."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tools.emulation import debian

#: Exit code 1: another process holds the lock.
TRY = """
import fcntl, sys
try:
    fcntl.flock(open(sys.argv[1], "w"), fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    sys.exit(1)
"""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder; returns whether another process may fetch into it now."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return lambda: subprocess.run([sys.executable, "-c", TRY, debian.cache_folder() / "lock"]).returncode == 0


def test_two_processes_do_not_fetch_at_once(cache):
    with debian.alone():
        assert not cache()
    assert cache()


def test_what_is_fetched_is_fetched_alone_and_once(cache, monkeypatch, tmp_path):
    (tmp_path / "one.deb").touch()
    commands = []

    def run(command, seconds, cwd=None):
        commands.append((command[0], command[1], cache() if command[0] == "dpkg-deb" else None))
        return "amd64"

    monkeypatch.setattr(debian, "_run", run)
    monkeypatch.setattr(debian, "_download", lambda *_: [tmp_path / "one.deb"])
    monkeypatch.setattr(debian.shutil, "which", lambda name: name)
    first = debian.unpacked(["one"])
    assert first.is_dir() and debian.unpacked(["one"]) == first
    assert commands == [
        ("dpkg", "--print-architecture", None),
        ("dpkg-deb", "-x", False),
        ("dpkg", "--print-architecture", None),
    ]
