"""A Debian system of another CPU under user-mode QEMU: Python and numpy on a board that is not there."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Dict, List, Optional, Sequence

from obert_edge.errors import ObertEdgeError
from obert_edge.files import atomic_folder
from tools.emulation.debian import UnavailableError, alone, cache_folder, unpacked

#: The features that /proc/cpuinfo lists. They must fit the emulated core, since programs that look there
#: choose their instructions by them.
_V8 = "fp asimd evtstrm crc32 cpuid"
_A76 = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"
_V7 = "half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm"


@dataclass(frozen=True)
class Machine:
    """A board (or a CPU) to emulate.

    Args:
        name: what people call it.
        architecture: Debian's name of it, ``arm64`` or ``armhf``.
        cpu: QEMU's name of the core.
        part: ARM's number of the core, the ``CPU part`` of ``/proc/cpuinfo``.
        features: the ``Features`` of ``/proc/cpuinfo``.
        implementations: names of the engine's kernels that must run there, best first.
        board: the model in its device tree; empty where there is no device tree.
    """

    name: str
    architecture: str
    cpu: str
    part: str
    features: str
    implementations: Sequence[str]
    board: str = ""


#: 64-bit machines: Raspberry Pis 3, 4 and 5, and a CPU with every extension that QEMU has.
MACHINES = (
    Machine(
        "pi3", "arm64", "cortex-a53", "0xd03", _V8, ("neon", "scalar"), "Raspberry Pi 3 Model B Plus Rev 1.3"
    ),
    Machine("pi4", "arm64", "cortex-a72", "0xd08", _V8, ("neon", "scalar"), "Raspberry Pi 4 Model B Rev 1.4"),
    Machine(
        "pi5",
        "arm64",
        "cortex-a76",
        "0xd0b",
        _A76,
        ("neondot", "neon", "scalar"),
        "Raspberry Pi 5 Model B Rev 1.0",
    ),
    Machine("newest", "arm64", "max", "0xd4f", f"{_A76} i8mm", ("i8mm", "neondot", "neon", "scalar")),
)
PI_32_BIT = Machine("pi2", "armhf", "cortex-a7", "0xc07", _V7, ("neon", "scalar"))

#: What ONNX Runtime and LiteRT import besides numpy, which comes from Debian.
_ENGINE_REQUIREMENTS = (
    "flatbuffers",
    "protobuf",
    "ml_dtypes",
    "backports.strenum",
    "typing-extensions",
    "tqdm",
    "packaging",
)
_QEMU = {"arm64": "qemu-aarch64-static", "armhf": "qemu-arm-static"}
_PLATFORMS = {"arm64": "aarch64", "armhf": "armv7l"}
_TRIPLES = {"arm64": "aarch64-linux-gnu", "armhf": "arm-linux-gnueabihf"}


class Emulated:
    """An emulated machine, ready to run Python.

    Args:
        machine: what to emulate.
        folder: a folder for its few files, made if need be; the Debian system is shared by all machines.
        qemu: the emulator's command and options; ``None``: the emulator of this machine, or Debian's.

    Raises:
        UnavailableError: QEMU or the packages cannot be had.
    """

    def __init__(self, machine: Machine, folder: Path, qemu: Optional[Sequence[str]] = None) -> None:
        self.machine, self.folder = machine, folder
        qemu = qemu or [str(_find_qemu(_QEMU[machine.architecture]))]
        system = unpacked(["python3", "python3-numpy", "libstdc++6"], machine.architecture, closure=True)
        libraries = system / "usr" / "lib" / _TRIPLES[machine.architecture]
        for name in (
            "blas/libblas.so.3",
            "lapack/liblapack.so.3",
        ):  # links that no postinst script makes here
            link = libraries / Path(name).name
            if not link.is_symlink():
                link.symlink_to(name)
        root = folder / "root"
        (root / "proc").mkdir(parents=True)
        for part in ("usr", "lib", "etc"):
            (root / part).symlink_to(system / part)
        (root / "proc" / "cpuinfo").write_text(
            "".join(
                f"processor\t: {number}\nFeatures\t: {machine.features}\nCPU implementer\t: 0x41\n"
                f"CPU part\t: {machine.part}\n\n"
                for number in range(2)
            )
        )
        if machine.board:
            (root / "proc" / "device-tree").mkdir()
            (root / "proc" / "device-tree" / "model").write_text(machine.board + "\0")
        interpreter = next((system / "usr" / "bin").glob("python3.[0-9]*"))
        #: A program of *this* machine that behaves as ``python3`` of the other: it can start itself again.
        self.python = folder / "python3"
        command = [*qemu, "-cpu", machine.cpu, "-L", str(root), "-0"]
        self.python.write_text(
            f"#!/bin/sh\nexport PYTHONHOME={shlex.quote(str(system / 'usr'))}\n"
            f'exec {shlex.join(command)} "$0" {shlex.quote(str(interpreter))} "$@"\n'
        )
        self.python.chmod(0o755)

    def run(
        self, *arguments: object, packages: Optional[Path] = None, timeout: int = 900
    ) -> subprocess.CompletedProcess[str]:
        """Run its Python, and return what it printed.

        Args:
            arguments: the command line of ``python3``.
            packages: a folder of :func:`site_packages` for its Python to import from.
            timeout: seconds until it is ended.
        """
        command = [str(self.python), "-B", *map(str, arguments)]
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            env=self.environment(packages),
            timeout=timeout,
            check=False,
        )

    def environment(self, packages: Optional[Path] = None) -> Dict[str, str]:
        """The environment variables its Python needs, and none of those of this machine's Python."""
        variables = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "LC_ALL": "C"}
        return variables if packages is None else {**variables, "PYTHONPATH": str(packages)}


