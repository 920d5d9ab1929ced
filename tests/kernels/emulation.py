"""The engine of another machine, run by qemu's user emulation, in place of ``runtime.native.Library``.

Python itself would take minutes under emulation, so only a small driver (``emulated_driver.cpp``, which
describes the requests) runs there and takes requests through a pipe. It is compiled by the project's own
compiler; qemu and the C library of the other machine are Debian's packages, found on this machine or fetched
into a cache folder.
"""

from __future__ import annotations

import os
import shutil
import signal
import struct
import subprocess
from pathlib import Path
from typing import List, Optional, Sequence, Tuple, Union

import numpy as np

from obert_edge.bundle.program import Domain, Program
from obert_edge.device.runtime.native import Library, NativeModel, PackedBatch, Weights
from obert_edge.targets import build
from tools.emulation.debian import unpacked

DRIVER = Path(__file__).with_name("emulated_driver.cpp")


class Machine:
    """What it takes to emulate a kind of machine.

    Args:
        target: folder of the target whose compiler triple the driver is compiled for.
        emulator: qemu's command.
        package: Debian's package of its C library, for this machine's dpkg.
        root: folder of that package that is the emulated root.
    """

    def __init__(self, target: str, emulator: str, package: str, root: str) -> None:
        self.target, self.emulator, self.package, self.root = target, emulator, package, root

    def command(self, cpu: str, folder: Path) -> List[str]:
        """The command that runs the driver on the emulated ``cpu``; ``folder`` keeps the compiled driver.

        Raises:
            UnavailableError: qemu or the C library cannot be had here.
        """
        emulator = shutil.which(self.emulator)
        if emulator is None:
            emulator = str(unpacked(["qemu-user-static"]) / "usr" / "bin" / self.emulator)
        root = Path("/") / self.root
        if not (root / "lib").is_dir():
            root = unpacked([self.package]) / self.root
        return [emulator, "-cpu", cpu, "-L", str(root), str(self._driver(folder))]

    def _driver(self, folder: Path) -> Path:
        return compiled(DRIVER, folder / f"driver-{self.target}", self.target, ("-ldl",))


def compiled(source: Path, output: Path, target: str, link_flags: Sequence[str] = ()) -> Path:
    """Compile a C++ or assembler file by the project's own compiler, unless ``output`` is there already.

    Args:
        source: the file.
        output: the program, or the library where ``link_flags`` ask for one.
        target: folder of the target whose machine it is for.
        link_flags: of the linker.
    """
    if output.exists():
        return output
    tools = build.toolchain(build.plans()[target].triple)
    flags: Tuple[str, ...] = ()
    if source.suffix == ".cpp":
        flags = ("-std=c++17", "-O2", "-fPIC", "-fno-exceptions", "-fno-rtti", "-Wall", "-Wextra")
        flags += build.include_flags()
    made = output.with_suffix(".o")
    environment = build._compiler_environment()
    for command in (
        [*tools.compile, *flags, "-c", str(source), "-o", str(made)],
        [*tools.link, str(made), *link_flags, "-o", str(output)],
    ):
        subprocess.run(command, check=True, env=environment)
    return output


ARM64 = Machine("arm_neon", "qemu-aarch64-static", "libc6-arm64-cross", "usr/aarch64-linux-gnu")
ARMHF = Machine("armhf", "qemu-arm-static", "libc6-armhf-cross", "usr/arm-linux-gnueabihf")


