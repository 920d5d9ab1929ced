"""Measure the costs a target's packer chooses weight formats with (`Target.format_costs`), with one thread.

    python -m tools.bench.format_costs                                          # x86, the best kernels
    python -m tools.bench.format_costs --target arm64 --implementation neondot

It prints the dictionary for `targets/*/__init__.py`.

Linears of every format run on 64 tokens, in BERT-base and MiniLM shapes and at five sparsities. Each of them
is there several times over, so that its weights come from where a whole model's weights come from, which is
not L2. For each format a line is fitted to the times, by least squares of the relative error: nanoseconds for
each quad of columns (or block of weights) and for each group of output channels. Multiply-adds need no term
of their own, since every quad of a format has as many. Linears take turns, and the least time of each counts.

Needs: a quiet machine of the kind the target is for.
Takes: about a minute.
"""

from __future__ import annotations

import dataclasses
import sys
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from obert_edge.bundle.packing import supports
from obert_edge.bundle.program import Activation, Const, DType, Linear, Program, WeightFormat
from obert_edge.device.runtime import machine
from obert_edge.device.runtime.native import Library, NativeModel
from obert_edge.targets import get_target, library_path
from obert_edge.targets.base import FormatCost
from tools import command_line
from tools.bench.kernels import Case, batch_of, buffers_of, linear_case

TOKENS = 64
SHAPES = ((768, 768), (3072, 768), (768, 3072), (384, 384), (1536, 384), (384, 1536))
SPARSITIES = (0.5, 0.7, 0.8, 0.9, 0.95)
#: Bytes of all copies of a linear: more than an L2 holds, and less than an L3.
BYTES = 4 << 20
_CONSTS = ("rows", "offsets", "columns", "weights", "scale", "bias", "correction")


class Timing(NamedTuple):
    """How many quads (or blocks) and groups one linear stores, and the least nanoseconds it took."""

    quads: int
    groups: int
    nanoseconds: float


def fit(timings: Sequence[Timing]) -> Tuple[FormatCost, float]:
    """The costs of one format, and the largest relative error of what they predict."""
    stored = np.array([(timing.quads, timing.groups) for timing in timings], dtype=np.float64)
    times = np.array([timing.nanoseconds for timing in timings])
    best = np.full(2, np.inf)
    least = np.inf
    # Where a fit with both terms makes one of them negative, the best fit without that term is taken.
    for used in ([0, 1], [0], [1]):
        found = np.zeros(2)
        found[used] = np.linalg.lstsq(stored[:, used] / times[:, None], np.ones(len(times)), rcond=None)[0]
        error = float(np.square(stored @ found / times - 1).sum())
        if (found >= 0).all() and error < least:
            best, least = found, error
    by_quad, by_group = map(float, best)
    worst = float(np.abs(stored @ best / times - 1).max())
    return FormatCost(ns_per_weight=0.0, ns_per_quad=by_quad, ns_per_group=by_group), worst


class Copies:
    """A linear that is there several times over, one after the other.

    Args:
        case: the linear, alone.
        library: the engine's library.
        implementation: name of the kernels to run.
    """

    def __init__(self, case: Case, library: Library, implementation: str) -> None:
        self.case = case
        self.least = np.inf
        self._count = max(2, -(-BYTES // len(case.weights)))
        program, weights = repeated(case, self._count)
        self._buffers = buffers_of(case, TOKENS)
        self._model: NativeModel = library.open(
            program.to_bytes(), weights, threads=1, implementation=implementation
        )

    def run(self) -> None:
        """Run all copies once, and keep the mean time of a copy if it is the least so far."""
        batch = batch_of(TOKENS)
        spent = sum(self._model.run_op(index, batch, self._buffers) for index in range(self._count))
        self.least = min(self.least, spent / self._count)

    def timing(self) -> Timing:
        """What the linear stores, and the least time so far."""
        op = self.case.program.ops[0]
        assert isinstance(op, Linear)
        const = self.case.program.consts[op.offsets]
        offsets = np.frombuffer(self.case.weights, np.uint32, const.bytes // 4, const.offset)
        return Timing(int(offsets[-1]), op.groups, float(self.least))


def repeated(case: Case, count: int) -> Tuple[Program, bytes]:
    """A program of ``count`` ops like the one of ``case``, each with weights of its own."""
    op = case.program.ops[0]
    program = dataclasses.replace(case.program, ops=[], consts=[])
    for copy in range(count):
        first = len(program.consts)
        program.consts += [
            Const(const.offset + copy * len(case.weights), const.bytes) for const in case.program.consts
        ]
        program.ops.append(dataclasses.replace(op, **{name: getattr(op, name) + first for name in _CONSTS}))
    return program, case.weights * count


def measure(
    library: Library,
    implementation: str,
    *,
    rounds: int,
    shapes: Sequence[Tuple[int, int]] = SHAPES,
    sparsities: Sequence[float] = SPARSITIES,
) -> Dict[WeightFormat, List[Timing]]:
    """Timings by format.

    A round runs every linear once, so that a machine that changes its speed does so for all formats.
    """
    running = {
        weight_format: [
            Copies(
                linear_case(n, k, weight_format, sparsity, TOKENS, DType.U8, Activation.NONE),
                library,
                implementation,
            )
            for n, k in shapes
            if supports(weight_format, k)
            for sparsity in (sparsities[:1] if weight_format is WeightFormat.DENSE_4 else sparsities)
        ]
        for weight_format in WeightFormat
    }
    for _ in range(rounds):
        for linears in running.values():
            for copies in linears:
                copies.run()
    return {
        weight_format: [copies.timing() for copies in linears] for weight_format, linears in running.items()
    }


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Measure, fit, and print the dictionary."""
    parser = command_line.parser("tools.bench.format_costs", __doc__)
    parser.add_argument(
        "--target", default="x86", help="whose library to measure; it must run here (default: x86)"
    )
    parser.add_argument("--implementation", help="name of its kernels (default: the best that run here)")
    parser.add_argument("--rounds", type=int, default=15, help="how often every linear runs (default: 15)")
    options = parser.parse_args(arguments)
    library = Library(library_path(get_target(options.target)))
    names = library.implementations()
    options.implementation = options.implementation or names[0]
    if options.implementation not in names:
        parser.error(f"{options.implementation} does not run here; there are {', '.join(names)}")
    timings = measure(library, options.implementation, rounds=options.rounds)
    print(f"# {options.implementation} on {machine.cpu_model()}, tools.bench.format_costs")
    print("format_costs={")
    for weight_format, measured in timings.items():
        cost, worst = fit(measured)
        numbers = (
            f"ns_per_weight=0.0, ns_per_quad={cost.ns_per_quad:.2f}, ns_per_group={cost.ns_per_group:.1f}"
        )
        print(f"    # within {worst:.0%} of {len(measured)} linears")
        print(f"    WeightFormat.{weight_format.name}: FormatCost({numbers}),")
    print("},")


if __name__ == "__main__":
    sys.exit(command_line.run(main))
