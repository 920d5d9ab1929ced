#!/usr/bin/env python3
"""Predicted multiply-adds per cycle of the ARM kernels' inner loops, against what each core can do.

    tools/bench/arm_loops.py [--mca llvm-mca-19] [--output docs/results/arm_throughput.md]

No ARM board is timed. Each kernel file is compiled as `targets/build.py` compiles it, to assembly; of every
kernel, the innermost loop with the most multiply-adds is given to llvm-mca, whose model of a core (pipes,
widths, latencies; every load hits L1) says how many cycles an iteration takes. A core's peak is the same
model's answer for the loop's own multiply-add instructions on registers, without loads or interleaving.
"""

from __future__ import annotations

import argparse
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
from tools.bench.arm_interleaving import alternatives

#: Kernel file -> llvm-mca's cores it is for, and what they stand for.
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
#: Part of a mangled name -> the kernel.
KERNELS = {
    "row_gather_stripeILNS0_6FinishE0ELi4": "row-gather, R = 4",
    "row_gather_stripeILNS0_6FinishE0ELi2": "row-gather, R = 2",
    "row_gather_stripeILNS0_6FinishE0ELi1": "row-gather, R = 1",
    "linear_dense_4": "Dense4",
    "linear_block_1x4": "1x4 blocks",
    "attend_tile": "attention",
}
#: Multiply-adds of an instruction: 32 of USMMLA, 16 of SDOT and USDOT, 8 of SMULL and SMLAL.
_MULTIPLIES = {"usmmla": 32, "sdot": 16, "usdot": 16, "smull": 8, "smull2": 8, "smlal": 8, "smlal2": 8}
#: Multiply-adds and what finishes them: the instructions a peak is made of.
_PEAK = (*_MULTIPLIES, "sadalp")
INTRODUCTION = """# ARM inner loops: predicted throughput

Written by `tools/bench/arm_loops.py` with llvm-mca {version}. **Predicted, not measured**: no ARM board was
at hand. The model knows the pipes of a core and assumes that every load hits L1. *Peak* is what the loop's
multiply instructions do alone, on registers; *arithmetic bound* is what the busiest vector pipe takes for the
loop's vector instructions, which no better order of them could pass.

* With dotprod, row-gather is bound at two thirds of the SDOT peak on a core of two vector pipes: a quad of
  columns of 4 rows is 16 SDOT for 256 multiply-adds, and the 8 zips that put its four columns side by side
  run on the same pipes; fewer rows share the zips less ([other ways](#other-ways-to-interleave)). Dense
  layers and attention interleave once and use it often. 1x4 blocks load a register for every SDOT.
* With i8mm, dense layers, attention and row-gather of four rows use USMMLA, which does 32 multiply-adds at
  the rate of an SDOT's 16 and needs eight columns side by side: 24 zips for 512 of row-gather, so that these
  bound it even more (*peak* is USMMLA's there); elsewhere that does not pay ([why](../arm64.md)).
* Without dotprod the one multiplier is the bottleneck, and the zips run beside it.
* The Cortex-A55, A510 and A53 execute in order: there loops wait for results as much as for pipes.
"""
OTHER_WAYS = """## Other ways to interleave
`tools/bench/arm_interleaving.py`, Neoverse N1 model. The floor we had set, 85 % of the SDOT peak, leaves 2.8
vector instructions per 16 SDOT for interleaving. Any way that stays in registers needs 8 for four arbitrary
columns of 16 tokens (the tool says why), whatever the rows: so **12 rows** must share their columns, and
4x1 ends at 67 %, 8x1 at 80 %. TBL of four registers counts as three instructions. Through memory less is
left for the vector pipes, and the load pipes and the front end take over; besides, the model lets a load
pass a store it waits for. None of them is a gain to rely on without a board; the kernel stays with its
zips, at 100 % of what they allow.

| a quad of columns | instructions | MACs | cycles | busiest vector pipe | of SDOT peak |
|---|---|---|---|---|---|"""
_LABEL = re.compile(r"^(\.?\w+):")
_BRANCH = re.compile(r"^(?:b\.\w+|b|cbn?z|tbn?z)\b.*?(\.L\w+)$")


