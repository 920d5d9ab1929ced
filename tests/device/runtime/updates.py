"""What happens around a session, over and over: ``python -m tests.device.runtime.updates``.

Each scenario is a process of its own, in which two threads run a session all the time while the main thread
changes its file, forks or is interrupted. It ends with an error at the first answer that has other bits than
before, at the first exception that is not expected, and at a repetition that takes five minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Callable, Dict, Iterator, List

import numpy as np

import obert_edge
from obert_edge.device.runtime.library import installed_library
from obert_edge.errors import ObertEdgeError

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests" / "golden"
#: Two bundles with other weights, for the same inputs.
ONE, OTHER = GOLDEN / "v2.oeb", GOLDEN / "v3.oeb"
IDS = np.arange(1, 25, dtype=np.int32).reshape(3, 8)
#: Seconds that a repetition may take.
PATIENCE = 300


class Server:
    """A session that two threads run all the time.

    Args:
        path: of its bundle.
        threads: that the session computes with.
    """

    def __init__(self, path: Path, threads: int = 2) -> None:
        self.session = obert_edge.load(path, threads=threads)
        self.known = {answer(self.session)}
        self.errors: List[BaseException] = []
        self.runs = 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(rows,)) for rows in (1, 40)]
        for thread in self._threads:
            thread.start()

    def _work(self, rows: int) -> None:
        try:
            while not self._stop.wait(0.001):  # so that the others get the session's lock, too
                session = self.session
                found = session.run(np.tile(IDS, (rows, 1)))
                first = {name: values[: len(IDS)] for name, values in found.items()}
                if as_bytes(first) not in self.known:
                    raise AssertionError("other bits")
                self.runs += 1
        except BaseException as error:
            self.errors.append(error)

    def check(self) -> None:
        """Raise what a thread met with, or for an answer of the main thread with other bits."""
        if self.errors:
            raise self.errors[0]
        if answer(self.session) not in self.known:
            raise AssertionError("other bits")

    def close(self) -> None:
        """End the threads."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self.session.close()
        if self.errors:
            raise self.errors[0]


@contextlib.contextmanager
def serving(path: Path, threads: int = 2) -> Iterator[Server]:
    """A server for as long as the block lasts."""
    server = Server(path, threads)
    try:
        yield server
    finally:
        server.close()


def as_bytes(found: Dict[str, np.ndarray]) -> bytes:
    """All results of a run."""
    return b"".join(found[name].tobytes() for name in sorted(found))


def answer(session: obert_edge.Session) -> bytes:
    """The bits a session gives for :data:`IDS`."""
    return as_bytes(session.run(IDS))


def answer_of(path: Path) -> bytes:
    """The bits a bundle gives."""
    with obert_edge.load(path, threads=1) as session:
        return answer(session)


def put(new: Path, place: Path) -> None:
    """Another file takes the name, as ``obert-edge deploy`` does it."""
    beside = place.with_suffix(".next")
    shutil.copy(new, beside)
    beside.replace(place)


