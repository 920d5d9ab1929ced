"""The packed form of a bundle, for its way to a device: one gzip stream, from which the same bundle comes.

Any gzip reads and writes it (``gunzip -k model.oeb.gz``). A bundle itself stays as it is, because its members
are used in place. xz is 1 to 2 % smaller, and takes seven times as long and more (docs/results/packed.md).
"""

from __future__ import annotations

import contextlib
import tempfile
import zlib
from pathlib import Path
from typing import BinaryIO, Iterator, Optional, Sequence, Union

from obert_edge.bundle.archive import MAX_BYTES
from obert_edge.bundle.container import Bundle, check_bundle_output
from obert_edge.bundle.signature import Key
from obert_edge.errors import BundleError, UsageError
from obert_edge.files import atomic_file, begins_with, check_replaced

#: What the name of a packed bundle ends in, after the bundle's own name.
SUFFIX = ".gz"
#: A bundle is at most so many times the size of its packed form. Trained weights come to less than two,
#: and the zeros of a pruned one that is stored dense to ten.
_MOST_TIMES = 64
_BLOCK_BYTES = 1 << 20
#: zlib's name for the form of gzip, with the largest window it has, 32 KiB.
_GZIP = 16 + zlib.MAX_WBITS
#: What every file of gzip begins with.
_MAGIC = b"\x1f\x8b"


def pack_bundle(path: Union[str, Path], output: Union[str, Path]) -> Path:
    """Write the packed form of a bundle.

    Args:
        path: the bundle; all its hashes are checked first.
        output: where to.

    Returns:
        ``output``.

    Raises:
        BundleError: not a bundle, truncated or altered, or one of zeros that `unpack` would refuse.
        UsageError: the output is the input, no place for a file, or something else than a packed bundle.
        ObertEdgeError: the file cannot be written.
    """
    path, output = Path(path), Path(output)
    _check_apart(path, output)
    check_replaced(output, "packed bundle", lambda file: begins_with(file, _MAGIC), SUFFIX)
    with (
        Bundle.open(path, "full") as bundle,
        atomic_file(output) as temporary,
        temporary.open("wb") as stream,
    ):
        packer = zlib.compressobj(9, zlib.DEFLATED, _GZIP)
        for start in range(0, len(bundle.file), _BLOCK_BYTES):
            stream.write(packer.compress(bundle.file[start : start + _BLOCK_BYTES]))
        stream.write(packer.flush())
        times = len(bundle.file) // stream.tell()
        if times >= _MOST_TIMES:
            raise BundleError(
                f"{path} is {times} times as large as its packed form; `unpack` takes at most {_MOST_TIMES}",
                hint="its weights are hardly more than zeros: copy it as it is, or build a trained model",
            )
    return output


def unpack_bundle(
    path: Union[str, Path], output: Union[str, Path], trusted_keys: Optional[Sequence[Key]] = None
) -> Path:
    """Write the bundle that a packed form is of.

    It takes the place of an older file once it is there whole and checked. Memory does not grow with what
    the file claims to be, and the disk is not filled by one that is no bundle's.

    Args:
        path: the packed bundle.
        output: where to.
        trusted_keys: public keys, one of which must have signed the bundle; ``None``: whether it is signed
            does not count.

    Returns:
        ``output``.

    Raises:
        BundleError: no such file, not a packed bundle, truncated or altered.
        VerificationError: none of the trusted keys signed it.
        UsageError: the output is the input, no place for a file, or something else than a bundle; or a key is
            no public key.
        ObertEdgeError: the file cannot be written.
    """
    path, output = Path(path), Path(output)
    _check_apart(path, output)
    check_bundle_output(output)
    try:
        size = path.stat().st_size if path.is_file() else None
        source = path.open("rb") if size is not None else None
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}", hint="check the path") from error
    if source is None:
        raise BundleError(f"{path} is no file", hint="name a packed bundle, such as model.oeb.gz")
    with source, atomic_file(output) as temporary:
        with temporary.open("wb") as stream:
            try:
                for block in _unpacked(source, path, min(MAX_BYTES, _MOST_TIMES * (size or 0))):
                    stream.write(block)
            except zlib.error as error:
                raise BundleError(
                    f"{path} is no packed bundle, or it is damaged: {error}",
                    hint="copy it again, or pack the bundle with `obert-edge pack`",
                ) from error
        Bundle.open(temporary, "full", trusted_keys).close()
    return output


@contextlib.contextmanager
def as_bundle(path: Union[str, Path], trusted_keys: Optional[Sequence[Key]] = None) -> Iterator[Path]:
    """The bundle that a file is, or that a packed one holds: in a folder that goes when the context ends.

    Args:
        path: a bundle, or its packed form, whose name ends in ``.gz``.
        trusted_keys: as for :func:`unpack_bundle`, for a packed one alone.

    Raises:
        ObertEdgeError: as :func:`unpack_bundle` does, for a packed one alone.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        yield unpack_bundle(path, Path(folder) / path.stem, trusted_keys)


def _unpacked(source: BinaryIO, path: Path, most: int) -> Iterator[bytes]:
    """The blocks of the one stream that a file holds; ``most``: the bytes it may come to."""
    unpacker = zlib.decompressobj(_GZIP)
    written = 0
    while not unpacker.eof:
        block = unpacker.unconsumed_tail or source.read(_BLOCK_BYTES)
        found = unpacker.decompress(block, _BLOCK_BYTES)
        if not block and not found:
            raise BundleError(f"{path} ends within a bundle", hint="copy it again")
        written += len(found)
        if written > most:
            raise BundleError(
                f"{path} comes to more than {most} bytes, which no bundle of this packed size has",
                hint="pack the bundle with `obert-edge pack`",
            )
        yield found
    if unpacker.unused_data or source.read(1):
        raise BundleError(f"{path} goes on after the bundle", hint="copy it again")


def _check_apart(path: Path, output: Path) -> None:
    """Refuse an output that is the input."""
    if path.resolve() == output.resolve():
        raise UsageError(f"the output {output} is the input", hint="name another output with -o")