class EmulatedLibrary:
    """An engine library on an emulated CPU, with the host's scalar kernels as the reference.

    Args:
        path: the library.
        command: of :meth:`Machine.command`.
        host: this machine's library; ``open(implementation="scalar")`` is its scalar kernels, and those of
            the emulated library are called ``emulated scalar``.
        only: implementations to test; by default all that the emulated CPU runs.
    """

    #: The only thread count to run on, as emulation is slow.
    threads = (2,)

    def __init__(
        self, path: Path, command: Sequence[str], host: Library, only: Optional[Sequence[str]] = None
    ) -> None:
        self._host = host
        self._command = [*command, str(path)]
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "LC_ALL": "C"}
        )
        names = self._ask(b"I", 1)[0].decode().split(",")
        names[-1] = f"emulated {names[-1]}"
        self._names = tuple(name for name in names if only is None or name in only)

    def close(self) -> None:
        """End the emulator."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(30)

    def implementations(self) -> Tuple[str, ...]:
        """Names of what the emulated CPU runs, best first."""
        return self._names

    def open(
        self,
        program: bytes,
        weights: Weights,
        *,
        threads: int = 1,
        implementation: str = "",
        cache: int = 0,
    ) -> Union[NativeModel, EmulatedModel]:
        """A model on the emulated CPU (the latest is the only open one), or the reference on this one."""
        if implementation == "scalar":
            return self._host.open(program, weights, threads=threads, implementation="scalar")
        name = implementation.replace("emulated ", "").encode()
        request = b"O" + blob(name + b"\0") + blob(program) + blob(bytes(weights)) + number(threads)
        self._ask(request + number(cache), 0)
        return EmulatedModel(self, Program.from_bytes(program))

    def crc32(self, data: bytes) -> Optional[int]:
        """CRC-32 by the emulated CPU's instructions; ``None`` where it has none."""
        (found,) = self._ask(b"C" + blob(data), 1)
        return int.from_bytes(found, "little") if found else None

    def _ask(self, request: bytes, answers: int) -> List[bytes]:
        """Send a request and read as many blobs as it is answered with."""
        process = self._process
        assert process.stdin is not None
        try:
            process.stdin.write(request)
            process.stdin.flush()
        except BrokenPipeError:
            self._died()
        (status,) = struct.unpack("<q", self._read(8))
        message = self._read_blob()
        found = [self._read_blob() for _ in range(answers)]
        assert status == 0, f"the emulated engine refused: {message.decode(errors='replace')}"
        return found

    def _read_blob(self) -> bytes:
        (length,) = struct.unpack("<q", self._read(8))
        return self._read(length) if length > 0 else b""

    def _read(self, count: int) -> bytes:
        assert self._process.stdout is not None
        data = self._process.stdout.read(count)
        if len(data) != count:
            self._died()
        return data

    def _died(self) -> None:
        code = self._process.wait(30)
        reason = signal.Signals(-code).name if code < 0 else f"status {code}"
        raise AssertionError(f"the emulated engine ended with {reason}: {' '.join(self._command)}")


class EmulatedModel:
    """The open model of an :class:`EmulatedLibrary`."""

    def __init__(self, library: EmulatedLibrary, program: Program) -> None:
        self._library, self._program = library, program

    def __enter__(self) -> EmulatedModel:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def run_op(self, index: int, batch: PackedBatch, buffers: Sequence[Optional[np.ndarray]]) -> None:
        """Run one op on copies of the arrays, and bring what it wrote back."""
        request = b"R" + number(index) + packed(batch) + number(len(buffers)) + b"".join(map(blob, buffers))
        for array, found in zip(buffers, self._library._ask(request, len(buffers))):
            if array is not None:
                array.view(np.uint8)[:] = np.frombuffer(found, np.uint8)

    def run(self, batch: PackedBatch) -> List[np.ndarray]:
        """Run the whole graph: per Output op, float32 ``[tokens or sequences, channels]``."""
        rows = {Domain.TOKENS: batch.tokens, Domain.SEQUENCES: batch.sequences}
        shapes = [(rows[self._program.buffers[op.input].domain], op.channels) for op in self._program.outputs]
        empty = [np.zeros(shape, np.float32) for shape in shapes]
        request = b"X" + packed(batch) + number(len(empty)) + b"".join(map(blob, empty))
        found = self._library._ask(request, len(empty))
        return [np.frombuffer(data, np.float32).reshape(shape) for data, shape in zip(found, shapes)]


def number(value: int) -> bytes:
    """An int64 of a request."""
    return struct.pack("<q", value)


def blob(data: Union[bytes, np.ndarray, None]) -> bytes:
    """Bytes of a request, or a null pointer."""
    if data is None:
        return number(-1)
    content = data if isinstance(data, bytes) else data.tobytes()
    return number(len(content)) + content


def packed(batch: PackedBatch) -> bytes:
    """A batch of a request."""
    arrays = (batch.starts, batch.ids, batch.positions, batch.token_types)
    parts = [None if array is None else np.asarray(array, np.int32) for array in arrays]
    return number(batch.sequences) + number(batch.tokens) + b"".join(map(blob, parts))
