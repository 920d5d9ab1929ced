"""Run bundles for a long time, in every way that a server treats them, and see that nothing ever changes.

    python -m tools.soak --minutes 60 --json docs/results/soak.json --output docs/results/soak.md

Two bundles of one shape and different weights answer in four processes that live as long as the test:

* `threads`: four threads call one session with batches of mixed shapes; others come and go beside it;
* `forks`: it forks while a thread is in a call; children answer and end, or are killed in the middle;
* `reloads`: the file is replaced by the other bundle by renaming, and the session is reloaded, under way;
* `kills`: programs that load, answer and write a bundle anew are killed at any moment.

Beside them a memory hog takes memory and gives it back. Every answer is compared, byte for byte, with what
the scalar kernels gave on one thread before the test began. Resident memory is taken every few seconds; it is
flat where the median of the last quarter is not above that of the second by more than 2 MB and 3 %.

Exit code 1: an answer had a wrong bit, a child hung, something was raised, or memory grew.

Needs: obert-edge with the extra `host`, which makes the bundles, and Linux.
Takes: the minutes it is told, and half a minute more.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import random
import resource
import signal
import statistics
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Optional

import numpy as np

import obert_edge
from obert_edge.device.runtime import machine
from obert_edge.files import atomic_file
from tools import command_line
from tools.markdown import table

#: Rows and columns of the batches: one token, one row, a server's batch, a long one, a wide one.
SHAPES = ((1, 1), (1, 7), (2, 33), (5, 64), (16, 16), (1, 128), (3, 100), (32, 9))
#: Seconds after which a child that was not killed counts as hung.
HUNG = 600
#: Seconds between two looks at resident memory.
_EVERY = 5.0
#: Seconds between two looks from which on the test did not run between them.
_PAUSE = 60.0
#: What resident memory may grow by, in bytes and as a share, and still be called flat.
_FLAT_BYTES, _FLAT_SHARE = 2e6, 0.03

Answers = dict[tuple[int, int], bytes]


@dataclass(frozen=True)
class Case:
    """A batch and its mask, [rows, columns] each."""

    ids: np.ndarray
    mask: np.ndarray


def make_cases(vocabulary: int, longest: int) -> dict[tuple[int, int], Case]:
    """The batches that are asked, by shape; rows have different lengths."""
    chance = np.random.default_rng(17)
    cases = {}
    for rows, columns in SHAPES:
        if columns <= longest:
            lengths = chance.integers(max(1, columns // 2), columns + 1, rows)
            lengths[0] = columns
            mask = (np.arange(columns) < lengths[:, None]).astype(np.int64)
            cases[rows, columns] = Case(chance.integers(1, vocabulary, (rows, columns)), mask)
    return cases


def answer(session: obert_edge.Session, case: Case) -> bytes:
    """Everything that a session says of a batch, bit for bit."""
    found = session.run(case.ids, case.mask)
    return b"".join(name.encode() + found[name].tobytes() for name in sorted(found))


def expected(path: Path, cases: dict[tuple[int, int], Case]) -> Answers:
    """The answers of a bundle by the scalar kernels on one thread."""
    with obert_edge.load(path, threads=1, implementation="scalar") as session:
        return {shape: answer(session, case) for shape, case in cases.items()}


@dataclass
class Plan:
    """What the processes of the test have in common.

    Args:
        bundles: two, of one shape.
        answers: theirs.
        cases: the batches.
        folder: for the files they write.
        until: when to end, by ``time.monotonic()``.
    """

    bundles: list[Path]
    answers: list[Answers]
    cases: dict[tuple[int, int], Case]
    folder: Path
    until: float

    def check(
        self, session: obert_edge.Session, which: int, chance: random.Random, counts: Counter[str]
    ) -> None:
        """Ask one batch.

        Raises:
            AssertionError: an answer differs.
        """
        shape = chance.choice(list(self.cases))
        found = answer(session, self.cases[shape])
        counts["answers"] += 1
        if found != self.answers[which][shape]:
            counts["wrong answers"] += 1
            raise AssertionError(f"bundle {which} answers {shape} otherwise")

    @property
    def over(self) -> bool:
        """Whether it is time to end."""
        return time.monotonic() >= self.until


def soak_threads(plan: Plan, counts: Counter[str]) -> None:
    """Four threads with one session, and a session for a moment now and then."""
    path = plan.bundles[0]
    with obert_edge.load(path, threads=2) as session:

        def ask(seed: int) -> None:
            chance = random.Random(seed)
            while not plan.over:
                plan.check(session, 0, chance, counts)

        with running([lambda seed=seed: ask(seed) for seed in range(4)]):  # type: ignore[misc]
            chance = random.Random(99)
            while not plan.over:
                threads = chance.choice((1, 2, 3))
                with obert_edge.load(plan.bundles[1], threads=threads) as other:
                    for _ in range(5):
                        plan.check(other, 1, chance, counts)
                counts["loads"] += 1
                time.sleep(0.2)


def soak_forks(plan: Plan, counts: Counter[str]) -> None:
    """Forks while a thread is in a call; a third of the children is killed in the middle of theirs."""
    with obert_edge.load(plan.bundles[0], threads=2) as session:
        chance = random.Random(7)

        def ask() -> None:
            own = random.Random(8)
            while not plan.over:
                plan.check(session, 0, own, counts)

        def child() -> None:
            for _ in range(5):
                plan.check(session, 0, chance, Counter())

        with running([ask]):
            while not plan.over:
                kill = chance.random() < 0.33
                _child(child, counts, "forks", chance.random() * 0.03 if kill else None)
                chance.random()


def soak_reloads(plan: Plan, counts: Counter[str]) -> None:
    """Another process's view of a server: the file changes by renaming, and the session goes over to it."""
    place = plan.folder / "served.oeb"
    chance = random.Random(5)
    which = 0
    _switch(plan.bundles[which], place)
    holder = [(obert_edge.load(place, threads=2), which)]
    stop = threading.Event()

    def ask() -> None:
        own = random.Random(6)
        while not (plan.over or stop.is_set()):
            session, bundle = holder[0]
            plan.check(session, bundle, own, counts)

    with running([ask, ask]):
        try:
            while not plan.over:
                for _ in range(chance.randrange(1, 6)):
                    plan.check(*holder[0], chance, counts)
                which = 1 - which
                _switch(plan.bundles[which], place)
                holder[0] = (holder[0][0].reload(), which)
                counts["reloads"] += 1
                time.sleep(0.05)
        finally:
            stop.set()


