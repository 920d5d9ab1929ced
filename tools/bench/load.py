"""How long does a bundle take to load, and how much memory does a process with it take?

    python -m tools.bench.load base80/model.oeb
    python -m tools.bench.load base80/model.oeb --compare mapped

Every load is a process of its own, in turns where two ways are compared, and the median counts. A process
loads the bundle, runs one sequence, and reports how long `load` took, the most memory that it ever had, and
how much of that lies in no file after the run, so that the system can only swap it out ("private").

`--compare mapped` measures a bundle whose file is mapped instead of read, too. Nothing in the package loads
so: a file that is written over would change, or end, a process that uses it.

Needs: a bundle, a quiet machine.
Takes: some seconds.
"""

from __future__ import annotations

import json
import mmap
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import numpy as np

from obert_edge.bundle import container
from obert_edge.device.runtime import machine
from tools import command_line

#: Set for the processes that are measured.
_MEASURED = "OBERT_EDGE_BENCH_LOAD"


def mapped(descriptor: int, path: Path) -> memoryview:
    """A view of the file itself, in the place of the container's own reading."""
    return memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ))


def measure(bundle: Path, way: str, threads: int, tokens: int) -> Dict[str, float]:
    """Load a bundle in this process and run it once: seconds, and MB."""
    import obert_edge

    if way == "mapped":
        container._read_whole = mapped
    session_of = obert_edge.load  # imports what it needs
    before = time.perf_counter()
    session = session_of(bundle, threads=threads)
    seconds = time.perf_counter() - before
    session.run(np.ones((1, min(tokens, session.manifest.model.max_length)), np.int32))
    rollup = dict(
        line.split(":", 1) for line in Path("/proc/self/smaps_rollup").read_text().splitlines() if ":" in line
    )
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        "load ms": 1000 * seconds,
        "peak MB": int(status["VmHWM"].split()[0]) / 1024,
        "private MB": int(rollup["Anonymous"].split()[0]) / 1024,
    }


def measure_apart(bundle: Path, way: str, options: Any) -> Dict[str, float]:
    """:func:`measure` in a process of its own."""
    words = [sys.executable, "-m", "tools.bench.load", str(bundle), "--threads", str(options.threads)]
    words += ["--tokens", str(options.tokens)]
    environment = {**os.environ, _MEASURED: way}
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: Dict[str, float] = json.loads(done.stdout)
    return found


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Measure and print a table."""
    parser = command_line.parser("tools.bench.load", __doc__)
    parser.add_argument("bundle", type=Path, help="the .oeb file")
    parser.add_argument("--compare", choices=["mapped"], help="measure this way, too")
    parser.add_argument("--threads", type=int, default=2, help="of the session (default: 2)")
    parser.add_argument("--tokens", type=int, default=384, help="of the sequence it runs (default: 384)")
    parser.add_argument("--rounds", type=int, default=9, help="processes of each way (default: 9)")
    options = parser.parse_args(arguments)
    if os.environ.get(_MEASURED):
        print(json.dumps(measure(options.bundle, os.environ[_MEASURED], options.threads, options.tokens)))
        return
    ways = ["read"] + ([options.compare] if options.compare else [])
    found: Dict[str, List[Dict[str, float]]] = {way: [] for way in ways}
    for _ in range(options.rounds):
        for way in ways:
            found[way].append(measure_apart(options.bundle, way, options))
    size = options.bundle.stat().st_size / 1e6
    print(
        f"{options.bundle.name}, {size:.1f} MB, on {machine.cpu_model()}, {machine.available_threads()} CPUs"
    )
    names = list(found["read"][0])
    print(f"| file | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    for way in ways:
        medians = [statistics.median(result[name] for result in found[way]) for name in names]
        print(f"| {way} | {' | '.join(f'{value:.0f}' for value in medians)} |")


if __name__ == "__main__":
    sys.exit(command_line.run(main))
