"""Predict the multiply-adds per cycle of the ARM kernels' inner loops, against what each core can do.

    python -m tools.bench.arm_loops                                  # prints the page
    python -m tools.bench.arm_loops --mca llvm-mca-19 --output docs/results/arm_throughput.md

No ARM board is timed. Each kernel file is compiled as `targets/build.py` compiles it, to assembly; of every
kernel, the innermost loop with the most multiply-adds is given to llvm-mca, whose model of a core (pipes,
widths, latencies; every load hits L1) says how many cycles an iteration takes. A core's peak is the same
model's answer for the loop's own multiply-add instructions on registers, without loads or interleaving.

Needs: llvm-mca 19 or newer (Debian: apt-get install llvm-19).
Takes: about 40 seconds.
"""

from __future__ import annotations

import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Sequence, Tuple

from tools import command_line
from tools.bench import inner_loops
from tools.bench.arm_interleaving import alternatives

#: By name of the kernel file: the cores it is for, each as llvm-mca calls it and as a reader knows it.
CORES: Dict[str, Tuple[Tuple[str, str], ...]] = {
    "neondot": (
        ("neoverse-n1", "Cortex-A76 class (Raspberry Pi 5), Neoverse N1"),
        ("cortex-a55", "Cortex-A55"),
    ),
    "i8mm": (
        ("neoverse-n2", "Neoverse N2, Cortex-A710"),
        ("neoverse-v1", "Neoverse V1"),
        ("cortex-a510", "Cortex-A510"),
    ),
    "neon": (
        ("cortex-a72", "Cortex-A72 (Raspberry Pi 4)"),
        ("cortex-a53", "Cortex-A53 (Raspberry Pi 3, Zero 2 W)"),
    ),
}
#: By pattern of the mangled name: the kernel. Of row-gather it is the instance for U8 results, the first of
#: the enumeration that is its first template argument.
KERNELS = {
    r"row_gather_stripeILNS0_\d+\w+?E0ELi4ELb0": "row-gather, R = 4",
    r"row_gather_stripeILNS0_\d+\w+?E0ELi4ELb1": "row-gather, R = 4, 8 tokens",
    r"row_gather_stripeILNS0_\d+\w+?E0ELi2ELb0": "row-gather, R = 2",
    r"row_gather_stripeILNS0_\d+\w+?E0ELi1ELb0": "row-gather, R = 1",
    "linear_dense_4": "Dense4",
    "linear_block_1x4": "1x4 blocks",
    "attend_tile": "attention",
}
#: Multiply-adds of an instruction.
_MULTIPLIES = {"usmmla": 32, "sdot": 16, "usdot": 16, "smull": 8, "smull2": 8, "smlal": 8, "smlal2": 8}
#: The instructions a peak is made of: multiply-adds, and SADALP, which adds up the 16-bit products of SMULL.
_PEAK = (*_MULTIPLIES, "sadalp")
INTRODUCTION = """# ARM inner loops: predicted throughput

    python -m tools.bench.arm_loops --output docs/results/arm_throughput.md

**Predicted, not measured**, by llvm-mca {version}: it models the pipes of a core and assumes that every \
load hits L1.

*Peak* is what the loop's multiply instructions do alone, on registers.
*Arithmetic bound* is what the busiest vector pipe takes for the loop's vector instructions, which no better \
order of them could pass.
What binds each loop, and what the other ways to interleave say, is in the \
[design note](../design-notes/2026-11-arm.md).
"""
OTHER_WAYS = """## Other ways to interleave

The loops of `tools/bench/arm_interleaving.py` on the model of the Neoverse N1; the kernel is the first.

| a quad of columns | instructions | MACs | cycles | busiest vector pipe | of SDOT peak |
|---|---|---|---|---|---|"""
_BRANCH = re.compile(r"^(?:b\.\w+|b|cbn?z|tbn?z)\b.*?(\.L\w+)$")


@dataclass(frozen=True)
class Row:
    """The prediction for one kernel on one core.

    Args:
        kernel: name of the kernel.
        core: llvm-mca's name of the core.
        instructions: instructions of one iteration.
        work: multiply-adds of one iteration.
        cycles: cycles of one iteration.
        vector_cycles: cycles of one iteration that keep the busiest vector pipe busy.
        peak: multiply-adds per cycle of the multiply instructions alone.
    """

    kernel: str
    core: str
    instructions: int
    work: int
    cycles: float
    vector_cycles: float
    peak: float


