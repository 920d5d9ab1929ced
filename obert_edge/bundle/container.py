"""A bundle file: written whole or not at all, opened only when it is what its manifest says."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import mmap
import os
import stat
import zipfile
import zlib
from pathlib import Path
from types import TracebackType
from typing import Dict, List, Mapping, NoReturn, Optional, Sequence, Type, Union

from obert_edge.bundle.archive import PREFIX, Entry, read_archive, write_archive
from obert_edge.bundle.cases import Case, read_cases
from obert_edge.bundle.hashes import CHUNK_BYTES, Crc32, chunk_digests, crc32, of_each, sha256
from obert_edge.bundle.manifest import Manifest, MemberFacts, SignatureFacts
from obert_edge.bundle.program import Program
from obert_edge.bundle.signature import Key, Signer, check_signature, read_keys, sign_manifest
from obert_edge.errors import BundleError, UnsupportedDeviceError, UsageError
from obert_edge.files import atomic_file, begins_with, check_replaced

MANIFEST = "manifest.json"
PROGRAM = "program.bin"
WEIGHTS = "weights.bin"
CASES = "cases.bin"
TOKENIZER = "tokenizer.json"
MODULES = "modules.bin"
ENGINE = "engine/libobert_edge.so"
MAIN = "__main__.py"

#: Members that every bundle has, with the most bytes each may have.
REQUIRED = {MANIFEST: 1 << 24, PROGRAM: 1 << 26, WEIGHTS: 1 << 32, CASES: 1 << 28}
#: Members that a bundle may lack, with the most bytes each may have.
OPTIONAL = {TOKENIZER: 1 << 28, MODULES: 1 << 28, ENGINE: 1 << 28, MAIN: 1 << 20}
#: Every other member is Python source of the runner (the device wing); its name starts with this.
RUNNER_PREFIX = "obert_edge/"
MAX_SOURCE_BYTES = 1 << 20
#: A ZIP file of this size or more would need fields that a bundle does not have.
_LIMIT_BYTES = 1 << 32

#: How thoroughly :meth:`Bundle.open` may check members, from least to most.
CHECKS = ("header", "checksums", "full")

Data = Union[bytes, memoryview]


def write_bundle(
    path: Path, manifest: Manifest, members: Mapping[str, Data], signer: Optional[Signer] = None
) -> Path:
    """Write a bundle; the same arguments give the same bytes.

    Args:
        path: where to; replaced only when everything has been written.
        manifest: the facts; its ``members`` and ``signature`` are written here.
        members: name -> data, without the manifest.
        signer: signs it; ``None``: the bundle has no signature.

    Returns:
        ``path``.

    Raises:
        UsageError: a member's name is not one a bundle has, one is missing, or they do not fit a ZIP file.
        ObertEdgeError: the file cannot be written.
    """
    for name, data in members.items():
        if name == MANIFEST or len(data) > _limit(name):
            raise UsageError(
                f"{name!r} ({len(data)} bytes) is not a member a bundle can have",
                hint=f"members are {', '.join([*REQUIRED, *OPTIONAL])} and Python sources in {RUNNER_PREFIX}",
            )
    missing = [name for name in REQUIRED if name != MANIFEST and name not in members]
    if missing:
        raise UsageError(f"a bundle needs {', '.join(missing)}", hint="pass every required member")
    facts = {
        name: MemberFacts(sha256(data), len(data), chunk_digests(data) if name == WEIGHTS else [])
        for name, data in sorted(members.items())
    }
    text = dataclasses.replace(manifest, members=facts, signature=SignatureFacts()).to_json()
    if signer is not None:
        text = sign_manifest(text, signer)
    return _write(Path(path), {MANIFEST: text, **{name: members[name] for name in facts}})


def check_bundle_output(path: Path) -> None:
    """Refuse a place where no bundle can be written, or where something else than a bundle would be lost.

    Raises:
        UsageError: as :func:`obert_edge.files.check_replaced`.
        ObertEdgeError: the same.
    """

    def is_bundle(file: Path) -> bool:
        """Whether a file is a bundle, or was one before it was damaged."""
        return zipfile.is_zipfile(file) or begins_with(file, PREFIX)

    check_replaced(path, "bundle", is_bundle, ".oeb")


def sign_bundle(path: Path, signer: Signer, output: Path) -> Path:
    """Write a bundle again with a signature, in place of the one it may have; nothing else changes.

    Args:
        path: the bundle; all its hashes are checked first.
        signer: signs it.
        output: where to; may be ``path``.

    Returns:
        ``output``.

    Raises:
        BundleError: not a bundle, truncated or altered.
        UsageError: at ``output`` is something else than a bundle.
        ObertEdgeError: the file cannot be written.
    """
    check_bundle_output(Path(output))
    with Bundle.open(path, "full") as bundle:
        members: Dict[str, Data] = {name: bundle.member(name) for name in bundle.names}
        return _write(Path(output), {**members, MANIFEST: sign_manifest(bytes(members[MANIFEST]), signer)})


def path_of(path: Union[str, Path]) -> Path:
    """A bundle's path as it was given.

    Raises:
        UsageError: it is no path.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise UsageError(
            f"the path of a bundle is {repr(path)[:60]}; expected a text or a pathlib.Path",
            hint="give the .oeb file that `obert-edge build` wrote",
        )
    return Path(path)