@dataclass(frozen=True)
class Row:
    """The prediction for one kernel on one core.

    Args:
        kernel: its name.
        core: llvm-mca's name of the core.
        instructions: of one iteration.
        work: multiply-adds of one iteration.
        cycles: of one iteration.
        vector_cycles: of the busiest vector pipe.
        peak: multiply-adds per cycle of the multiply instructions alone.
    """

    kernel: str
    core: str
    instructions: int
    work: int
    cycles: float
    vector_cycles: float
    peak: float


def assembly(name: str, folder: Path) -> str:
    """A kernel file of the arm64 target, compiled to assembly with the target's flags."""
    plan = build.plans()["arm_neon"]
    source, flags = next(source for source in plan.sources if source[0] == f"arm_neon/{name}.cpp")
    command = [*build.toolchain(plan.triple).compile, *build.COMPILE_FLAGS, *plan.flags, *flags]
    output = folder / f"{name}.s"
    paths = (*build.include_flags(), "-S", str(build.source_path(source)))
    environment = build._compiler_environment()
    subprocess.run([*command, *paths, "-o", str(output)], check=True, env=environment)
    return output.read_text()


def functions(text: str) -> Iterator[Tuple[str, List[str]]]:
    """Names and lines (labels and instructions) of the functions of an assembly file."""
    name, lines = "", []  # type: str, List[str]
    for line in text.splitlines():
        line = re.sub(r"//.*", "", line).strip()
        label = _LABEL.match(line)
        if label and not label[1].startswith(".L"):
            if name:
                yield name, lines
            name, lines = label[1], []
        elif line and (label or not line.startswith(".")):
            lines.append(line)
    if name:
        yield name, lines


def innermost_loops(lines: Sequence[str]) -> Iterator[List[str]]:
    """The instructions of the loops that hold no other: from a label to the branch back to it."""
    at = {match[1]: i for i, line in enumerate(lines) if (match := _LABEL.match(line))}
    spans = [
        (at[branch[1]], i)
        for i, line in enumerate(lines)
        if (branch := _BRANCH.match(line)) and at.get(branch[1], i) < i
    ]
    for begin, end in spans:
        if not any((a, b) != (begin, end) and begin <= a and b <= end for a, b in spans):
            yield [line for line in lines[begin : end + 1] if not _LABEL.match(line)]


def work_of(loop: Sequence[str]) -> int:
    """Multiply-adds of one iteration."""
    return sum(_MULTIPLIES.get(line.split()[0], 0) for line in loop)


def cycles_of(mca: str, core: str, loop: Sequence[str], *, bound: bool = False) -> float:
    """Cycles of one iteration in a long run, as the core's model has it.

    Args:
        mca: the command.
        core: llvm-mca's name.
        loop: instructions.
        bound: what the busiest pipe takes, whatever waits for what.
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
    """The loop without loads, stores, integers and branches."""
    return [line for line in loop if re.search(r"\bv\d+\.", line) and not re.match(r"(ld|st)", line)]


def rows_of(mca: str, name: str, folder: Path) -> Iterator[Row]:
    """Predictions for the kernels of one file."""
    found = list(functions(assembly(name, folder)))
    for part, kernel in KERNELS.items():
        loops = [loop for symbol, lines in found if part in symbol for loop in innermost_loops(lines)]
        # The longest, too: the loops that only add weights up are short.
        loop = max(loops, key=lambda loop: (work_of(loop), len(loop)))
        for core, _ in CORES[name]:
            multiplies = [line for line in loop if line.split()[0] in _PEAK]
            work = work_of(loop)
            yield Row(
                kernel, core, len(loop), work, cycles_of(mca, core, loop),
                cycles_of(mca, core, vector_part(loop), bound=True), work / cycles_of(mca, core, multiplies),
            )  # fmt: skip


def other_ways(mca: str, core: str = "neoverse-n1") -> List[str]:
    """The part of the page on interleaving otherwise."""
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
    """Print the page, or write it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--mca", default=next(filter(shutil.which, ("llvm-mca-19", "llvm-mca")), "llvm-mca"))
    parser.add_argument("--output", type=Path)
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
    main()