def work_of(loop: Sequence[str]) -> int:
    """Multiply-adds of one iteration."""
    return sum(_MULTIPLIES.get(line.split()[0], 0) for line in loop)


def cycles_of(mca: str, core: str, loop: Sequence[str]) -> Tuple[float, float]:
    """Cycles of one iteration on a core, and of its busiest pipe; see :func:`inner_loops.cycles_of`."""
    return inner_loops.cycles_of(mca, ["-mtriple=aarch64", f"-mcpu={core}", "-mattr=+dotprod,+i8mm"], loop)


def vector_part(loop: Sequence[str]) -> List[str]:
    """The vector instructions of the loop, without loads and stores."""
    return [line for line in loop if re.search(r"\bv\d+\.", line) and not re.match(r"(ld|st)", line)]


def rows_of(mca: str, name: str, folder: Path) -> Iterator[Row]:
    """The predictions for the kernels of one file."""
    found = list(inner_loops.functions(inner_loops.assembly("arm_neon", name, folder), "//"))
    for pattern, kernel in KERNELS.items():
        loops = [
            loop
            for symbol, lines in found
            if re.search(pattern, symbol)
            for loop in inner_loops.innermost_loops(lines, _BRANCH)
        ]
        # Of loops with as many multiply-adds the longest is the kernel's.
        loop = max(loops, key=lambda loop: (work_of(loop), len(loop)))
        for core, _ in CORES[name]:
            multiplies = [line for line in loop if line.split()[0] in _PEAK]
            work = work_of(loop)
            cycles, _ = cycles_of(mca, core, loop)
            _, pipe = cycles_of(mca, core, vector_part(loop))
            alone, _ = cycles_of(mca, core, multiplies)
            yield Row(kernel, core, len(loop), work, cycles, pipe, work / alone)


def other_ways(mca: str, core: str = "neoverse-n1") -> List[str]:
    """The section of the page on other ways to interleave."""
    lines = [OTHER_WAYS]
    for name, loop in alternatives():
        work = work_of(loop)
        cycles, _ = cycles_of(mca, core, loop)
        alone, _ = cycles_of(mca, core, [line for line in loop if line.split()[0] in _PEAK])
        vectors = [line for line in loop if line.startswith("st4") or line in vector_part(loop)]
        _, pipes = cycles_of(mca, core, vectors)
        share = 100 * alone / cycles
        lines.append(f"| {name} | {len(loop)} | {work} | {cycles:.1f} | {pipes:.1f} | {share:.0f} % |")
    return [*lines, ""]


def page(mca: str, tables: Dict[str, List[Row]]) -> str:
    """The results page."""
    lines = [INTRODUCTION.format(version=inner_loops.version_of(mca))]
    for name, rows in tables.items():
        for core, meaning in CORES[name]:
            lines += [
                f"## `{name}` on {meaning} (model `{core}`)",
                "",
                "| loop | instructions | MACs | cycles | MAC/cycle | of peak | of arithmetic bound |",
                "|---|---|---|---|---|---|---|",
            ]
            for row in rows:
                if row.core == core:
                    rate = row.work / row.cycles
                    lines.append(
                        f"| {row.kernel} | {row.instructions} | {row.work} | {row.cycles:.1f} | {rate:.1f} | "
                        f"{100 * rate / row.peak:.0f} % of {row.peak:.1f} | "
                        f"{100 * row.vector_cycles / row.cycles:.0f} % |"
                    )
            lines.append("")
    return "\n".join([*lines, *other_ways(mca)])


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Predict, and print the page or write it."""
    options = inner_loops.read_options("tools.bench.arm_loops", __doc__, arguments)
    with tempfile.TemporaryDirectory() as folder:
        tables = {name: list(rows_of(options.mca, name, Path(folder))) for name in CORES}
    inner_loops.publish(page(options.mca, tables), options.output)


if __name__ == "__main__":
    sys.exit(command_line.run(main))