def _write(path: Path, members: Dict[str, Data]) -> Path:
    with atomic_file(path) as temporary, temporary.open("wb") as stream:
        write_archive(stream, members)
    return path


class Bundle:
    """An open bundle: members are views of one block of memory, never copies.

    The block holds the file as it was when it was opened. A memory map of the file would change with it: a
    copy over the file of a live session (``cp new.oeb model.oeb``) would change weights and indices that were
    checked long ago, and a shorter file would end the process.

    Use it as a context manager, or :meth:`close` it; views handed out (and arrays made from them) stay valid
    as long as they are referenced.

    Attributes:
        path: the file.
        manifest: its facts, checked.
    """

    def __init__(
        self, path: Path, data: memoryview, entries: Mapping[str, Entry], manifest: Manifest
    ) -> None:
        self.path = path
        self.manifest = manifest
        self._data: Optional[memoryview] = data
        self._entries = dict(entries)

    @classmethod
    def open(
        cls,
        path: Union[str, Path],
        verify: str = "header",
        trusted_keys: Optional[Sequence[Key]] = None,
    ) -> Bundle:
        """Open and check a bundle.

        Args:
            path: the ``.oeb`` file.
            verify: ``"header"`` checks the archive, the manifest, and every member but the weights against
                its CRC-32 in the archive; ``"checksums"`` the weights too; ``"full"`` every member against
                its SHA-256 in the manifest instead.
            trusted_keys: public keys, one of which must have signed the bundle, as texts or files; every
                member is then checked as by ``"full"``, because a CRC-32 guards against no forgery.
                ``None``: whether it is signed does not count.

        Raises:
            UsageError: ``path`` is none, ``verify`` is none of these, or a key is no public key.
            UnsupportedDeviceError: there is not enough memory.
            BundleError: no such file, not a bundle, truncated, altered, or of a newer format.
            VerificationError: none of the trusted keys signed it.
        """
        if verify not in CHECKS:
            raise UsageError(
                f"verify={verify!r} is none of {', '.join(map(repr, CHECKS))}", hint="pass one of them"
            )
        trusted = None if trusted_keys is None else read_keys(trusted_keys)
        path = path_of(path)
        data = _read(path)
        entries = {entry.name: entry for entry in read_archive(data, str(path))}
        text = bytes(_manifest_bytes(data, entries, path))
        manifest = Manifest.from_json(text, str(path))
        bundle = cls(path, data, entries, manifest)
        if trusted is not None:
            check_signature(text, manifest.signature, trusted, str(path))
        bundle._check_members(verify if trusted is None else "full")
        return bundle

    @property
    def names(self) -> List[str]:
        """Names of all members."""
        return list(self._entries)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def member(self, name: str) -> memoryview:
        """The bytes of a member, without copying.

        Raises:
            BundleError: the bundle has no such member, or is closed.
        """
        if self._data is None:
            raise BundleError(f"{self.path} was closed", hint="open the bundle again")
        if name not in self._entries:
            raise BundleError(
                f"{self.path} has no member {name!r}",
                hint="rebuild the bundle from a model folder that has what this command needs",
            )
        return _view(self._data, self._entries[name])

    @property
    def program(self) -> Program:
        """The compiled graph, parsed anew at each access."""
        program = Program.from_bytes(bytes(self.member(PROGRAM)))
        program.check_places()
        return program

    @property
    def weights(self) -> memoryview:
        """The weights blob."""
        return self.member(WEIGHTS)

    @property
    def cases(self) -> List[Case]:
        """The embedded test cases."""
        return read_cases(self.member(CASES))

    @property
    def file(self) -> memoryview:
        """The bytes of the whole file, as it was when it was opened and checked."""
        if self._data is None:
            raise BundleError(f"{self.path} was closed", hint="open the bundle again")
        return self._data

    def file_sha256(self) -> str:
        """SHA-256 of the whole file, as it was when it was opened and checked, in hexadecimal."""
        return sha256(self.file)

    def check_weights(self, of_chunk: Crc32 = zlib.crc32) -> None:
        """Compare the weights with the CRC-32 that the archive has of them, on all CPUs.

        Args:
            of_chunk: computes CRC-32; an engine library may be faster at it than zlib.

        Raises:
            BundleError: they are altered.
        """
        self._check_crc(WEIGHTS, of_chunk)

    def close(self) -> None:
        """Let go of the memory; it stays until the last view of it is gone."""
        self._data = None

    def __enter__(self) -> Bundle:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()

    def _check_members(self, verify: str) -> None:
        listed = self.manifest.members
        present = {name for name in self._entries if name != MANIFEST}
        if set(listed) != present:
            odd = sorted(set(listed) ^ present)
            raise BundleError(
                f"{self.path} and its manifest disagree about members: {', '.join(odd)}",
                hint="rebuild the bundle with `obert-edge build`",
            )
        missing = [name for name in REQUIRED if name not in self._entries]
        if missing:
            raise BundleError(f"{self.path} lacks {', '.join(missing)}", hint="rebuild the bundle")
        for name, facts in listed.items():
            view = self.member(name)
            if len(view) > _limit(name) or len(view) != facts.bytes:
                raise BundleError(
                    f"member {name!r} of {self.path} has {len(view)} bytes; its manifest says {facts.bytes}, "
                    f"and at most {_limit(name)} are allowed",
                    hint="rebuild the bundle with `obert-edge build`",
                )
            if verify == "full":
                if not _matches(view, facts):
                    self._refuse_altered(name, "its hash is not the manifest's")
            elif verify == "checksums" or name != WEIGHTS:
                self._check_crc(name)

    def _check_crc(self, name: str, of_chunk: Crc32 = zlib.crc32) -> None:
        if crc32(self.member(name), of_chunk) != self._entries[name].crc:
            self._refuse_altered(name, "its CRC-32 is not the archive's")

    def _refuse_altered(self, name: str, how: str) -> NoReturn:
        raise BundleError(
            f"member {name!r} of {self.path} is altered: {how}",
            hint="copy the bundle again; it was changed on the way or on the disk",
        )


