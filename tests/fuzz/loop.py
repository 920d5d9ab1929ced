"""Many tries of one kind in a child process: it says which try it begins, so a crash leaves its number."""

from __future__ import annotations

import json
import os
import resource
import signal
import struct
import time
import traceback
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any, Dict, List, Optional

from obert_edge.errors import ObertEdgeError

#: Seconds of CPU time that one try may take; a busy machine takes none of them away.
LONGEST = 5.0
#: Bytes of address space that the tries of a child may take beside what it begins with.
MEMORY = 3 << 30
#: A child that says nothing for so many seconds waits for ever, or hangs in code that no signal reaches.
_SILENCE = 300.0
#: Kinds of faults that are kept with a traceback, and tries of each that are kept by their numbers.
KEPT = 40


class DifferenceError(Exception):
    """Two implementations give different results for the same file."""


class TooLong(BaseException):
    """A try took longer than :data:`LONGEST`; no handler of exceptions may swallow it."""


class Target(ABC):
    """One kind of file to be damaged."""

    name: str

    @abstractmethod
    def prepare(self, folder: Path) -> None:
        """Make what is to be damaged; ``folder`` belongs to this target."""

    @abstractmethod
    def attempt(self, random: Random) -> None:
        """Damage something and read it: returns where it was accepted.

        Raises:
            ObertEdgeError: it was refused.
            DifferenceError: two implementations disagree.
        """


@dataclass
class Fault:
    """Something that must not happen.

    Args:
        number: of the try.
        kind: what it was, in one line that is the same for the same fault.
        details: its traceback.
    """

    number: int
    kind: str
    details: str


@dataclass
class Result:
    """What came of the tries of one target."""

    name: str
    seed: int
    tried: int = 0
    accepted: int = 0
    refused: int = 0
    slowest: float = 0.0
    slowest_number: int = -1
    seconds: float = 0.0
    kinds: Dict[str, int] = field(default_factory=Counter)
    faults: List[Fault] = field(default_factory=list)
    numbers: Dict[str, List[int]] = field(default_factory=dict)

    @property
    def line(self) -> str:
        """For a log."""
        return (
            f"{self.name}: seed {self.seed}, {self.tried} tried, {self.accepted} accepted, "
            f"{self.refused} refused, "
            f"{sum(self.kinds.values())} faults of {len(self.kinds)} kinds, slowest {self.slowest:.2f} s "
            f"(try {self.slowest_number}), {self.seconds:.0f} s in all"
        )


def generator(seed: int, number: int) -> Random:
    """The randomness of one try."""
    return Random(seed << 32 | number)


def run(
    target: Target,
    count: int,
    seed: int,
    folder: Path,
    *,
    start: int = 0,
    seconds: float = 1e9,
    prepared: bool = False,
) -> Result:
    """Try ``count`` damaged files, each in turn, whatever becomes of the process.

    Args:
        target: what to damage.
        count: how many tries.
        seed: of all of them.
        folder: for the target's files; it must exist.
        start: number of the first try.
        seconds: begin no further try after so many.
        prepared: whether the target has its files from an earlier run already.
    """
    began = time.monotonic()
    if not prepared:
        target.prepare(folder)
    result = Result(target.name, seed)
    at = start
    while at < start + count and time.monotonic() - began < seconds:
        left = seconds - (time.monotonic() - began)
        at = _run_child(target, at, start + count, seed, folder, result, left)
    result.seconds = time.monotonic() - began
    return result


def _run_child(
    target: Target, first: int, end: int, seed: int, folder: Path, result: Result, seconds: float
) -> int:
    """Run tries in a fork until it ends; the number of the try to go on with."""
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        code = 1
        try:
            os.close(reader)
            _tries(target, first, end, seed, folder, writer, seconds)
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    at, begun = first, False
    finished = False
    with os.fdopen(reader, "rb") as stream:
        for message in _messages(stream, process):
            if "begin" in message:
                at, begun = message["begin"], True
                continue
            if "done" in message:
                finished = True
                continue
            _count(result, message)
            at, begun = message["number"] + 1, False
    _, status = os.waitpid(process, 0)
    if begun or not finished:
        signal_name = signal.Signals(status & 127).name if status & 127 else f"exit {status >> 8}"
        _count(
            result, {"number": at, "kind": f"the process ended: {signal_name}", "details": "", "took": 0.0}
        )
        at += 1
    elif finished and at < end:
        return end  # no time is left
    return at


def _messages(stream: Any, process: int) -> Any:
    """What a child says; one that is silent for too long is killed."""
    import select

    while True:
        ready, _, _ = select.select([stream], [], [], _SILENCE)
        if not ready:
            os.kill(process, signal.SIGKILL)
            return
        size = stream.read(4)
        if len(size) < 4:
            return
        yield json.loads(stream.read(struct.unpack("<I", size)[0]))


def _count(result: Result, message: Dict[str, Any]) -> None:
    result.tried += 1
    if message["took"] > result.slowest:
        result.slowest, result.slowest_number = message["took"], message["number"]
    kind = message["kind"]
    if kind in ("accepted", "refused"):
        setattr(result, kind, getattr(result, kind) + 1)
        return
    result.kinds[kind] += 1
    numbers = result.numbers.setdefault(kind, [])
    if len(numbers) < KEPT:
        numbers.append(message["number"])
    if result.kinds[kind] == 1 and len(result.faults) < KEPT:
        result.faults.append(Fault(message["number"], kind, message["details"]))


def _tries(
    target: Target, first: int, end: int, seed: int, folder: Path, writer: int, seconds: float
) -> None:
    def say(**message: Any) -> None:
        text = json.dumps(message).encode()
        os.write(writer, struct.pack("<I", len(text)) + text)

    _limit_memory()
    signal.signal(signal.SIGPROF, _too_long)
    os.chdir(folder)
    began = time.monotonic()
    for number in range(first, end):
        if time.monotonic() - began > seconds:
            break
        say(begin=number)
        start = time.process_time()
        kind, details = attempt(target, generator(seed, number))
        say(number=number, kind=kind, details=details[-6000:], took=time.process_time() - start)
    say(done=True)


def attempt(target: Target, random: Random) -> tuple[str, str]:
    """Do one try: what came of it, and for a fault its traceback."""
    signal.setitimer(signal.ITIMER_PROF, LONGEST)
    try:
        target.attempt(random)
    except ObertEdgeError as error:
        text = str(error)
        if len(text) > 20_000:
            return f"an error message of more than 20000 characters: {type(error).__name__}", text[:300]
        return "refused", ""
    except TooLong as error:
        return f"longer than {LONGEST:.0f} s {_place(error)}", traceback.format_exc()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a panic of the tokenizers library is no Exception
        return f"{type(error).__name__} {_place(error)}", traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return "accepted", ""


def _place(error: BaseException) -> str:
    """The last line of our code that an error came through."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "/obert_edge/" in frame.filename or "/targets/" in frame.filename]
    last = (own or frames)[-1]
    return (
        f"at {Path(last.filename).name}:{last.lineno} in {last.name}: {str(error)[:80]}"
        if own
        else str(error)[:80]
    )


def _too_long(number: int, frame: Optional[FrameType]) -> None:
    raise TooLong


def _limit_memory() -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.RLIM_INFINITY))
