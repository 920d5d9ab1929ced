"""Writing files and folders so that each is there whole or not at all, whatever interrupts the program."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import shutil
import tempfile
from pathlib import Path
from typing import BinaryIO, Iterator, Optional

from obert_edge.errors import ObertEdgeError, UsageError


def check_file(path: Path) -> None:
    """Refuse a place where no file can be written; asked before the work whose result goes there.

    Folders above it that do not exist yet are made when it is written.

    Raises:
        UsageError: ``path`` is a folder or a device, or lies below a file.
        ObertEdgeError: its folder cannot be written, or its name is too long.
    """
    path = Path(path)
    with _explain_names(path):
        if path.is_dir():
            raise UsageError(f"the output {path} is a folder; expected a file", hint="name a file in it")
        if path.exists() and not path.is_file():
            raise UsageError(f"the output {path} is neither file nor folder", hint="name a file")
        _check_place(path)


def check_folder(path: Path, *, overwrite: bool = False) -> None:
    """Refuse a place where no folder can be written; asked before the work whose result goes there.

    Raises:
        UsageError: ``path`` is a file, or is not empty and ``overwrite`` is false, or lies below a file.
        ObertEdgeError: the folder above it cannot be written, or its name is too long.
    """
    path = Path(path)
    if not path.name:
        raise UsageError(f"the output {path} is where you are", hint="name a new folder")
    with _explain_names(path):
        if path.exists() and not path.is_dir():
            raise UsageError(
                f"the output {path} exists and is not an empty folder, but a file", hint="name another output"
            )
        if path.is_dir() and any(path.iterdir()) and not overwrite:
            raise UsageError(
                f"the output {path} exists and is not an empty folder",
                hint="name another output, or remove this one",
            )
        _check_place(path)


def check_apart(output: Path, source: Path, *, replaced: bool = False) -> None:
    """Refuse an output folder that is the input folder or lies inside it.

    Args:
        output: the folder to write.
        source: the folder that is read.
        replaced: whether the output takes the place of what is there, so that it must not hold the input.

    Raises:
        UsageError: they are not apart.
    """
    there, here = Path(output).resolve(), Path(source).resolve()
    if there == here or here in there.parents or (replaced and there in here.parents):
        how = "is" if there == here else "is inside" if here in there.parents else "holds"
        raise UsageError(
            f"the output {output} {how} the input {source}", hint="name an output beside the input"
        )


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; move it there when the block succeeds.

    On any error, Ctrl-C included, the temporary file is removed and what was at ``path`` before is untouched.
    A process that is killed cannot clean up; what it leaves is removed by the next one that writes ``path``.

    Raises:
        UsageError: ``path`` is a folder, a device or a pipe, or lies below a file.
        ObertEdgeError: the disk is full or the folder cannot be written.
    """
    path = Path(path)
    check_file(path)
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
def new_file(path: Path, mode: int) -> Iterator[BinaryIO]:
    """Yield a file that did not exist, to write; it goes again when the block fails.

    Args:
        path: where to; folders above it are made.
        mode: its permissions from the first moment on, of which the user's umask may take some.

    Raises:
        UsageError: there is a file already.
        ObertEdgeError: it cannot be written.
    """
    with _explain_names(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        except FileExistsError as error:
            raise UsageError(f"{path} exists, and is not overwritten", hint="name another file") from error
        try:
            with os.fdopen(descriptor, "wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
        except BaseException:
            path.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def atomic_folder(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; move it there when the block succeeds.

    What a killed process left behind is removed as by :func:`atomic_file`; where it was killed between
    taking the old folder away and putting the new one in its place, the old one comes back first.

    Raises:
        UsageError: ``path`` is a file, or is not empty and ``overwrite`` is false.
        ObertEdgeError: the disk is full or the folder cannot be written.
    """
    path = Path(path)
    _remove_leftovers(path)
    check_folder(path, overwrite=overwrite)
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


#: Errors of the operating system about the name of a file, not about its content.
_NAMES = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL)


def _check_place(path: Path) -> None:
    """Try to write a temporary file of ``path`` in its folder, or in the nearest one above that exists."""
    folder = path.parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise UsageError(
            f"{path} cannot be written: {folder} is a file, not a folder", hint="name another output"
        )
    with tempfile.NamedTemporaryFile(prefix=f".{path.name}.", suffix=".part", dir=folder):
        pass


@contextlib.contextmanager
def _explain_names(path: Path) -> Iterator[None]:
    """Turn errors about the name of an output into ours, beside those of :func:`_explain`."""
    with _explain(path):
        try:
            yield
        except OSError as error:
            if error.errno in _NAMES:
                raise ObertEdgeError(
                    f"{path} cannot be written: {error.strerror}", hint="name another output"
                ) from error
            raise


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
