"""The loops of an x86 assembly file are found and counted, and the committed page is the program's."""

from __future__ import annotations

import re

from tests.tools.results import RESULTS, begins_with
from tools.bench import inner_loops, x86_loops

ASSEMBLY = """
\t.text
first:                                  # @first
\tmovl $1, %eax
.LBB0_1:
\tvmovdqu (%rsi,%rax,8), %ymm1
\tvpbroadcastd 8(%rdi), %ymm2
\tprefetcht0 2048(%rdi)
\tleaq 8(%rdi), %rdi
\t{vex} vpdpbusd %ymm2, %ymm1, %ymm0
\tvmovdqu %ymm1, (%rdx)
\tjne .LBB0_1
.LBB0_2:
\t#APP
\tvpmaddubsw 32(%rdi), %ymm1, %ymm3
\tvpmaddwd .LCPI0(%rip), %ymm3, %ymm3
\tvpaddd (%rdx), %ymm3, %ymm3
\t#NO_APP
\tvpmaddubsw %ymm2, %ymm1, %ymm4
\tja .LBB0_2
\tretq
"""


def loops():
    lines = dict(inner_loops.functions(ASSEMBLY, "#"))["first"]
    return list(inner_loops.innermost_loops(lines, x86_loops._BRANCH))


def test_multiply_adds_and_loads_are_counted():
    first, second = loops()
    assert (x86_loops.work_of(first), x86_loops.loads_of(first)) == (32, 3)
    assert (x86_loops.work_of(second), x86_loops.loads_of(second)) == (64, 3)


def test_a_peak_is_of_registers_alone():
    multiplies = x86_loops.multiplies_of(loops()[1])
    assert multiplies == [
        "vpmaddubsw %ymm15, %ymm1, %ymm3",
        "vpmaddwd %ymm15, %ymm3, %ymm3",
        "vpaddd %ymm15, %ymm3, %ymm3",
        "vpmaddubsw %ymm2, %ymm1, %ymm4",
    ]


def test_the_loop_of_a_kernel_is_the_one_with_the_most_multiply_adds():
    found = list(inner_loops.functions(ASSEMBLY, "#"))
    assert x86_loops.loop_of(x86_loops.Kernel("one", "first"), found) == loops()[1]


def test_every_kernel_is_found_in_the_assembly_of_its_file(tmp_path):
    text = inner_loops.assembly("x86_avx", "avxvnni", tmp_path)
    symbols = [name for name, _ in inner_loops.functions(text, "#")]
    for kernel in x86_loops.KERNELS["avxvnni"]:
        assert any(re.search(kernel.symbol, symbol) for symbol in symbols), kernel.name


def test_the_committed_page_has_the_texts_the_program_writes():
    page = (RESULTS / "x86_throughput.md").read_text()
    assert begins_with(page, x86_loops.INTRODUCTION)