def _matches(data: memoryview, facts: MemberFacts) -> bool:
    """Whether a member's bytes have the hashes in the manifest: of its chunks where it lists them."""
    return chunk_digests(data) == facts.chunks if facts.chunks else sha256(data) == facts.sha256


def _limit(name: str) -> int:
    """The most bytes a member of that name may have; -1 for names no bundle has."""
    if name in REQUIRED:
        return REQUIRED[name]
    if name in OPTIONAL:
        return OPTIONAL[name]
    plain = name.replace("/", "").replace("_", "").replace(".", "").isalnum()
    is_source = name.startswith(RUNNER_PREFIX) and name.endswith(".py") and plain and ".." not in name
    return MAX_SOURCE_BYTES if is_source else -1


def _read(path: Path) -> memoryview:
    """The bytes of a file; of one that is no bundle only the first, however large it is."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise BundleError(
                f"{path} cannot be read: it is a folder, not a bundle",
                hint=f"build a bundle of the model in it: `obert-edge build {path} --target ...`",
            )
        if not stat.S_ISREG(mode):  # opening a pipe would wait for its writer
            raise BundleError(
                f"{path} cannot be read: it is not a regular file",
                hint="give the .oeb file that `obert-edge build` wrote",
            )
        with path.open("rb") as stream:
            start = stream.read(len(PREFIX))
            if start != PREFIX:
                return memoryview(start)
            return _read_whole(stream.fileno(), path)
    except FileNotFoundError as error:
        raise BundleError(f"there is no bundle at {path}", hint="check the path") from error
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOMEM:
            raise UnsupportedDeviceError(
                f"there is not enough memory to read {path}, which has {path.stat().st_size} bytes",
                hint="end other programs, or raise the limit of this process (ulimit -v) or of its container",
            ) from error
        raise BundleError(
            f"{path} cannot be read: {error}", hint="give the .oeb file that `obert-edge build` wrote"
        ) from error


def _read_whole(descriptor: int, path: Path) -> memoryview:
    size = os.fstat(descriptor).st_size
    if size >= _LIMIT_BYTES:
        raise BundleError(
            f"{path} has {size} bytes; a bundle has fewer than {_LIMIT_BYTES}",
            hint="give the .oeb file that `obert-edge build` wrote",
        )
    block = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        # A hint, which a system may not know: large pages take a fifth of the time to fill.
        with contextlib.suppress(OSError):
            block.madvise(mmap.MADV_HUGEPAGE)
    view = memoryview(block)
    fill(view, descriptor, path)
    return view.toreadonly()


def fill(view: memoryview, descriptor: int, path: Path) -> None:
    """Read a file from its start until ``view`` is full, on all CPUs.

    Raises:
        BundleError: the file ends before that.
    """

    def read(start: int) -> None:
        rest = view[start : start + CHUNK_BYTES]
        while rest:
            count = os.preadv(descriptor, [rest], start)
            if count == 0:
                raise BundleError(
                    f"{path} was cut short while it was read", hint="wait until it is copied, then try again"
                )
            rest, start = rest[count:], start + count

    of_each(range(0, len(view), CHUNK_BYTES), read)


def _manifest_bytes(data: memoryview, entries: Dict[str, Entry], path: Path) -> memoryview:
    """The manifest is the root of all other checks, so the archive's own checksum covers it."""
    entry = entries.get(MANIFEST)
    if entry is None or entry.size > REQUIRED[MANIFEST]:
        raise BundleError(
            f"{path} has no {MANIFEST} of at most {REQUIRED[MANIFEST]} bytes",
            hint="give the .oeb file that `obert-edge build` wrote",
        )
    text = _view(data, entry)
    if zlib.crc32(text) != entry.crc:
        raise BundleError(f"the manifest of {path} is altered", hint="copy the bundle again")
    return text


def _view(data: memoryview, entry: Entry) -> memoryview:
    return data[entry.data_offset : entry.data_offset + entry.size]