def site_packages(names: Sequence[str], architecture: str = "arm64") -> Path:
    """Fetch wheels that PyPI has for another machine; return a folder for :class:`Emulated` to import.

    Args:
        names: requirements, such as ``onnxruntime==1.20``; what they depend on does not come with them.
        architecture: Debian's name of the machine's architecture.

    Raises:
        UnavailableError: pip cannot get them.
    """
    folder = cache_folder() / f"{architecture}-site-{'-'.join(names)}"
    if folder.is_dir():
        return folder
    tags: List[str] = []
    for glibc in ("manylinux_2_34", "manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014"):
        tags += ["--platform", f"{glibc}_{_PLATFORMS[architecture]}"]
    command = [
        sys.executable,
        "-P",  # not a module of the working directory
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-compile",
    ]
    command += ["--python-version", "3.11", "--implementation", "cp", "--only-binary", ":all:", "--no-deps"]
    try:
        with alone():
            if not folder.is_dir():  # another process may have fetched it meanwhile
                _install([*command, *tags], names, folder)
    except (subprocess.TimeoutExpired, ObertEdgeError) as error:
        raise UnavailableError(f"pip did not get {', '.join(names)}: {error}") from error
    return folder


def _install(command: Sequence[str], names: Sequence[str], folder: Path) -> None:
    with atomic_folder(folder) as temporary:
        done = subprocess.run(
            [*command, "--target", str(temporary), *names],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if done.returncode:
            raise UnavailableError(f"pip cannot get {', '.join(names)}: {done.stderr.strip()[-300:]}")


def engine_wheels(engines: Sequence[str] = ("onnxruntime", "ai-edge-litert")) -> Path:
    """The aarch64 wheels of other engines, in the versions that this machine has installed.

    Raises:
        UnavailableError: pip cannot get them.
        PackageNotFoundError: an engine is not installed here.
    """
    return site_packages([*(f"{engine}=={version(engine)}" for engine in engines), *_ENGINE_REQUIREMENTS])


def _find_qemu(name: str) -> Path:
    found = shutil.which(name)
    return Path(found) if found else unpacked(["qemu-user-static"]) / "usr" / "bin" / name
