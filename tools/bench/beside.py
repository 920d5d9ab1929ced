"""How fast is the engine beside other work: one thread and several, on a quiet machine and beside a busy one?

    python -m tools.bench.beside base80/model.oeb
    python -m tools.bench.beside base80/model.oeb --scenes pinned --library old/libobert_edge.so --rounds 20

The same sequences run with each number of threads in turns of half a second, in each scene:

* quiet: nothing is added to what runs on the machine already;
* free: beside a process that computes all the time, on whichever CPU the system gives it;
* pinned: beside one that stays on the last CPU this process may use.

A row has the median of all runs with 5th and 95th percentile, and p99 over the median. "over one thread" is
the median of one thread over that of this row, of the same engine and scene, so it is below 1 where more
threads are slower. "busy" is the part of one CPU that the other process had meanwhile, "others" that of
everything else on the machine: on one with other users, `--others 0 0.1` keeps the turns in which it was
within these bounds. All engines are in this process, where those that have no turn sleep; `--library` adds
one, for instance of another commit.

Needs: a bundle for this machine, two CPUs, and for the first scene a quiet machine.
Takes: a minute and a half.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from obert_edge.bundle.container import PROGRAM, Bundle
from obert_edge.device.runtime import machine
from obert_edge.device.runtime.library import find_library
from obert_edge.device.runtime.native import Library, NativeModel, PackedBatch
from obert_edge.errors import UsageError
from tools import command_line
from tools.markdown import table

SCENES = ("quiet", "free", "pinned")
HEADERS = [
    "scene",
    "engine",
    "threads",
    "runs",
    "median ms (5 to 95 %)",
    "p99 / p50",
    "over one thread",
    "busy",
    "others",
]
#: A process that computes all the time; its argument is the CPU to stay on.
_BUSY = """
import os, sys
if sys.argv[1:]:
    os.sched_setaffinity(0, {int(sys.argv[1])})
print(flush=True)
while True:
    pass
