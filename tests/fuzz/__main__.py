"""Damage files of every kind and read them, as long as it is told to; prints a line of counts for each kind.

    python -m tests.fuzz --count 20000 --seed 1 --only tokenizer

Exit code 1: there was an exception that is none of ours, a hang, a crash or a difference.
``--only KIND --seed S --start N --count 1`` repeats one try.

A run of hours keeps its counts in a file, from which the same command goes on after an interruption; with the
library under sanitizers it is told so beside it:

    python -m tests.fuzz --count 200000 --only bundle --record out/fuzz.json
    LD_PRELOAD=$(g++ -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0 \\
        python -m tests.fuzz --count 20000 --only bundle --record out/fuzz.json --library out/asan/LIBRARY.so

Needs: obert-edge with the extra `host`.
Takes: minutes; some 100 files per second and core. A TMPDIR in memory helps.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from obert_edge.device.runtime import library as libraries
from obert_edge.device.runtime.native import Library
from tests.fuzz import record
from tests.fuzz.loop import Result, run
from tests.fuzz.targets import TARGETS

#: Tries between two writings of the record.
_CHUNK = 500


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=1000, help="tries of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0, help="number of the first try")
    parser.add_argument("--seconds", type=float, default=1e9, help="most seconds for each kind")
    parser.add_argument("--only", action="append", choices=sorted(TARGETS), help="a kind; repeatable")
    parser.add_argument("--record", type=Path, help="file of counts to go on from, with --count tries in all")
    parser.add_argument("--library", type=Path, help="an engine library in place of the installed one")
    options = parser.parse_args()
    if options.library is not None:
        chosen = Library(options.library)
        libraries.installed_library = lambda: chosen
    kept = None if options.record is None else record.Record(options.record)
    faults = 0
    for name in options.only or TARGETS:
        with tempfile.TemporaryDirectory() as folder:
            if kept is None:
                target = TARGETS[name]()
                found = run(
                    target,
                    options.count,
                    options.seed,
                    Path(folder),
                    start=options.start,
                    seconds=options.seconds,
                )
                _tell(found)
                faults += len(found.kinds)
            else:
                faults += _recorded(kept, name, options.count, options.seed, Path(folder), options.seconds)
    return 1 if faults else 0


def _recorded(
    kept: record.Record,
    name: str,
    count: int,
    seed: int,
    folder: Path,
    seconds: float,
) -> int:
    """Go on with the tries of one kind until there are ``count`` with this library; the kinds of faults."""
    began = time.monotonic()
    entry = kept.entry(name, seed, record.commit(), record.library())
    target = TARGETS[name]()
    prepared = False
    while (left := count - kept.tried(name, seed, entry.library)) > 0:
        time_left = seconds - (time.monotonic() - began)
        if time_left <= 0:
            break
        found = run(
            target,
            min(left, _CHUNK),
            seed,
            folder,
            start=entry.following,
            seconds=time_left,
            prepared=prepared,
        )
        prepared = True
        entry.add(found)
        kept.write()
        if found.kinds:
            _tell(found)
    sys.stdout.write(
        f"{name}: seed {seed}, {kept.tried(name, seed, entry.library)} tried with library {entry.library}, "
        f"{sum(entry.faults.values())} faults of {len(entry.faults)} kinds at {entry.commit}\n"
    )
    sys.stdout.flush()
    return len(entry.faults)


def _tell(result: Result) -> None:
    for fault in result.faults:
        times = result.kinds[fault.kind]
        sys.stdout.write(f"--- {result.name} {fault.number} ({times} times): {fault.kind}\n{fault.details}\n")
    sys.stdout.write(f"{result.line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
