"""Debian's packages, unpacked into a cache folder: no root, and nothing installed on this machine."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Iterator, List, Optional, Sequence

from obert_edge.files import atomic_folder

_UPDATE_SECONDS, _DOWNLOAD_SECONDS, _UNPACK_SECONDS = 240, 300, 180


class UnavailableError(Exception):
    """QEMU or the packages of another machine cannot be had here; the message says why."""


def cache_folder() -> Path:
    """The folder, below the user's cache, that keeps what was downloaded and unpacked."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "obert-edge" / "tests"


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Keep out other processes that would fetch into the cache folder meanwhile; they wait."""
    cache_folder().mkdir(parents=True, exist_ok=True)
    with (cache_folder() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def unpacked(packages: Sequence[str], architecture: Optional[str] = None, *, closure: bool = False) -> Path:
    """Fetch and unpack packages, unless an earlier call did; return the folder with their files.

    Args:
        packages: Debian's names.
        architecture: Debian's name, such as ``arm64``; ``None``: this machine's.
        closure: unpack everything they depend on, too, so that programs can run with the folder as their
            root.

    Raises:
        UnavailableError: no apt or dpkg here, this is no Debian, or its archive cannot be reached.
    """
    for tool in ("apt-get", "dpkg-deb", "dpkg"):
        if shutil.which(tool) is None:
            raise UnavailableError(f"there is no {tool} here to get Debian's packages with")
    architecture = architecture or _run(["dpkg", "--print-architecture"], 10).strip()
    name = hashlib.sha256(repr((sorted(packages), closure)).encode()).hexdigest()[:8]
    folder = cache_folder() / f"{architecture}-{packages[0]}-{name}"
    if folder.is_dir():
        return folder
    with alone():
        if folder.is_dir():  # another process has fetched it meanwhile
            return folder
        with atomic_folder(folder) as temporary:
            archives = _download(packages, architecture, closure)
            for archive in archives:
                _run(["dpkg-deb", "-x", str(archive), str(temporary)], _UNPACK_SECONDS)
    return folder


def _download(packages: Sequence[str], architecture: str, closure: bool) -> List[Path]:
    state = cache_folder() / f"apt-{architecture}"
    for part in ("lists/partial", "archives/partial"):
        (state / part).mkdir(parents=True, exist_ok=True)
    (state / "status").touch()  # nothing is installed there, so every dependency is fetched
    settings = {
        "APT::Architecture": architecture,
        "APT::Architectures::": architecture,
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "root",
        "APT::Keep-Downloaded-Packages": "true",
        "Acquire::Languages": "none",
        "Acquire::Retries": "2",
        "Debug::NoLocking": "true",
        "Dir::Cache": str(state),
        "Dir::Cache::archives": str(state / "archives"),
        "Dir::Etc::sourcelist": str(_sources()),
        "Dir::Etc::sourceparts": "-",
        "Dir::State": str(state),
        "Dir::State::lists": str(state / "lists"),
        "Dir::State::status": str(state / "status"),
    }
    apt = ["apt-get", "-q", "-y", *(word for item in settings.items() for word in ("-o", "=".join(item)))]
    if not any((state / "lists").glob("*Packages*")):
        _run([*apt, "update"], _UPDATE_SECONDS)
    if closure:
        _run([*apt, "install", "--download-only", *packages], _DOWNLOAD_SECONDS)
        return sorted((state / "archives").glob("*.deb"))
    archives = state / "alone" / packages[0]
    archives.mkdir(parents=True, exist_ok=True)
    _run([*apt, "download", *packages], _DOWNLOAD_SECONDS, cwd=archives)
    return sorted(archives.glob("*.deb"))


def _sources() -> Path:
    """The file that lists Debian's own archive on this system; others have no packages of other CPUs."""
    for path in ("/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list"):
        if Path(path).is_file() and "debian" in Path(path).read_text("utf-8", "replace"):
            return Path(path)
    raise UnavailableError(
        "this system is no Debian: it lists no archive with packages of other architectures"
    )


def _run(command: Sequence[str], seconds: int, cwd: Optional[Path] = None) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, cwd=cwd, check=False)
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"{command[0]} {command[-1]} gave no answer within {seconds} s") from None
    if done.returncode:
        reason = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise UnavailableError(f"{command[0]} {command[-1]} failed: {' '.join(reason)}")
    return done.stdout