"""


class Case(NamedTuple):
    """What has a turn: an engine by its name, with a number of threads."""

    engine: str
    threads: int


class Turns(NamedTuple):
    """What was measured of one case in one scene.

    Attributes:
        seconds: of every run.
        busy: the part of a CPU that the busy process had, of every turn with one.
        others: the part of a CPU that all other processes had, of every turn.
    """

    seconds: List[float]
    busy: List[float]
    others: List[float]


@contextlib.contextmanager
def busy_process(scene: str) -> Iterator[Optional[int]]:
    """The process of a scene, by its id, for as long as the context lasts; ``None``: it has none."""
    if scene == "quiet":
        yield None
        return
    where = [str(max(os.sched_getaffinity(0)))] if scene == "pinned" else []
    with subprocess.Popen([sys.executable, "-P", "-c", _BUSY, *where], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield process.pid
        finally:
            process.kill()


def cpu_seconds(process: int) -> float:
    """The CPU time a process has had."""
    return int(Path(f"/proc/{process}/schedstat").read_text().split()[0]) / 1e9


def all_cpu_seconds() -> float:
    """The CPU time that all processes and the system have had."""
    fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")  # but for idle and iowait


def take_turn(model: NativeModel, batch: PackedBatch, seconds: float, busy: Optional[int]) -> Turns:
    """Run a batch again and again; the first two runs, which wake and warm what slept, do not count."""
    for _ in range(2):
        model.run(batch)
    found: List[float] = []

    def clocks() -> np.ndarray:
        return np.array(
            [cpu_seconds(busy) if busy is not None else 0.0, time.process_time(), all_cpu_seconds()]
        )

    before = clocks()
    start = now = time.perf_counter()
    while now - start < seconds:
        model.run(batch)
        found.append(time.perf_counter() - now)
        now += found[-1]
    busy_share, own, everything = (clocks() - before) / (now - start)
    # The system counts everything in ticks of 10 ms, so that it may be less than its parts.
    others = max(0.0, float(everything - own - busy_share))
    return Turns(found, [float(busy_share)] if busy is not None else [], [others])


def measure(
    models: Dict[Case, NativeModel],
    batch: PackedBatch,
    scenes: Sequence[str],
    rounds: int,
    seconds: float,
    bounds: Sequence[float],
) -> Dict[Tuple[str, Case], Turns]:
    """Give every case its turns in every scene; those with a share of others within bounds are kept."""
    found = {(scene, case): Turns([], [], []) for scene in scenes for case in models}
    for _ in range(rounds):
        for scene in scenes:
            with busy_process(scene) as busy:
                for case, model in models.items():
                    turn = take_turn(model, batch, seconds, busy)
                    if bounds[0] <= turn.others[0] <= bounds[1]:
                        for kept, new in zip(found[scene, case], turn):
                            kept.extend(new)
    return {key: turns for key, turns in found.items() if turns.seconds}


def rows(found: Dict[Tuple[str, Case], Turns]) -> List[List[str]]:
    """The rows of the table."""
    medians = {key: statistics.median(turns.seconds) for key, turns in found.items()}
    result = []
    for (scene, case), turns in found.items():
        low, high, late = np.percentile(turns.seconds, [5, 95, 99])
        median, one = medians[scene, case], medians.get((scene, Case(case.engine, 1)))
        result.append(
            [
                scene,
                case.engine,
                str(case.threads),
                str(len(turns.seconds)),
                f"{1000 * median:.2f} ({1000 * low:.2f} to {1000 * high:.2f})",
                f"{late / median:.2f}",
                "" if one is None or case.threads == 1 else f"{one / median:.2f}",
                f"{100 * statistics.mean(turns.busy):.0f} %" if turns.busy else "",
                f"{100 * statistics.mean(turns.others):.0f} %",
            ]
        )
    return result


def sequences(batch: int, tokens: int) -> PackedBatch:
    """A batch of equally long sequences of one token."""
    return PackedBatch(
        starts=np.arange(batch + 1, dtype=np.int32) * np.int32(tokens),
        ids=np.ones(batch * tokens, np.int32),
        positions=np.tile(np.arange(tokens, dtype=np.int32), batch),
    )


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Measure and print a table."""
    parser = command_line.parser("tools.bench.beside", __doc__)
    parser.add_argument("bundle", type=Path, help="the .oeb file")
    parser.add_argument("--scenes", nargs="+", choices=SCENES, default=SCENES, help="(default: all)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="(default: 1 2)")
    parser.add_argument("--tokens", type=int, default=128, help="of each sequence (default: 128)")
    parser.add_argument("--batch", type=int, default=1, help="sequences of a run (default: 1)")
    parser.add_argument("--library", type=Path, nargs="+", default=[], help="further engine libraries")
    parser.add_argument("--rounds", type=int, default=20, help="turns of each case (default: 20)")
    parser.add_argument("--seconds", type=float, default=0.5, help="of a turn (default: 0.5)")
    parser.add_argument(
        "--others",
        type=float,
        nargs=2,
        metavar=("LEAST", "MOST"),
        default=(0.0, float("inf")),
        help="CPUs that others may have in a turn which counts (default: any)",
    )
    options = parser.parse_args(arguments)
    if machine.affinity() < 2:
        raise UsageError(
            "this process may use one CPU only", hint="give it two CPUs, as `taskset -c 0,1` does"
        )
    batch = sequences(options.batch, options.tokens)
    with Bundle.open(options.bundle) as bundle, contextlib.ExitStack() as stack:
        engines = {"this": find_library(bundle), **{str(path): Library(path) for path in options.library}}
        program = bytes(bundle.member(PROGRAM))
        models = {
            Case(name, threads): stack.enter_context(library.open(program, bundle.weights, threads=threads))
            for name, library in engines.items()
            for threads in options.threads
        }
        found = measure(models, batch, options.scenes, options.rounds, options.seconds, options.others)
    if not found:
        raise UsageError(
            f"in no turn did others have {options.others[0]:g} to {options.others[1]:g} CPUs",
            hint="wait until the machine is quieter, or widen --others",
        )
    print(f"{options.bundle.name}, {options.batch} x {options.tokens} tokens, on {machine.cpu_model()}\n")
    print("\n".join(table(HEADERS, rows(found))))


if __name__ == "__main__":
    sys.exit(command_line.run(main))
