#!/usr/bin/env python3
"""Measure a bundle beside ONNX Runtime, and print a chart.

python3 examples/bench.py                                # a sparse encoder of random weights, made here
python3 examples/bench.py model.oeb 64                   # a sequence length of 64 tokens
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import obert_edge

#: Characters of the longest bar.
WIDTH = 50


def main() -> None:
    """Measure the bundle on the command line, or one of MiniLM's shape."""
    length = int(sys.argv[2]) if len(sys.argv) > 2 else 128
    if len(sys.argv) > 1:
        bench(Path(sys.argv[1]), length)
        return
    from small_models import sparse_encoder

    with tempfile.TemporaryDirectory() as folder:
        bench(sparse_encoder(Path(folder) / "bench.oeb"), length)


def bench(bundle: Path, length: int) -> None:
    """Print the median time of every engine as a bar, and how many times faster ours is."""
    report = obert_edge.benchmark(bundle, baselines=["onnxruntime"], sequence_length=length, duration=1.0)
    measured = [report.engine, *report.baselines.values()]
    longest = max(engine.latency_ms.p50 for engine in measured)
    print(f"Milliseconds for one sequence of {length} tokens on {report.threads} threads:\n")
    for engine in measured:
        bar = "█" * max(1, round(WIDTH * engine.latency_ms.p50 / longest))
        print(f"{engine.name:18} {bar} {engine.latency_ms.p50:.1f}")
    for name, speedup in report.speedup.items():
        print(f"\n{speedup:.1f} times as fast as {name}", end="")
    print()
    for name, reason in report.missing.items():
        print(f"{name} was not measured: {reason}")


if __name__ == "__main__":
    main()
