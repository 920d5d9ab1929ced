"""The loops of an assembly file are found and counted, and the committed page is the program's."""

from __future__ import annotations

import re

from tests.tools.results import RESULTS, begins_with
from tools.bench import arm_loops, inner_loops

ASSEMBLY = """
\t.text
first:                                  // @first
\tmov w8, #1
.LBB0_1:
\tldr q0, [x0], #16
.LBB0_2:
\tsdot v1.4s, v0.16b, v2.16b
\tsmlal v3.8h, v4.8b, v5.8b
\tsubs x9, x9, #1
\tb.ne .LBB0_2
\tcbnz x8, .LBB0_1
\tret
second:
\tret
"""


def test_functions_are_told_apart_by_their_labels():
    found = dict(inner_loops.functions(ASSEMBLY, "//"))
    assert list(found) == ["first", "second"]
    assert found["second"] == ["ret"]


def test_only_the_innermost_loop_is_taken_and_its_multiply_adds_are_counted():
    lines = dict(inner_loops.functions(ASSEMBLY, "//"))["first"]
    (loop,) = inner_loops.innermost_loops(lines, arm_loops._BRANCH)
    assert [line.split()[0] for line in loop] == ["sdot", "smlal", "subs", "b.ne"]
    assert arm_loops.work_of(loop) == 16 + 8
    assert len(arm_loops.vector_part(loop)) == 2


def test_every_kernel_is_found_in_the_assembly_of_its_file(tmp_path):
    text = inner_loops.assembly("arm_neon", "neondot", tmp_path)
    symbols = [name for name, _ in inner_loops.functions(text, "//")]
    for pattern, kernel in arm_loops.KERNELS.items():
        assert any(re.search(pattern, symbol) for symbol in symbols), kernel


def test_the_committed_page_has_the_texts_the_program_writes():
    page = (RESULTS / "arm_throughput.md").read_text()
    assert begins_with(page, arm_loops.INTRODUCTION)
    assert arm_loops.OTHER_WAYS in page
