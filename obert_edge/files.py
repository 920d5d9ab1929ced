"""Writing files and folders whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from pathlib import Path
from typing import Iterator

from obert_edge.errors import ObertEdgeError, UsageError


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; move it there when the block succeeds.

    On any error, Ctrl-C included, the temporary file is removed and what was at
    ``path`` before is untouched.

    Raises:
        ObertEdgeError: the disk is full or the folder cannot be written.
    """
    path = Path(path)
    with _explain(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; move it there when the block succeeds.

    Raises:
        UsageError: ``path`` exists, is not empty and ``overwrite`` is false.
        ObertEdgeError: the disk is full or the folder cannot be written.
    """
    path = Path(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())) and not overwrite:
        raise UsageError(
            f"the output {path} exists and is not an empty folder",
            hint="name another output, or remove this one",
        )
    with _explain(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
        old = temporary.with_suffix(".old")
        try:
            yield temporary
            temporary.chmod(0o755)
            if path.exists():
                path.rename(old)
            temporary.rename(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            if old.exists():
                if path.exists():
                    shutil.rmtree(old, ignore_errors=True)
                else:
                    old.rename(path)


@contextlib.contextmanager
def _explain(path: Path) -> Iterator[None]:
    """Turn the operating system's write errors into ours, with what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ObertEdgeError(
                f"the disk is full: {path} was not written",
                hint=f"free space on the disk that holds {path.parent}, then run the command again",
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise ObertEdgeError(
                f"{path} cannot be written: {error.strerror}",
                hint="choose an output folder you may write to",
            ) from error
        raise
