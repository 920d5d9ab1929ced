#!/usr/bin/env python3
"""The numbers a target carries for predictions (`Target.reference`), measured here with one thread.

    tools/bench/target.py MODEL.oeb [MODEL.oeb ...]    # prints the dictionary for targets/*/__init__.py

Measure on a quiet machine of the kind the target is for. The peaks are the best of all runs; `reached_KIND`
is the time of all ops of that kind at their bounds (docs/performance.md) over the least time measured.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Dict, List, Optional

from obert_edge.device.bench.benchmark import benchmark
from obert_edge.device.roofline.estimate import REACHED
from obert_edge.device.roofline.profile import Profile


def reference(profiles: List[Profile]) -> Dict[str, float]:
    """Peaks and parts reached, over all profiles together."""
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
    # An op of no work to speak of is all overhead: its share says nothing about a larger one.
    return {**values, **{kind: part for kind, part in reached.items() if part >= 0.02}}


def main(arguments: Optional[List[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundles", type=Path, nargs="+", metavar="MODEL.oeb")
    parser.add_argument("--sequence-length", type=int, nargs="+", default=[128, 384])
    parser.add_argument("--duration", type=float, default=1.0)
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
    main()
