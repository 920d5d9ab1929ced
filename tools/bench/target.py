"""Measure the rates a target carries for predictions (`Target.reference`), with one thread.

    python -m tools.bench.target MODEL.oeb [MODEL.oeb ...]

It prints the dictionary for `targets/*/__init__.py`.
The peaks are the best of all runs; `reached_KIND` is the time of all ops of that kind at their bounds
(docs/reference/roofline.md) over the least time measured.

Needs: a quiet machine of the kind the target is for, and bundles such as tools.bench.models makes.
Takes: a few seconds for each bundle and sequence length.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Dict, List, Optional, Sequence

from obert_edge.device.bench.benchmark import benchmark
from obert_edge.device.roofline.estimate import REACHED
from obert_edge.device.roofline.profile import Profile
from tools import command_line


def reference(profiles: List[Profile]) -> Dict[str, float]:
    """The peaks, and the part of its bound that each kind of op reached, over all profiles together."""
    values: Dict[str, float] = {}
    bounds: Dict[str, float] = {}
    least: Dict[str, float] = {}
    for profile in profiles:
        if profile.peaks is not None:
            for name, rate in profile.peaks.to_dict().items():
                values[name] = max(values.get(name, 0.0), round(rate, 1))
        for op in profile.ops:
            kind = op.kind.split()[0]
            bounds[kind] = bounds.get(kind, 0.0) + op.bound_ms
            least[kind] = least.get(kind, 0.0) + op.least_ms
    reached = {f"{REACHED}{kind}": round(bounds[kind] / least[kind], 2) for kind in bounds if least[kind]}
    # Kinds of ops with next to no work are left out: they are all overhead, and would predict nothing of
    # larger ones.
    return {**values, **{kind: part for kind, part in reached.items() if part >= 0.02}}


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Measure, and print the dictionary."""
    parser = command_line.parser("tools.bench.target", __doc__)
    parser.add_argument("bundles", type=Path, nargs="+", metavar="MODEL.oeb", help="bundles to profile")
    parser.add_argument(
        "--sequence-length", type=int, nargs="+", default=[128, 384], help="tokens (default: 128 384)"
    )
    parser.add_argument("--duration", type=float, default=1.0, help="seconds for each (default: 1)")
    options = parser.parse_args(arguments)
    profiles: List[Profile] = []
    for bundle in options.bundles:
        for length in options.sequence_length:
            report = benchmark(
                bundle, sequence_length=length, threads=1, duration=options.duration, rounds=3, profile=True
            )
            if report.profile is not None:
                profiles.append(report.profile)
    print("reference={")
    for name, value in reference(profiles).items():
        print(f'    "{name}": {value},')
    print("},")


if __name__ == "__main__":
    sys.exit(command_line.run(main))