def damage(path: Path, rng: random.Random) -> None:
    """Write over a file in one of the ways that copies and accidents do."""
    size = max(1, path.stat().st_size)
    with path.open("r+b") as stream:
        how = rng.randrange(5)
        if how == 0:
            stream.truncate(rng.choice([0, 1, 4096, size // 2, size - 1]))
        elif how == 1:
            stream.write(OTHER.read_bytes())
            stream.truncate()
        elif how == 2:
            stream.write(rng.choice([b"\0", b"\xff"]) * size)
        else:
            for _ in range(rng.randrange(1, 400)):
                stream.seek(rng.randrange(size))
                stream.write(bytes([rng.randrange(256)]))


def overwritten(place: Path, repeat: Iterator[random.Random]) -> None:
    """The file of a live session is overwritten in place."""
    names = installed_library().implementations()  # type: ignore[union-attr]
    expected = answer_of(ONE)
    for rng in repeat:
        put(ONE, place)
        threads, name = rng.randrange(1, 4), rng.choice(names)
        with obert_edge.load(place, threads=threads, implementation=name) as session:
            damage(place, rng)
            assert answer(session) == expected, "other bits"
            damage(place, rng)
            assert answer(session) == expected, "other bits"


def overwritten_while_it_runs(place: Path, repeat: Iterator[random.Random]) -> None:
    """The same while two threads run it."""
    put(ONE, place)
    with serving(place) as server:
        for rng in repeat:
            damage(place, rng)
            server.check()
            put(ONE, place)


def switched(place: Path, repeat: Iterator[random.Random]) -> None:
    """Another bundle takes the name, and a server that runs goes over to it."""
    put(ONE, place)
    with serving(place) as server:
        server.known = {answer_of(ONE), answer_of(OTHER)}
        for number, _ in enumerate(repeat):
            new = (OTHER, ONE)[number % 2]
            put(new, place)
            server.session = server.session.reload()
            assert answer(server.session) == answer_of(new), "it is not the new bundle"
            server.check()


def refused(place: Path, repeat: Iterator[random.Random]) -> None:
    """A damaged file is refused by ``reload``, and the server goes on with the one it has."""
    put(ONE, place)
    with serving(place) as server:
        for rng in repeat:
            place.write_bytes(ONE.read_bytes()[: rng.randrange(ONE.stat().st_size)])
            try:
                server.session.reload()
            except ObertEdgeError:
                pass
            else:
                raise AssertionError("a bundle that was cut short was loaded")
            server.check()
            put(ONE, place)
            server.session = server.session.reload()


def forked(place: Path, repeat: Iterator[random.Random]) -> None:
    """The process forks while two threads run; the child goes on with the session, and forks again."""
    put(ONE, place)
    with serving(place, threads=3) as server:
        for _ in repeat:
            child = os.fork()
            if child == 0:
                end_child(server, forks=1)
            if os.waitpid(child, 0)[1] != 0:
                raise AssertionError("a child failed or hung")
            server.check()


def end_child(server: Server, forks: int) -> None:
    """What a child does; 0 is its status where all is well."""
    try:
        signal.alarm(PATIENCE)
        assert answer(server.session) in server.known, "other bits"
        alive = len(list(Path("/proc/self/task").iterdir()))
        assert alive == server.session.threads, f"{alive} threads"
        if forks:
            child = os.fork()
            if child == 0:
                end_child(server, forks - 1)
            assert os.waitpid(child, 0)[1] == 0, "a child of the child failed or hung"
        os._exit(0)
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)  # noqa: T201 - the parent ends with it
    finally:
        os._exit(1)


def interrupted(place: Path, repeat: Iterator[random.Random]) -> None:
    """Ctrl-C arrives at any moment of a run or between runs, while two threads run."""
    # A process that is started in the background by a shell ignores it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    put(ONE, place)
    batch = np.tile(IDS, (2000, 1))
    with serving(place) as server, obert_edge.load(place, threads=2, implementation="scalar") as session:
        for rng in repeat:
            try:
                timer = threading.Timer(rng.random() * 0.3, os.kill, (os.getpid(), signal.SIGINT))
                timer.start()
                while True:
                    session.run(batch)
            except KeyboardInterrupt:
                timer.join()
            assert answer(session) in server.known, "other bits"
            server.check()


SCENARIOS: Dict[str, Callable[[Path, Iterator[random.Random]], None]] = {
    "overwritten": overwritten,
    "overwritten while it runs": overwritten_while_it_runs,
    "switched": switched,
    "refused": refused,
    "forked": forked,
    "interrupted": interrupted,
}


def repetitions(count: int) -> Iterator[random.Random]:
    """Numbers for each repetition; one that takes too long ends the process."""
    for number in range(count):
        signal.alarm(PATIENCE)
        yield random.Random(number)
    signal.alarm(0)


def run_scenario(name: str, count: int) -> None:
    """Run a scenario in this process."""
    with tempfile.TemporaryDirectory() as folder:
        SCENARIOS[name](Path(folder) / "model.oeb", repetitions(count))


def run_apart(name: str, count: int) -> subprocess.CompletedProcess[str]:
    """Run a scenario in a process of its own; its status is 0 where all is well."""
    words = [sys.executable, "-m", __spec__.name, "--only", name, "--repetitions", str(count)]
    environment = {**os.environ, "OBERT_EDGE_SCENARIO": "1"}
    return subprocess.run(words, capture_output=True, text=True, env=environment, cwd=ROOT)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=1000, help="of each scenario")
    parser.add_argument("--only", choices=SCENARIOS, help="this scenario alone")
    options = parser.parse_args()
    if os.environ.get("OBERT_EDGE_SCENARIO"):
        run_scenario(options.only, options.repetitions)
        return 0
    status = 0
    print("| scenario | repetitions | ended with | seconds |\n|---|---|---|---|")  # noqa: T201
    for name in [options.only] if options.only else list(SCENARIOS):
        started = time.monotonic()
        done = run_apart(name, options.repetitions)
        status = status or done.returncode
        said = "all the same bits" if done.returncode == 0 else f"status {done.returncode}"
        print(f"| {name} | {options.repetitions} | {said} | {time.monotonic() - started:.0f} |", flush=True)  # noqa: T201
        if done.returncode:
            print(done.stderr, file=sys.stderr)  # noqa: T201
    return status


if __name__ == "__main__":
    sys.exit(main())
