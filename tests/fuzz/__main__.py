"""Damage files of every kind and read them, as long as it is told to; prints a line of counts for each kind.

    python -m tests.fuzz --count 20000 --seed 1 --only tokenizer

Exit code 1: there was an exception that is none of ours, a hang, a crash or a difference.
``--only KIND --seed S --start N --count 1`` repeats one try.

Needs: obert-edge with the extra `host`.
Takes: minutes; 200 to 2000 files a second.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.fuzz.loop import run
from tests.fuzz.targets import TARGETS


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=1000, help="tries of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0, help="number of the first try")
    parser.add_argument("--seconds", type=float, default=1e9, help="most seconds for each kind")
    parser.add_argument("--only", action="append", choices=sorted(TARGETS), help="a kind; repeatable")
    options = parser.parse_args()
    faults = 0
    for name in options.only or TARGETS:
        with tempfile.TemporaryDirectory() as folder:
            result = run(
                TARGETS[name](),
                options.count,
                options.seed,
                Path(folder),
                start=options.start,
                seconds=options.seconds,
            )
        for fault in result.faults:
            times = result.kinds[fault.kind]
            sys.stdout.write(f"--- {name} {fault.number} ({times} times): {fault.kind}\n{fault.details}\n")
        sys.stdout.write(f"{result.line}\n")
        sys.stdout.flush()
        faults += len(result.kinds)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
