"""Predict the multiply-adds per cycle of the 256-bit x86 kernels' inner loops, against what each core can do.

    python -m tools.bench.x86_loops                                  # prints the page
    python -m tools.bench.x86_loops --mca llvm-mca-19 --output docs/results/x86_throughput.md

Few machines have AVX-VNNI and nothing better, so its kernels are mostly tuned elsewhere. Each kernel file is
compiled as `targets/build.py` compiles it, to assembly; the inner loops of every kernel for a panel of 64
tokens and of 16 are given to llvm-mca, whose model of a core (ports, widths, latencies; every load hits L1)
says how many cycles an iteration takes. The peak is the same model's bound for the loop's own multiply-add
instructions alone.

Needs: llvm-mca 19 or newer (Debian: apt-get install llvm-19).
Takes: about 2 minutes, most of them the compiler's.
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

#: By name of the kernel file: the models it is given to, each as llvm-mca calls it and as a reader knows it.
CORES: Dict[str, Tuple[Tuple[str, str], ...]] = {
    "avxvnni": (
        ("alderlake", "Golden Cove (Alder Lake's performance cores)"),
        ("znver4", "the ports of Zen 4"),
    ),
    "avx512vnni_ymm": (("sapphirerapids", "Golden Cove (Sapphire Rapids)"),),
    "avx2": (("znver3", "Zen 3"),),
}


@dataclass(frozen=True)
class Kernel:
    """The inner loop of a kernel.

    Args:
        name: what a reader calls it.
        symbol: pattern of the mangled name of its function. Of a kernel that is compiled once per epilogue it
            is the instance for U8 results, the first of the enumeration.
    """

    name: str
    symbol: str


def _row_gather(function: str, rows: int, width: int, tile: int, half: bool = False) -> str:
    """Pattern of a row-gather kernel for a panel of ``width`` units in tiles of ``tile``; half: 8 tokens."""
    return rf"{function}ILNS0_\d+\w+?E0ELi{rows}ELi{tile}ELi{width}E(E|Lb{int(half)}E)"


#: By name of the kernel file: its kernels.
KERNELS: Dict[str, Tuple[Kernel, ...]] = {
    "avxvnni": (
        Kernel("row-gather, R = 4", _row_gather("row_gather_groups", 4, 4, 2)),
        Kernel("row-gather, R = 2", _row_gather("row_gather_groups", 2, 4, 2)),
        Kernel("row-gather, R = 1", _row_gather("row_gather_groups", 1, 4, 2)),
        Kernel("row-gather, R = 4, 16 tokens", _row_gather("row_gather_groups", 4, 1, 1)),
        Kernel("row-gather, R = 4, 8 tokens", _row_gather("row_gather_groups", 4, 1, 1, half=True)),
        Kernel("Dense4", "linear_dense_4"),
        Kernel("1x4 blocks", r"BlockTileILi2ELb0EE3run.*E0E"),
        Kernel("attention", r"attend_tileILi1E.*E0E"),
    ),
    "avx512vnni_ymm": (
        Kernel("row-gather, R = 4", _row_gather("row_gather_tile", 4, 4, 2)),
        Kernel("row-gather, R = 2", _row_gather("row_gather_tile", 2, 4, 2)),
        Kernel("row-gather, R = 1", _row_gather("row_gather_tile", 1, 4, 2)),
        Kernel("row-gather, R = 4, 16 tokens", _row_gather("row_gather_tile", 4, 1, 1)),
        Kernel("Dense4", "linear_dense_4"),
        Kernel("1x4 blocks", r"BlockTileILi2ELb0EE3run.*E0E"),
        Kernel("attention", r"attend_tileILi1E.*E0E"),
    ),
    "avx2": (
        Kernel("row-gather, R = 4", r"gather_tilesILi4ELi2ELi2ELi4E"),
        Kernel("row-gather, R = 2", r"gather_tilesILi2ELi2ELi2ELi4E"),
        Kernel("row-gather, R = 1", r"gather_tilesILi1ELi2ELi2ELi4E"),
        Kernel("row-gather, R = 4, 16 tokens", r"gather_tilesILi4ELi1ELi1ELi1ELb0E"),
        Kernel("row-gather, R = 4, 8 tokens", r"gather_tilesILi4ELi1ELi1ELi1ELb1E"),
        Kernel("Dense4", r"linear_quads_avx2ILi4E"),
        Kernel("1x4 blocks", r"linear_quads_avx2ILi1E"),
        Kernel("attention", r"attend_unit.*E0E"),
    ),
}
#: Multiply-adds of an instruction on 256 bits.
_MULTIPLIES = {"vpdpbusd": 32, "vpmaddubsw": 32}
#: What a peak is made of: multiply-adds, and what adds up the 16-bit products of VPMADDUBSW.
_PEAK = (*_MULTIPLIES, "vpmaddwd", "vpaddw", "vpaddd")
_BRANCH = re.compile(r"^j\w+\s+(\.L\w+)$")
INTRODUCTION = """# x86 inner loops at 256 bits: predicted throughput

    python -m tools.bench.x86_loops --output docs/results/x86_throughput.md

