"""Writing files and folders so that each is there whole or not at all, whatever interrupts the program."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import BinaryIO, Callable, Iterator, List, Optional

from obert_edge.errors import ObertEdgeError, UsageError

#: What :func:`alone_in` locks.
_LOCK = ".lock"


def check_file(path: Path) -> None:
    """Refuse a place where no file can be written; asked before the work whose result goes there.

    Where it is a symbolic link, what counts is where that leads to. Folders above it that do not exist yet
    are made when it is written.

    Raises:
        UsageError: ``path`` is a folder or a device, or lies below a file.
        ObertEdgeError: its folder cannot be written, or its name is too long.
    """
    path = _behind_links(Path(path))
    with _explain_names(path):
        if path.is_dir():
            raise UsageError(f"the output {path} is a folder; expected a file", hint="name a file in it")
        if path.exists() and not path.is_file():
            raise UsageError(f"the output {path} is neither file nor folder", hint="name a file")
        _check_place(path)


def _behind_links(path: Path) -> Path:
    """The file or folder that a symbolic link leads to, there or not; what is no link is itself.

    Raises:
        UsageError: it leads round in a circle.
    """
    try:
        if not path.is_symlink():
            return path
        real = Path(os.path.realpath(path))
        goes_round = real.is_symlink()
    except OSError:  # explained where it is written
        return path
    if goes_round:
        raise UsageError(f"the output {path} is a link that leads to itself", hint="name another output")
    return real


def check_replaced(path: Path, what: str, is_one: Callable[[Path], bool], ending: str) -> None:
    """As :func:`check_file`, and refuse to lose a file there that is something else than an older output.

    Args:
        path: the output.
        what: what it will be, such as ``"bundle"``.
        is_one: whether the file at a path is one.
        ending: what the name of one ends in.

    Raises:
        UsageError: see :func:`check_file`; or the file that is there would be lost.
        ObertEdgeError: as :func:`check_file`.
    """
    path = Path(path)
    check_file(path)
    if path.is_file() and path.stat().st_size and not is_one(path):
        raise UsageError(
            f"the output {path} is there already and is no {what}: it would be lost",
            hint=f"name another output, such as one that ends in {ending}",
        )


def begins_with(path: Path, magic: bytes, at: int = 0) -> bool:
    """Whether a file has these bytes at an offset; one that cannot be read has not."""
    try:
        with Path(path).open("rb") as stream:
            return stream.read(at + len(magic))[at:] == magic
    except OSError:
        return False


def check_folder(path: Path, *, overwrite: bool = False) -> None:
    """Refuse a place where no folder can be written; asked before the work whose result goes there.

    Raises:
        UsageError: ``path`` is a file, or is not empty and ``overwrite`` is false, or lies below a file.
        ObertEdgeError: the folder above it cannot be written, or its name is too long.
    """
    path = _behind_links(Path(path))
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

    Where ``path`` is a symbolic link, it stays one, and the file that it leads to is written. On any error,
    Ctrl-C included, the temporary file is removed and what was at ``path`` before is untouched.
    A process that is killed cannot clean up; what it leaves is removed by the next one that writes ``path``.

    Raises:
        UsageError: ``path`` is a folder, a device or a pipe, or lies below a file.
        ObertEdgeError: the disk is full or the folder cannot be written.
    """
    path = _behind_links(Path(path))
    check_file(path)
    with _explain(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        held = _lock(temporary)
        try:
            with _noticed(temporary):
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
    path = _behind_links(Path(path))
    _remove_leftovers(path)
    check_folder(path, overwrite=overwrite)
    with _explain(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
        old = temporary.with_suffix(".old")
        held = _lock(temporary)
        try:
            with _noticed(temporary):
                yield temporary
            check_folder(path, overwrite=overwrite)  # again: another command may have made it meanwhile
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


@contextlib.contextmanager
def no_torn_file(path: Path, pattern: str = "*", whole: str = "") -> Iterator[None]:
    """Remove what a block that fails leaves half-written in a folder that stays.

    For files and folders that somebody else's code writes in their place; ours are written by
    :func:`atomic_file` and :func:`atomic_folder`. Ctrl-C counts as a failure, too.

    Args:
        path: the folder.
        pattern: what is written there.
        whole: a file that is in what was written to its end; empty: nothing is.

    Raises:
        ObertEdgeError: there was no room, or no permission; every other error goes on as it is.
    """
    path = Path(path)

    def torn() -> List[Path]:
        return sorted(one for one in path.glob(pattern) if not (whole and (one / whole).is_file()))

    with _explain(path):
        try:
            with _noticed(path, torn):
                yield
        except BaseException:
            for one in torn():
                if one.is_dir():
                    shutil.rmtree(one, ignore_errors=True)
                else:
                    one.unlink(missing_ok=True)
            raise


def check_room(path: Path, what: str, need: int) -> None:
    """Refuse work whose result the disk has no room for.

    Args:
        path: where it will be written; it need not exist.
        what: what to call it.
        need: its bytes, at least.

    Raises:
        ObertEdgeError: less is free.
    """
    free = free_bytes(path)
    if free is not None and free < need:
        raise ObertEdgeError(
            f"the disk has no room for {what} in {path}: it takes about {_size(need)}, and {_size(free)} are "
            "free",
            hint=f"free space on the disk that holds {path}, or name an output on another disk",
        )


def free_bytes(path: Path) -> Optional[int]:
    """Bytes that are free on the disk of a path, which need not exist; ``None`` where nobody says."""
    for folder in (Path(path), *Path(path).absolute().parents):
        with contextlib.suppress(OSError):
            return shutil.disk_usage(folder).free
    return None


def _umask() -> int:
    """The permissions that the user takes from new files; the system tells only who sets them."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other commands from working in a folder, for as long as the context lasts and this process lives.

    Args:
        folder: made where there is none.

    Raises:
        UsageError: another process works there.
        ObertEdgeError: the folder cannot be made or written.
    """
    lock = folder / _LOCK
    with _explain(lock):
        folder.mkdir(parents=True, exist_ok=True)
        lock.touch()
    try:
        import fcntl
    except ImportError:  # a system without such locks
        yield
        return
    with lock.open() as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(
                f"another command works in {folder}", hint="wait until it has ended, or name another output"
            ) from error
        except OSError:  # a file system without such locks
            pass
        yield


def empty_folder(folder: Path) -> None:
    """Remove what is in a folder, but for the lock of :func:`alone_in`."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != _LOCK:
            path.unlink()


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


#: Errors of the operating system that say that there is no room, and what they say.
_NO_ROOM = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "a file may not become that large here",
}
_NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS)
#: How libraries written in Rust, as safetensors and tokenizers, tell an error of the operating system.
_RUST_ERROR = re.compile(r"\(os error (\d+)\)")
#: Bytes that are written on trial to a file whose writer does not say why it failed.
_TRIAL = 1 << 20
#: Errors that are looked at which an error was raised because of.
_CHAIN = 20


class _WriteError(Exception):
    """A write that failed within a block.

    Args:
        error: of the operating system.
        written: bytes that were written before it.
    """

    def __init__(self, error: OSError, written: int) -> None:
        super().__init__(str(error))
        self.error = error
        self.written = written


@contextlib.contextmanager
def _noticed(place: Path, torn: Optional[Callable[[], List[Path]]] = None) -> Iterator[None]:
    """Raise what failed to be written as a :class:`_WriteError`, while it is still there to be looked at.

    Libraries tell a full disk in words of their own: torch that a position is not the one it expected.

    Args:
        place: the file or folder that is written.
        torn: finds what is written within the folder; None: all of it.
    """
    try:
        yield
    except ObertEdgeError:
        raise
    except Exception as error:
        files = [one for path in (torn() if torn else [place]) for one in _files(path)]
        found = _told(error) or _tried(files)
        if found is None:
            raise
        if found.filename is not None and not _within(Path(os.fsdecode(found.filename)), place):
            raise  # it was no write of this block
        raise _WriteError(found, sum(map(_bytes, files))) from error


def _told(error: BaseException) -> Optional[OSError]:
    """The error of the operating system that an error tells, or was raised because of."""
    following: Optional[BaseException] = error
    for _ in range(_CHAIN):
        if following is None:
            break
        if isinstance(following, OSError) and following.errno in (*_NO_ROOM, *_NOT_ALLOWED):
            return following
        code = _RUST_ERROR.search(str(following))
        if code is not None and int(code[1]) in (*_NO_ROOM, *_NOT_ALLOWED):
            return OSError(int(code[1]), os.strerror(int(code[1])))
        following = following.__cause__ or following.__context__
    return None


def _tried(files: List[Path]) -> Optional[OSError]:
    """What the operating system says to more bytes in the file written last; it is thrown away anyhow."""
    last = max(files, key=_changed, default=None)
    if last is None:
        return None
    try:
        with last.open("ab", buffering=0) as stream:
            left = _TRIAL
            while left > 0:
                left -= stream.write(bytes(left)) or 0
    except OSError as error:
        return OSError(error.errno, error.strerror) if error.errno in _NO_ROOM else None
    return None


def _files(path: Path) -> List[Path]:
    if not path.is_dir():
        return [path] if path.is_file() else []
    return [one for one in path.rglob("*") if one.is_file() and not one.is_symlink()]


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _within(path: Path, place: Path) -> bool:
    path, place = path.resolve(), place.resolve()
    return path == place or place in path.parents


@contextlib.contextmanager
def _explain(path: Path) -> Iterator[None]:
    """Turn the operating system's write errors into ours, with what to do."""
    try:
        yield
    except _WriteError as error:
        raise _explained(path, error.error, error.written) from error.__cause__
    except OSError as error:
        if error.errno not in (*_NO_ROOM, *_NOT_ALLOWED):
            raise
        # Temporary files lie in the same folder; what lies elsewhere was somebody else's write.
        there = None if error.filename is None else Path(os.fsdecode(error.filename))
        if there is None or _within(there, path.parent):
            raise _explained(path, error, 0) from error
        if error.errno in _NO_ROOM:
            raise _explained(there, error, 0) from error
        raise ObertEdgeError(
            f"{there} cannot be opened: {error.strerror}", hint="choose places you may read and write"
        ) from error


def _explained(path: Path, error: OSError, written: int) -> ObertEdgeError:
    """Our error for one of the operating system's; asked when what was written is gone again."""
    if error.errno in _NOT_ALLOWED:
        return ObertEdgeError(
            f"{path} cannot be written: {error.strerror}", hint="choose an output folder you may write to"
        )
    found = f"{_NO_ROOM[error.errno or 0]}: {path} was not written"
    if written:
        found += f"; it takes more than {_size(written)}"
        free = free_bytes(path.parent)
        if error.errno == errno.ENOSPC and free is not None:
            found += f", and {_size(free)} are free on its disk"
    hint = (
        "raise the limit (ulimit -f), or choose a file system that takes larger files"
        if error.errno == errno.EFBIG
        else f"free space on the disk that holds {path.parent}"
    )
    return ObertEdgeError(found, hint=f"{hint}, then run the command again")


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"