def soak_kills(plan: Plan, counts: Counter[str]) -> None:
    """Programs that load, answer and write, killed at any moment; what they wrote is whole."""
    place = plan.folder / "written.oeb"
    _switch(plan.bundles[0], place)
    chance = random.Random(3)

    def child() -> None:
        own = random.Random()
        for which in (0, 1, 0, 1):
            with obert_edge.load(plan.bundles[which], threads=2) as session:
                plan.check(session, which, own, Counter())
            _switch(plan.bundles[which], place)

    while not plan.over:
        _child(child, counts, "programs", chance.random() * 0.15 if chance.random() < 0.8 else None)
        with obert_edge.load(place, threads=1, verify="full") as session:
            shape = (1, 7)
            found = answer(session, plan.cases[shape])
            counts["answers"] += 1
            if found not in [answers[shape] for answers in plan.answers]:
                counts["wrong answers"] += 1
                raise AssertionError("a file that was written while its writer was killed answers otherwise")


def soak_memory(plan: Plan, counts: Counter[str], most: int = 0) -> None:
    """Take memory, touch every page of it, and give it back."""
    chance = random.Random(1)
    while not plan.over:
        held = np.ones(max(1, int(most * chance.uniform(0.3, 1.0))), np.uint8)
        counts["times"] += 1
        end = min(time.monotonic() + chance.uniform(0.5, 3), plan.until)
        while time.monotonic() < end:
            held[:: resource.getpagesize()] += 1
            time.sleep(0.05)
        del held


