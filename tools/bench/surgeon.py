#!/usr/bin/env python3
"""Time and memory of one oBERT pruning step, the gradients given.

    tools/bench/surgeon.py                          # BERT-base, m = 1024, B = 50, 8 GB: the whole step
    tools/bench/surgeon.py --layers 1 --gradients 256
    tools/bench/surgeon.py --layers 12 --gradients 1024 --max-seconds 360 --max-bytes 8000000000

Makes the encoder matrices of a BERT of random weights and streams synthetic gradients through the
whole step: Fisher blocks, factorization, saliencies, global selection, update. Gradients come from
memory (every one another stretch of a pool of random numbers) since a backward pass is not what is
measured; with several passes they come as often. Nothing is extrapolated: what is printed was run.
Bytes are the peak of resident memory above the weights and masks, files mapped by the system included.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any, Dict, Generator, List, Optional, Sequence

import torch
from torch import Tensor, nn

from obert_edge.host.pruning import Masks, Pattern, Surgeon

_POOL = 1 << 26


class Stream:
    """Synthetic gradients: stretches of one pool of random numbers, each at its own place.

    Making 85 million random numbers 1024 times would take longer than the step.
    """

    def __init__(self, count: int, largest: int, scale: float) -> None:
        generator = torch.Generator().manual_seed(0)
        # Larger than any cache, so that gradients are read from memory as a backward pass leaves them.
        self._pool = torch.randn(largest + _POOL, generator=generator).mul_(scale)
        self._count = count

    def __len__(self) -> int:
        return self._count

    def sample(self, parameters: Sequence[nn.Parameter]) -> Generator[List[Tensor], None, None]:
        """The same gradients in every pass."""
        for index in range(self._count):
            parts = []
            for place, parameter in enumerate(parameters):
                start = (index * 7919 + place * 104729) * 61 % _POOL
                parts.append(self._pool[start : start + parameter.numel()].view_as(parameter))
            yield parts


class Memory(threading.Thread):
    """Watches resident memory: anonymous (ours for good) and all."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.anonymous = self.resident = 0
        self._ended = threading.Event()

    def run(self) -> None:
        """Look every 50 ms."""
        while not self._ended.wait(0.05):
            self.look()

    def look(self) -> Dict[str, int]:
        """Bytes now; peaks are kept."""
        status = Path("/proc/self/status").read_text().split("\n")
        values = {
            line.split(":")[0]: int(line.split()[1]) * 1024 for line in status if line.startswith("Rss")
        }
        now = {"anonymous": values["RssAnon"], "resident": sum(values.values())}
        self.anonymous = max(self.anonymous, now["anonymous"])
        self.resident = max(self.resident, now["resident"])
        return now

    def end(self) -> None:
        """Stop looking."""
        self._ended.set()
        self.join()


def encoder(layers: int, hidden: int, intermediate: int) -> Dict[str, nn.Parameter]:
    """The prunable weights of a BERT, random."""
    shapes = dict.fromkeys(("query", "key", "value", "attention.output"), (hidden, hidden))
    shapes.update({"intermediate": (intermediate, hidden), "output": (hidden, intermediate)})
    generator = torch.Generator().manual_seed(1)
    return {
        f"layer.{layer}.{name}": nn.Parameter(
            torch.randn(shape, generator=generator).mul_(0.04), requires_grad=False
        )
        for layer in range(layers)
        for name, shape in shapes.items()
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--hidden", type=int, default=768)
    parser.add_argument("--intermediate", type=int, default=3072)
    parser.add_argument("--gradients", type=int, default=1024)
    parser.add_argument("--block-size", type=int, default=50)
    parser.add_argument("--layout", default="flat", help="flat: the paper's; row")
    parser.add_argument("--solver", default="joint")
    parser.add_argument("--selection", default="independent")
    parser.add_argument("--pattern", default="unstructured")
    parser.add_argument("--sparsity", type=float, default=0.7)
    parser.add_argument("--memory-budget", type=int, default=8_000_000_000, help="bytes")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--max-seconds", type=float, help="exit with 1 above this")
    parser.add_argument("--max-bytes", type=int, help="exit with 1 above this peak of anonymous memory")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    weights = encoder(options.layers, options.hidden, options.intermediate)
    masks = Masks({name: torch.ones(weight.shape, dtype=torch.bool) for name, weight in weights.items()})
    source = Stream(options.gradients, options.hidden * options.intermediate, scale=1e-3)
    surgeon = Surgeon(
        block_size=options.block_size,
        layout=options.layout,
        solver=options.solver,
        selection=options.selection,
        memory_budget=options.memory_budget,
    )
    pattern = Pattern.parse(options.pattern)
    surgeon.check_pattern(pattern)
    memory = Memory()
    before = memory.look()
    memory.start()
    shown = Progress()
    started = time.perf_counter()
    report = surgeon.prune_with(
        source, weights, masks, sparsity=options.sparsity, pattern=pattern, progress=shown
    )
    seconds = time.perf_counter() - started
    memory.end()
    result: Dict[str, Any] = {
        "weights": masks.total,
        "gradients": options.gradients,
        "block_size": options.block_size,
        "layout": options.layout,
        "solver": options.solver,
        "selection": options.selection,
        "pattern": str(pattern),
        "sparsity": report.sparsity,
        "threads": options.threads,
        "passes": shown.passes,
        "seconds": seconds,
        "stages": report.seconds,
        "peak_anonymous_bytes": memory.anonymous - before["anonymous"],
        "peak_resident_bytes": memory.resident - before["resident"],
    }
    print(json.dumps(result, indent=1))
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(result, indent=1) + "\n")
    slow = options.max_seconds is not None and seconds > options.max_seconds
    large = options.max_bytes is not None and result["peak_anonymous_bytes"] > options.max_bytes
    return int(slow or large)


class Progress:
    """One line per stage on stderr, and the number of passes."""

    def __init__(self) -> None:
        self.passes = 0
        self._last: Optional[float] = None

    def __call__(self, stage: str, done: int, total: int) -> None:
        """As ``progress`` of a criterion."""
        self.passes += stage == "gradients" and done == total
        now = time.perf_counter()
        if done == total or self._last is None or now - self._last > 5:
            print(f"{stage} {done}/{total}", file=sys.stderr, flush=True)
            self._last = now


if __name__ == "__main__":
    sys.exit(main())
