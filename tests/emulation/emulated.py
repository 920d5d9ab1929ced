"""A Debian system of another CPU under user-mode QEMU: Python and numpy on a board that is not there."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Optional, Sequence

from tests.emulation.debian import UnavailableError, cache_folder, unpacked

#: Names in /proc/cpuinfo. It must fit the emulated core: programs that look there believe it.
_V8 = "fp asimd evtstrm crc32 cpuid"
_A76 = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"
_V7 = "half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm"


@dataclass(frozen=True)
class Machine:
    """What is emulated.

    Args:
        name: for tests.
        architecture: as Debian says it.
        cpu: as QEMU says it.
        part: ``CPU part`` of ``/proc/cpuinfo``.
        features: its ``Features``.
        implementations: kernels that must run, best first.
        board: what its device tree says it is; empty: it has none.
    """

    name: str
    architecture: str
    cpu: str
    part: str
    features: str
    implementations: Sequence[str]
    board: str = ""


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

_QEMU = {"arm64": "qemu-aarch64-static", "armhf": "qemu-arm-static"}
_PLATFORMS = {"arm64": "aarch64", "armhf": "armv7l"}
_TRIPLES = {"arm64": "aarch64-linux-gnu", "armhf": "arm-linux-gnueabihf"}


class Emulated:
    """A machine ready to run Python.

    Args:
        machine: which.
        folder: for its few files; everything else is shared.
        qemu: the emulator's command; ``None``: the one of this machine, or Debian's.

    Raises:
        UnavailableError: QEMU or the packages cannot be had.
    """

    def __init__(self, machine: Machine, folder: Path, qemu: Optional[Sequence[str]] = None) -> None:
        self.machine, self.folder = machine, folder
        qemu = qemu or [str(_find_qemu(_QEMU[machine.architecture]))]
        system = unpacked(["python3", "python3-numpy", "libstdc++6"], machine.architecture, closure=True)
        libraries = system / "usr" / "lib" / _TRIPLES[machine.architecture]
        for name in ("blas/libblas.so.3", "lapack/liblapack.so.3"):  # what a package's postinst would link
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
        """Run its Python.

        Args:
            arguments: of ``python3``.
            packages: a folder of its quantizer packages.
            timeout: seconds.
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
        """What its Python needs, and nothing of this machine's Python."""
        variables = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "LC_ALL": "C"}
        return variables if packages is None else {**variables, "PYTHONPATH": str(packages)}


def site_packages(names: Sequence[str], architecture: str = "arm64") -> Path:
    """A folder of PyPI's own wheels of another machine for the Python of :class:`Emulated`.

    Args:
        names: of the packages; nothing they depend on comes with them.
        architecture: as Debian says it.

    Raises:
        UnavailableError: pip cannot get them.
    """
    from obert_edge.errors import ObertEdgeError
    from obert_edge.files import atomic_folder

    folder = cache_folder() / f"{architecture}-site-{'-'.join(names)}"
    if folder.is_dir():
        return folder
    tags: List[str] = []
    for glibc in ("manylinux_2_34", "manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014"):
        tags += ["--platform", f"{glibc}_{_PLATFORMS[architecture]}"]
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-compile",
    ]
    command += ["--python-version", "3.11", "--implementation", "cp", "--only-binary", ":all:", "--no-deps"]
    try:
        with atomic_folder(folder) as temporary:
            done = subprocess.run(
                [*command, *tags, "--target", str(temporary), *names],
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
            if done.returncode:
                raise UnavailableError(f"pip cannot get {', '.join(names)}: {done.stderr.strip()[-300:]}")
    except (subprocess.TimeoutExpired, ObertEdgeError) as error:
        raise UnavailableError(f"pip did not get {', '.join(names)}: {error}") from error
    return folder


def _find_qemu(name: str) -> Path:
    found = shutil.which(name)
    return Path(found) if found else unpacked(["qemu-user-static"]) / "usr" / "bin" / name
