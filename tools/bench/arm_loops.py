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
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Sequence, Tuple

from obert_edge.files import atomic_file
from obert_edge.targets import build
from tools import command_line
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
    r"row_gather_stripeILNS0_\d+\w+?E0ELi4": "row-gather, R = 4",
    r"row_gather_stripeILNS0_\d+\w+?E0ELi2": "row-gather, R = 2",
    r"row_gather_stripeILNS0_\d+\w+?E0ELi1": "row-gather, R = 1",
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
_LABEL = re.compile(r"^(\.?\w+):")
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


def assembly(name: str, folder: Path, target: str = "arm_neon") -> str:
    """The assembly of a kernel file of a target's folder, compiled with the target's flags."""
    plan = build.plans()[target]
    source, flags = next(source for source in plan.sources if source[0] == f"{target}/{name}.cpp")
    command = [*build.toolchain(plan.triple).compile, *build.COMPILE_FLAGS, *plan.flags, *flags]
    output = folder / f"{name}.s"
    paths = (*build.include_flags(), "-S", str(build.source_path(source)))
    environment = build._compiler_environment()
    subprocess.run([*command, *paths, "-o", str(output)], check=True, env=environment)
    return output.read_text()


def functions(text: str, comment: str = "//") -> Iterator[Tuple[str, List[str]]]:
    """The name and the lines (labels and instructions) of every function of an assembly file."""
    name, lines = "", []  # type: str, List[str]
    for line in text.splitlines():
        line = line.partition(comment)[0].strip()
        label = _LABEL.match(line)
        if label and not label[1].startswith(".L"):
            if name:
                yield name, lines
            name, lines = label[1], []
        elif line and (label or not line.startswith(".")):
            lines.append(line)
    if name:
        yield name, lines


def innermost_loops(lines: Sequence[str], is_branch: re.Pattern[str] = _BRANCH) -> Iterator[List[str]]:
    """The instructions of the loops that hold no other: from a label to the branch back to it."""
    at = {match[1]: i for i, line in enumerate(lines) if (match := _LABEL.match(line))}
    spans = [
        (at[branch[1]], i)
        for i, line in enumerate(lines)
        if (branch := is_branch.match(line)) and at.get(branch[1], i) < i
    ]
    for begin, end in spans:
        if not any((a, b) != (begin, end) and begin <= a and b <= end for a, b in spans):
            yield [line for line in lines[begin : end + 1] if not _LABEL.match(line)]


def work_of(loop: Sequence[str]) -> int:
    """Multiply-adds of one iteration."""
    return sum(_MULTIPLIES.get(line.split()[0], 0) for line in loop)


def cycles_of(mca: str, core: str, loop: Sequence[str], *, bound: bool = False) -> float:
    """Cycles of one iteration in a long run, by llvm-mca's model of a core.

    Args:
        mca: llvm-mca's command.
        core: llvm-mca's name of the core.
        loop: the instructions of an iteration.
        bound: return the cycles of the busiest pipe, as if no instruction waited for another's result.
    """
    iterations = 400
    command = [mca, "-mtriple=aarch64", f"-mcpu={core}", "-mattr=+dotprod,+i8mm", f"-iterations={iterations}"]
    done = subprocess.run(
        [*command, "-"], input="\n".join(loop) + "\n", capture_output=True, text=True, check=False
    )
    total = re.search(r"Block RThroughput:\s+([\d.]+)" if bound else r"Total Cycles:\s+(\d+)", done.stdout)
    if total is None:
        sys.exit(f"{' '.join(command)} failed: {done.stderr.strip()[:500]}")
    return float(total[1]) / (1 if bound else iterations)


def vector_part(loop: Sequence[str]) -> List[str]:
    """The vector instructions of the loop, without loads and stores."""
    return [line for line in loop if re.search(r"\bv\d+\.", line) and not re.match(r"(ld|st)", line)]


def rows_of(mca: str, name: str, folder: Path) -> Iterator[Row]:
    """The predictions for the kernels of one file."""
    found = list(functions(assembly(name, folder)))
    for pattern, kernel in KERNELS.items():
        loops = [
            loop for symbol, lines in found if re.search(pattern, symbol) for loop in innermost_loops(lines)
        ]
        # Of loops with as many multiply-adds the longest is the kernel's: those that only add weights up are
        # short.
        loop = max(loops, key=lambda loop: (work_of(loop), len(loop)))
        for core, _ in CORES[name]:
            multiplies = [line for line in loop if line.split()[0] in _PEAK]
            work = work_of(loop)
            yield Row(
                kernel, core, len(loop), work, cycles_of(mca, core, loop),
                cycles_of(mca, core, vector_part(loop), bound=True), work / cycles_of(mca, core, multiplies),
            )  # fmt: skip


def other_ways(mca: str, core: str = "neoverse-n1") -> List[str]:
    """The section of the page on other ways to interleave."""
    lines = [OTHER_WAYS]
    for name, loop in alternatives():
        work, cycles = work_of(loop), cycles_of(mca, core, loop)
        peak = work / cycles_of(mca, core, [line for line in loop if line.split()[0] in _PEAK])
        vectors = [line for line in loop if line.startswith("st4") or line in vector_part(loop)]
        pipes = cycles_of(mca, core, vectors, bound=True)
        share = 100 * work / cycles / peak
        lines.append(f"| {name} | {len(loop)} | {work} | {cycles:.1f} | {pipes:.1f} | {share:.0f} % |")
    return [*lines, ""]


def page(mca: str, tables: Dict[str, List[Row]]) -> str:
    """The results page."""
    version = subprocess.run([mca, "--version"], capture_output=True, text=True, check=True).stdout
    number = re.search(r"LLVM version ([\d.]+)", version)
    lines = [INTRODUCTION.format(version=number[1] if number else "of unknown version")]
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
    parser = command_line.parser("tools.bench.arm_loops", __doc__)
    found = next(filter(shutil.which, ("llvm-mca-19", "llvm-mca")), "llvm-mca")
    parser.add_argument("--mca", default=found, help=f"llvm-mca's command (default: {found})")
    parser.add_argument("--output", type=Path, help="write the page to this file, and do not print it")
    options = parser.parse_args(arguments)
    if shutil.which(options.mca) is None:
        sys.exit(f"{options.mca} was not found: install LLVM 19's tools (Debian: apt-get install llvm-19)")
    with tempfile.TemporaryDirectory() as folder:
        tables = {name: list(rows_of(options.mca, name, Path(folder))) for name in CORES}
    text = page(options.mca, tables)
    if options.output:
        with atomic_file(options.output) as temporary:
            temporary.write_text(text, "utf-8")
    else:
        print(text)


if __name__ == "__main__":
    sys.exit(command_line.run(main))
