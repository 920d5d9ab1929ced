"""Finding the engine library: the installed one, or the copy a bundle carries."""

from __future__ import annotations

import errno
import functools
import os
import struct
import tempfile
from pathlib import Path
from typing import Dict, Optional

import obert_edge
from obert_edge.bundle.container import ENGINE, Bundle
from obert_edge.device.runtime import machine
from obert_edge.device.runtime.native import Library
from obert_edge.errors import UnsupportedDeviceError

#: ``e_machine`` of an ELF header -> the architecture as ``platform.machine()`` says it.
_ELF_MACHINES = {3: "i686", 40: "armv7l", 62: "x86_64", 183: "aarch64", 243: "riscv64"}
#: Libraries that were loaded out of bundles, by their SHA-256.
_carried_libraries: Dict[str, Library] = {}
#: Architecture -> the target to build for.
_TARGETS = {"x86_64": "x86", "aarch64": "arm64", "armv7l": "armhf"}


@functools.lru_cache(maxsize=1)
def installed_library() -> Optional[Library]:
    """The library of the installed package, or ``None`` where it has none for this machine."""
    if obert_edge.__file__ is None:
        return None
    path = (
        Path(obert_edge.__file__).parent
        / "engine"
        / "lib"
        / f"libobert_edge.{machine.architecture()}-linux-gnu.so"
    )
    try:
        return Library(path) if path.is_file() else None
    except UnsupportedDeviceError:
        return None  # it has another ABI, or is for a newer system; the bundle's own library may do


def find_library(bundle: Bundle) -> Library:
    """The library to run a bundle with: the installed one where it fits, else the bundle's.

    Args:
        bundle: open; its hashes have been checked, that of its library included.

    Raises:
        UnsupportedDeviceError: the bundle is for another CPU, or no library can be loaded.
    """
    carried = bundle.member(ENGINE) if ENGINE in bundle else None
    if carried is not None:
        check_library_architecture(bundle, machine.architecture(), "this")
    installed = installed_library()
    if installed is not None:
        return installed
    if carried is None:
        raise UnsupportedDeviceError(
            f"{bundle.path} carries no engine library, and none is installed for {machine.architecture()}",
            hint="run `pip install obert-edge`, or build the bundle with an engine for this machine",
        )
    return _load_carried(bundle, carried)


def library_architecture(library: memoryview) -> Optional[str]:
    """The CPU architecture an ELF shared library is for; ``None`` when it is no ELF file."""
    if len(library) < 20 or bytes(library[:4]) != b"\x7fELF":
        return None
    (code,) = struct.unpack("<H", library[18:20])
    return _ELF_MACHINES.get(code, f"ELF machine {code}")


def check_library_architecture(bundle: Bundle, architecture: str, where: str) -> None:
    """Refuse a bundle whose engine is for another CPU.

    Args:
        bundle: open, with an engine.
        architecture: the machine's, as :func:`machine.architecture` says it.
        where: what to call the machine in the error.

    Raises:
        UnsupportedDeviceError: the engine is for another CPU than that.
    """
    found = library_architecture(bundle.member(ENGINE))
    if found == architecture:
        return
    target = _TARGETS.get(architecture)
    fix = f"build it with `obert-edge build --target {target}`" if target else "use an x86-64 or ARM system"
    if (found, architecture) == ("aarch64", "armv7l"):
        fix = f"use a 64-bit system with 64-bit Python, or {fix}"
    raise UnsupportedDeviceError(
        f"{bundle.path} was built for {found} (target {bundle.manifest.target}); {where} is {architecture}",
        hint=fix,
    )


def _load_carried(bundle: Bundle, library: memoryview) -> Library:
    """Load a library from memory: nothing is left on the disk, which may be read-only."""
    key = bundle.manifest.members[ENGINE].sha256
    if key not in _carried_libraries:
        _carried_libraries[key] = _load_from_memory(bundle, library)
    return _carried_libraries[key]


def _load_from_memory(bundle: Bundle, library: memoryview) -> Library:
    reasons = []
    for load in (_load_memory_file, _load_temporary_file):
        try:
            return load(library)
        except UnsupportedDeviceError as error:
            reasons.append(error.message.partition(": ")[2] or error.message)
            if not any(sign in error.message for sign in _PLACE_REFUSED):
                break  # it is the library that the loader refuses, wherever it lies
        except OSError as error:
            reasons.append(f"{_WHERE[load]}: {error.strerror or error}")
    raise UnsupportedDeviceError(
        f"the engine library of {bundle.path} cannot be loaded here: {'; '.join(dict.fromkeys(reasons))}",
        hint=_hint(" ".join(reasons)),
    )


def _load_memory_file(library: memoryview) -> Library:
    """Load the library out of a file that exists in memory only.

    Raises:
        OSError: the system has or allows none, or shows no descriptors in ``/proc``.
        UnsupportedDeviceError: the loader refuses it.
    """
    if not hasattr(os, "memfd_create"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    descriptor = os.memfd_create("obert_edge")
    try:
        with os.fdopen(os.dup(descriptor), "wb") as stream:
            stream.write(library)
        # The loader takes a path it has seen for the library it has already loaded, and the numbers of
        # descriptors are used again: every library needs a path of its own.
        path = f"/proc/self/fd/{'../fd/' * len(_carried_libraries)}{descriptor}"
        os.stat(path)  # noqa: PTH116 - a Path would take the dots out
        return Library(path)
    finally:
        os.close(descriptor)


def _load_temporary_file(library: memoryview) -> Library:
    """Load the library out of a file of the temporary folder, which only this user may read.

    Raises:
        OSError: there is no such folder, it may not be written, or it is full.
        UnsupportedDeviceError: the loader refuses it.
    """
    with tempfile.NamedTemporaryFile(prefix="obert_edge", suffix=".so") as stream:  # private: mode 0600
        stream.write(library)
        stream.flush()
        return Library(stream.name)


#: What to call the places where a library may be put, in errors.
_WHERE = {_load_memory_file: "a file in memory", _load_temporary_file: "a file in the temporary folder"}


#: What the loader says where programs may not run from the place of a library.
_PLACE_REFUSED = ("failed to map segment", "Permission denied", "Operation not permitted", "cannot open")


def _hint(reasons: str) -> str:
    """What helps against the reasons that the system gave."""
    if "GLIBC" in reasons:
        return "use Linux with glibc 2.28 or newer, or install obert-edge on this device"
    if "temporary folder" not in reasons and not any(sign in reasons for sign in _PLACE_REFUSED):
        return "rebuild the bundle for this system (Linux, glibc 2.28 or newer), or install obert-edge on it"
    return (
        "set TMPDIR to a folder that may be written and from which programs may run, or install obert-edge "
        "on this device"
    )
