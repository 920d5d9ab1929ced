"""Measure the time and memory of one oBERT pruning step, the gradients given.

    python -m tools.bench.surgeon                             # BERT-base, m = 1024, B = 50, 8 GB
    python -m tools.bench.surgeon --layers 1 --gradients 256
    python -m tools.bench.surgeon --max-seconds 360 --max-bytes 8000000000 --output docs/results/surgeon.json

The encoder matrices of a BERT of random weights go through the whole step with synthetic gradients: Fisher
blocks, factorization, saliencies, global selection, update. Gradients come from memory (each of them another
stretch of a pool of random numbers), since a backward pass is not what is measured; with several passes they
come as often. Nothing is extrapolated: what is printed was run. Bytes are the peak of resident memory above
the weights and masks, files mapped by the system included.

Needs: the host's packages (torch) and 13 GB of memory for BERT-base.
Takes: five minutes for BERT-base on two cores, seconds for --layers 1 --gradients 256.
"""

from __future__ import annotations

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
from tools import command_line

#: Random numbers in the pool that gradients are cut from: 256 MB, more than any cache holds, so that they are
#: read from memory, as those of a backward pass are.
_POOL = 1 << 26


class Stream:
    """Synthetic gradients: stretches of one pool of random numbers, each at its own place.

    Making 85 million random numbers 1024 times would take longer than the step.
    """

    def __init__(self, count: int, largest: int, scale: float) -> None:
        generator = torch.Generator().manual_seed(0)
        self._pool = torch.randn(largest + _POOL, generator=generator).mul_(scale)
        self._count = count

    def __len__(self) -> int:
        return self._count

    def sample(self, parameters: Sequence[nn.Parameter]) -> Generator[List[Tensor], None, None]:
        """Yield the gradients of all parameters, one sample after the other and the same in every pass."""
        for index in range(self._count):
            parts = []
            for place, parameter in enumerate(parameters):
                start = (index * 7919 + place * 104729) * 61 % _POOL
                parts.append(self._pool[start : start + parameter.numel()].view_as(parameter))
            yield parts


class Memory(threading.Thread):
    """Watches this process's resident memory: the anonymous part, which no file backs, and the whole."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.anonymous = self.resident = 0
        self._ended = threading.Event()

    def run(self) -> None:
        """Look every 50 ms, until :meth:`end`."""
        while not self._ended.wait(0.05):
            self.look()

    def look(self) -> Dict[str, int]:
        """Return the bytes now, and keep the peaks."""
        status = Path("/proc/self/status").read_text().split("\n")
        values = {
            line.split(":")[0]: int(line.split()[1]) * 1024 for line in status if line.startswith("Rss")
        }
        now = {"anonymous": values["RssAnon"], "resident": sum(values.values())}
        self.anonymous = max(self.anonymous, now["anonymous"])
        self.resident = max(self.resident, now["resident"])
        return now

    def end(self) -> None:
        """Stop looking, and wait for the thread."""
        self._ended.set()
        self.join()


def encoder(layers: int, hidden: int, intermediate: int) -> Dict[str, nn.Parameter]:
    """Random weights of the shapes that a BERT's encoder has, by name."""
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


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run the step, print what it took, and return 1 if that was more than allowed."""
    parser = command_line.parser("tools.bench.surgeon", __doc__)
    parser.add_argument("--layers", type=int, default=12, help="(default: 12)")
    parser.add_argument("--hidden", type=int, default=768, help="channels (default: 768)")
    parser.add_argument("--intermediate", type=int, default=3072, help="channels (default: 3072)")
    parser.add_argument("--gradients", type=int, default=1024, help="the paper's m (default: 1024)")
    parser.add_argument("--block-size", type=int, default=50, help="the paper's B (default: 50)")
    parser.add_argument(
        "--layout", default="flat", help="of the blocks: flat, as in the paper, or row (default: flat)"
    )
    parser.add_argument("--solver", default="joint", help="(default: joint)")
    parser.add_argument("--selection", default="independent", help="(default: independent)")
    parser.add_argument("--pattern", default="unstructured", help="(default: unstructured)")
    parser.add_argument("--sparsity", type=float, default=0.7, help="to prune to (default: 0.7)")
    parser.add_argument("--memory-budget", type=int, default=8_000_000_000, help="bytes (default: 8 GB)")
    parser.add_argument(
        "--threads", type=int, default=len(os.sched_getaffinity(0)), help="(default: all CPUs)"
    )
    parser.add_argument("--max-seconds", type=float, help="exit with 1 above this")
    parser.add_argument("--max-bytes", type=int, help="exit with 1 above this peak of anonymous memory")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    options = parser.parse_args(arguments)
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
    """Prints how far a stage is to stderr, and counts the passes over the gradients."""

    def __init__(self) -> None:
        self.passes = 0
        self._last: Optional[float] = None

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Take what a criterion reports: the stage, and how many of its parts are done."""
        self.passes += stage == "gradients" and done == total
        now = time.perf_counter()
        if done == total or self._last is None or now - self._last > 5:
            print(f"{stage} {done}/{total}", file=sys.stderr, flush=True)
            self._last = now


if __name__ == "__main__":
    sys.exit(command_line.run(main))
