"""Finding the engine library: the installed one, or the copy a bundle carries."""

from __future__ import annotations

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
    try:
        descriptor = _memory_file()
        if descriptor is not None:
            try:
                with os.fdopen(os.dup(descriptor), "wb") as stream:
                    stream.write(library)
                # The loader takes a path it has seen for the library it has already loaded, and the numbers
                # of descriptors are used again: every library needs a path of its own.
                return Library(f"/proc/self/fd/{'../fd/' * len(_carried_libraries)}{descriptor}")
            finally:
                os.close(descriptor)
        with tempfile.NamedTemporaryFile(prefix="obert_edge", suffix=".so") as stream:  # private: mode 0600
            stream.write(library)
            stream.flush()
            return Library(stream.name)
    except UnsupportedDeviceError as error:
        reason = error.message.partition(": ")[2] or error.message
        raise UnsupportedDeviceError(
            f"the engine library of {bundle.path} cannot be loaded here: {reason}",
            hint="use Linux with glibc 2.28 or newer, or install obert-edge on this device",
        ) from error


def _memory_file() -> Optional[int]:
    """A descriptor of a file that exists in memory only, or ``None`` where the system has or allows none."""
    try:
        return os.memfd_create("obert_edge")
    except (AttributeError, OSError):
        return None