**Predicted, not measured**, by llvm-mca {version}: it models the ports of a core and assumes that every \
load hits L1.

*Peak* is what the ports allow for the loop's multiply-add instructions alone.
*Bound* is what they and the front end allow for the whole loop, were nothing to wait for a result.
What binds each loop is in the [design note](../design-notes/2026-11-vnni256.md).
"""


@dataclass(frozen=True)
class Row:
    """The prediction for one loop on one core.

    Args:
        loop: name of the kernel.
        instructions: instructions of one iteration.
        loads: how many of them read memory.
        work: multiply-adds of one iteration.
        cycles: cycles of one iteration.
        bound: cycles of the busiest port or of the front end.
        peak: multiply-adds per cycle of the multiply-add instructions alone.
    """

    loop: str
    instructions: int
    loads: int
    work: int
    cycles: float
    bound: float
    peak: float


def mnemonic(line: str) -> str:
    """The name of an instruction, without a prefix such as ``{vex}``."""
    return next(word for word in line.split() if not word.startswith("{"))


def work_of(loop: Sequence[str]) -> int:
    """Multiply-adds of one iteration."""
    return sum(_MULTIPLIES.get(mnemonic(line), 0) for line in loop)


def loads_of(loop: Sequence[str]) -> int:
    """Instructions of one iteration that read memory; a prefetch takes a load port as well."""
    reads = [line for line in loop if "(" in line and not line.startswith("lea")]
    return sum(not line.endswith(")") or line.startswith("prefetch") for line in reads)


def cycles_of(mca: str, core: str, loop: Sequence[str]) -> Tuple[float, float]:
    """Cycles of one iteration on a core, and their bound; see :func:`inner_loops.cycles_of`."""
    return inner_loops.cycles_of(mca, ["-mtriple=x86_64", f"-mcpu={core}", "-mattr=+avxvnni"], loop)


def loop_of(kernel: Kernel, found: Sequence[Tuple[str, List[str]]]) -> List[str]:
    """The loop of a kernel: the one with the most multiply-adds, as the others do what is left over.

    Of loops with as many, the shortest is the one for panels of a known width.
    """
    loops = [
        loop
        for symbol, lines in found
        if re.search(kernel.symbol, symbol)
        for loop in inner_loops.innermost_loops(lines, _BRANCH)
    ]
    return min(loops, key=lambda loop: (-work_of(loop), len(loop)))


def multiplies_of(loop: Sequence[str]) -> List[str]:
    """The loop's multiply-add instructions on registers: an operand in memory becomes one."""
    lines = [line for line in loop if mnemonic(line) in _PEAK]
    return [re.sub(r"[^\s,]*\([^)]*\)", "%ymm15", line) for line in lines]


def rows_of(
    mca: str, kernels: Sequence[Kernel], core: str, found: Sequence[Tuple[str, List[str]]]
) -> Iterator[Row]:
    """The predictions for the kernels among the functions of one file, on one core."""
    for kernel in kernels:
        loop = loop_of(kernel, found)
        work = work_of(loop)
        cycles, bound = cycles_of(mca, core, loop)
        _, alone = cycles_of(mca, core, multiplies_of(loop))
        yield Row(kernel.name, len(loop), loads_of(loop), work, cycles, bound, work / alone)


def page(mca: str, tables: Dict[Tuple[str, str, str], List[Row]]) -> str:
    """The results page; the tables are by kernel file, model and what a reader calls that."""
    lines = [INTRODUCTION.format(version=inner_loops.version_of(mca))]
    for (name, core, meaning), rows in tables.items():
        lines += [
            f"## `{name}` on {meaning} (model `{core}`)",
            "",
            "| loop | instructions | loads | MACs | cycles | bound | MAC/cycle | of peak |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for row in rows:
            rate = row.work / row.cycles
            lines.append(
                f"| {row.loop} | {row.instructions} | {row.loads} | {row.work} | {row.cycles:.1f} | "
                f"{row.bound:.1f} | {rate:.1f} | {100 * rate / row.peak:.0f} % of {row.peak:.0f} |"
            )
        lines.append("")
    return "\n".join(lines)


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Predict, and print the page or write it."""
    options = inner_loops.read_options("tools.bench.x86_loops", __doc__, arguments)
    tables = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, cores in CORES.items():
            text = inner_loops.assembly("x86_avx", name, Path(folder))
            functions = list(inner_loops.functions(text, "#"))
            for core, meaning in cores:
                tables[name, core, meaning] = list(rows_of(options.mca, KERNELS[name], core, functions))
    inner_loops.publish(page(options.mca, tables), options.output)


if __name__ == "__main__":
    sys.exit(command_line.run(main))
