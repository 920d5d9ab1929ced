"""Writing files and folders so that each is there whole or not at all, whatever interrupts the program."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import shutil
import tempfile
from pathlib import Path
from typing import Iterator, Optional

from obert_edge.errors import ObertEdgeError, UsageError


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; move it there when the block succeeds.

    On any error, Ctrl-C included, the temporary file is removed and what was at ``path`` before is untouched.
    A process that is killed cannot clean up; what it leaves is removed by the next one that writes ``path``.

    Raises:
        UsageError: what is there is no regular file: a folder, a device, a pipe.
        ObertEdgeError: the disk is full or the folder cannot be written.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise UsageError(
            f"the output {path} is a {'folder' if path.is_dir() else 'device or pipe'}, "
            "not a file to replace",
            hint="name another output",
        )
    with _explain(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        held = _lock(temporary)
        try:
            yield temporary
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
            _release(held)


@contextlib.contextmanager
def atomic_folder(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; move it there when the block succeeds.

    What a killed process left behind is removed as by :func:`atomic_file`; where it was killed between
    taking the old folder away and putting the new one in its place, the old one comes back first.

    Raises:
        UsageError: ``path`` exists, is not empty and ``overwrite`` is false.
        ObertEdgeError: the disk is full or the folder cannot be written.
    """
    path = Path(path)
    _remove_leftovers(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())) and not overwrite:
        raise UsageError(
            f"the output {path} exists and is not an empty folder",
            hint="name another output, or remove this one",
        )
    with _explain(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
        old = temporary.with_suffix(".old")
        held = _lock(temporary)
        try:
            yield temporary
            temporary.chmod(0o777 & ~_umask())
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
            _release(held)


def _umask() -> int:
    """The permissions that the user takes from new files; the system tells only who sets them."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _lock(path: Path) -> Optional[int]:
    """Hold a lock on a temporary file or folder for as long as this process lives.

    Returns:
        A descriptor for :func:`_release`; ``None`` when somebody else holds it, or the system has no such
        locks.
    """
    try:
        import fcntl

        descriptor = os.open(path, os.O_RDONLY)
    except (ImportError, OSError):
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _release(descriptor: Optional[int]) -> None:
    if descriptor is not None:
        os.close(descriptor)


def _remove_leftovers(path: Path) -> None:
    """Remove temporary files and folders for ``path`` whose process is gone: nobody holds their lock."""
    name = glob.escape(path.name)
    for left in [*path.parent.glob(f".{name}.*.part"), *path.parent.glob(f".{name}.*.old")]:
        # mkstemp's random part has no dot: `.a.b.x.part` belongs to `a.b`, not to `a`.
        if "." in left.name[len(path.name) + 2 :].rpartition(".")[0]:
            continue
        descriptor = _lock(left)
        if descriptor is None:
            continue  # somebody is writing it
        try:
            if left.suffix == ".old" and not path.exists():
                left.rename(path)
            elif left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)
        except OSError:
            pass  # another process was faster
        finally:
            _release(descriptor)


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