JOBS: dict[str, Callable[[Plan, Counter[str]], None]] = {
    "threads": soak_threads,
    "forks": soak_forks,
    "reloads": soak_reloads,
    "kills": soak_kills,
}


@contextlib.contextmanager
def running(jobs: Sequence[Callable[[], None]]) -> Iterator[None]:
    """Run jobs in threads while a block runs; what one raises is raised after it."""
    raised: list[BaseException] = []

    def guarded(job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=guarded, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for thread in threads:
            thread.join()
    if raised:
        raise raised[0]


def _switch(bundle: Path, place: Path) -> None:
    """Put a copy of a bundle in a place, by renaming."""
    with atomic_file(place) as temporary:
        temporary.write_bytes(bundle.read_bytes())


def _child(work: Callable[[], None], counts: Counter[str], name: str, kill_after: Optional[float]) -> None:
    """Do something in a fork, and kill it after so many seconds where there are any."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            signal.alarm(HUNG)
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    counts[name] += 1
    signalled = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    if signalled == signal.SIGKILL and kill_after is not None:
        counts["killed"] += 1
    elif signalled == signal.SIGALRM:
        counts["hung"] += 1
        raise AssertionError(f"a child hung for {HUNG} s")
    elif status:
        raise AssertionError(f"a child ended with status {status}")


def _worker(
    job: Callable[..., None],
    plan: Plan,
    seconds: float,
    ready: Any,
    pipe: Connection,
    options: dict[str, Any],
) -> None:
    ready.wait()  # the others import longer where the machine is busy
    plan.until = time.monotonic() + seconds
    counts: Counter[str] = Counter()
    stop = threading.Event()

    def report() -> None:
        while not stop.wait(_EVERY):
            pipe.send(dict(counts))

    teller = threading.Thread(target=report, daemon=True)
    teller.start()
    error = ""
    try:
        job(plan, counts, **options)
    except BaseException:
        error = traceback.format_exc()
    stop.set()
    teller.join()
    pipe.send({**counts, "error": error})


@dataclass
class Watched:
    """A process of the test, as its parent sees it."""

    name: str
    process: multiprocessing.process.BaseProcess
    pipe: Connection
    counts: dict[str, Any]
    resident: list[tuple[float, int]]

    def look(self, now: float) -> None:
        """Take what it says, and its resident memory."""
        while self.pipe.poll():
            try:
                self.counts = self.pipe.recv()
            except EOFError:
                break
        with contextlib.suppress(OSError, IndexError):
            pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
            if pages:
                self.resident.append((now, pages * resource.getpagesize()))

    def to_dict(self) -> dict[str, Any]:
        """Counts, and resident memory by quarter in MB."""
        error = self.counts.get("error", "" if self.process.exitcode == 0 else "it ended without a word")
        counts = {key: value for key, value in sorted(self.counts.items()) if key != "error"}
        return {"counts": counts, "error": error, "resident": trend(self.resident)}


def trend(resident: Sequence[tuple[float, int]]) -> dict[str, Any]:
    """What resident memory did: the median of each quarter of the time and the most, in MB.

    Args:
        resident: seconds since the start, and bytes.
    """
    if len(resident) < 8:
        return {"quarters": [], "most": 0.0, "flat": True, "looks": len(resident)}
    first, last = resident[0][0], resident[-1][0]
    quarters: list[list[int]] = [[], [], [], []]
    for when, size in resident:
        quarters[min(3, int(4 * (when - first) / max(last - first, 1e-9)))].append(size)
    medians = [statistics.median(one) if one else 0.0 for one in quarters]
    # The first quarter is not compared: sessions, arenas and what Python keeps grow to their size in it.
    flat = medians[3] <= medians[1] * (1 + _FLAT_SHARE) + _FLAT_BYTES
    most = max(size for _, size in resident)
    return {
        "quarters": [round(one / 1e6, 1) for one in medians],
        "most": round(most / 1e6, 1),
        "flat": flat,
        "looks": len(resident),
    }


def soak(
    bundles: Sequence[Path], seconds: float, *, hog_bytes: int = 256 << 20, log: Any = None
) -> dict[str, Any]:
    """Run everything at once for a while.

    Args:
        bundles: two of one shape, with different weights.
        seconds: how long.
        hog_bytes: the most that the memory hog takes.
        log: a stream for a line every half a minute; None: nothing is said.

    Returns:
        Plain values for the JSON file.
    """
    began = time.time()
    with obert_edge.load(bundles[0]) as session:
        model, implementation = session.manifest.model, session.implementation
    cases = make_cases(model.vocabulary, model.max_length)
    answers = [expected(path, cases) for path in bundles]
    if answers[0] == answers[1]:
        raise obert_edge.UsageError("both bundles answer alike", hint="give two with different weights")
    # Processes begin anew: a fork would share what this one has loaded.
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="obert-edge-soak-") as folder:
        plan = Plan(list(bundles), answers, cases, Path(folder), 0.0)
        watched = []
        ready = context.Barrier(len(JOBS) + 2)
        for name, job in {**JOBS, "memory hog": soak_memory}.items():
            options = {"most": hog_bytes} if job is soak_memory else {}
            receive, send = context.Pipe(duplex=False)
            process = context.Process(target=_worker, args=(job, plan, seconds, ready, send, options))
            process.start()
            send.close()
            watched.append(Watched(name, process, receive, {}, []))
        ready.wait()
        start = told = seen = time.monotonic()
        paused = 0.0
        while (
            any(one.process.is_alive() for one in watched) and time.monotonic() < start + seconds + 2 * HUNG
        ):
            time.sleep(min(_EVERY, max(0.2, seconds / 40)))
            now = time.monotonic()
            if now - seen > _PAUSE:  # somebody stopped all processes, as to measure something else
                paused += now - seen
            seen = now
            for one in watched:
                one.look(now - start)
            if log is not None and now - told >= 30:
                told = now
                log.write(f"{_line(now - start, seconds, watched)}\n")
                log.flush()
        for one in watched:
            one.look(time.monotonic() - start)
            if one.process.is_alive():
                one.process.kill()
            one.process.join()
        took = time.monotonic() - start
    processes = {one.name: one.to_dict() for one in watched}
    return {
        "began": time.strftime("%Y-%m-%d %H:%M", time.gmtime(began)) + " UTC",
        "minutes": round((took - paused) / 60, 1),
        "paused_minutes": round(paused / 60, 1),
        "machine": f"{machine.cpu_model()}, {machine.available_threads()} CPUs",
        "load": round(os.getloadavg()[1], 1),
        "implementation": implementation,
        "bundles": [{"file": path.name, "bytes": path.stat().st_size} for path in bundles],
        "shapes": [list(shape) for shape in cases],
        "hog_mb": round(hog_bytes / 1e6),
        "processes": processes,
    }


def _line(passed: float, seconds: float, watched: Sequence[Watched]) -> str:
    answers = sum(one.counts.get("answers", 0) for one in watched)
    wrong = sum(one.counts.get("wrong answers", 0) for one in watched)
    sizes = ", ".join(f"{one.name} {one.resident[-1][1] / 1e6:.0f} MB" for one in watched if one.resident)
    return f"{passed / 60:.1f} of {seconds / 60:.1f} min: {answers} answers, {wrong} wrong; {sizes}"


def faults(found: dict[str, Any]) -> list[str]:
    """What went wrong, in words; empty: nothing did."""
    said = []
    for name, process in found["processes"].items():
        if process["error"]:
            said.append(f"{name}: {process['error'].strip().splitlines()[-1]}")
        for what in ("wrong answers", "hung"):
            if process["counts"].get(what):
                said.append(f"{name}: {process['counts'][what]} {what}")
        if not process["resident"]["flat"] and name != "memory hog":
            said.append(f"{name}: memory grew from {process['resident']['quarters'][1]} MB")
    return said


def markdown(found: dict[str, Any]) -> str:
    """The page of a run."""
    rows = []
    for name, process in found["processes"].items():
        counts, resident = process["counts"], process["resident"]
        quarters = " / ".join(f"{one:.1f}" if one else "stopped" for one in resident["quarters"])
        done = ", ".join(
            f"{value:,} {key}" for key, value in counts.items() if key not in ("answers", "wrong answers")
        )
        wrong = counts.get("wrong answers", 0)
        rows.append(
            [
                name,
                f"{counts.get('answers', 0):,}",
                str(wrong),
                done or "-",
                quarters,
                f"{resident['most']:.1f}",
            ]
        )
    total = sum(process["counts"].get("answers", 0) for process in found["processes"].values())
    said = faults(found)
    sizes = " and ".join(f"{one['bytes'] / 1e6:.1f} MB" for one in found["bundles"])
    return "\n".join(
        [
            "# Soak test",
            "",
            f"    python -m tools.soak --minutes {found['minutes']:.0f} --json docs/results/soak.json "
            "--output docs/results/soak.md",
            "",
            f"{found['machine']}, beside other work (load {found['load']} at the end), kernels "
            f"`{found['implementation']}`.",
            f"It began at {found['began']} and ran for {found['minutes']} minutes"
            + (f", and was stopped for {found['paused_minutes']} more." if found["paused_minutes"] else "."),
            f"Two random models of one shape, bundles of {sizes}, in batches of "
            f"{', '.join('x'.join(map(str, shape)) for shape in found['shapes'])}, beside a memory hog of up "
            f"to {found['hog_mb']} MB.",
            f"Each of the {total:,} answers was compared with the bits of the scalar kernels on one thread.",
            "",
            *table(
                ["process", "answers", "wrong", "what else", "resident MB, median by quarter", "most MB"],
                rows,
            ),
            "",
            *(
                ["What went wrong:", "", *(f"* {one}" for one in said)]
                if said
                else ["Nothing went wrong, and memory was flat."]
            ),
            "",
        ]
    )


def main(arguments: Optional[Sequence[str]] = None) -> int:
    parser = command_line.parser("tools.soak", __doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="how long; default 60")
    parser.add_argument("--bundles", type=Path, nargs=2, help="two bundles of one shape; default: made")
    parser.add_argument("--hog-mb", type=int, default=256, help="the most that the memory hog takes, MB")
    parser.add_argument("--json", type=Path, help="file for the counts")
    parser.add_argument("--output", type=Path, help="file for the page")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="obert-edge-soak-") as folder:
        bundles = options.bundles or _made(Path(folder))
        found = soak(bundles, 60 * options.minutes, hog_bytes=options.hog_mb * 1_000_000, log=sys.stderr)
    for path, text in ((options.json, json.dumps(found, indent=1) + "\n"), (options.output, markdown(found))):
        if path is not None:
            with atomic_file(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
    print(markdown(found))
    return 1 if faults(found) else 0


def _made(folder: Path) -> list[Path]:
    """Two bundles of the shape of a small BERT."""
    from tools.bench.models import Spec, ensure_bundle

    spec = {"layers": 4, "hidden": 128, "heads": 4, "intermediate": 512, "vocabulary": 2000, "positions": 128}
    return [ensure_bundle(folder / str(seed), Spec(seed=seed, **spec)) for seed in (1, 2)]


if __name__ == "__main__":
    sys.exit(command_line.run(main))
