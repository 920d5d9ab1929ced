"""Every form of VEX-encoded VPDPBUSD(S) and VPDPWSSD(S): as assembler source, and what each must compute.

``python -m tests.kernels.avxvnni_forms LIBRARY`` runs the forms of a compiled library and compares all
sixteen registers with this module's own arithmetic. :mod:`tests.kernels.test_trap` does so in a process that
has the instructions from ``avxvnni_trap.cpp``.
"""

from __future__ import annotations

import ctypes
import mmap
import random
import sys
from dataclasses import dataclass
from typing import Iterator, List, Optional, Tuple

import numpy as np

OPS = ("vpdpbusd", "vpdpbusds", "vpdpwssd", "vpdpwssds")
GENERAL = (
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
    "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
)  # fmt: skip
VECTORS, VECTOR_BYTES = 16, 32

#: ``form_0`` and so on take the address of 16 vectors to start with, behind which they leave what they end
#: with. The operand lies in the middle of memory that a stack pointer may point to: a signal arrives there.
#: Symbols have a local name, too, because those that others may define have no address to compute with.
PROLOGUE = """
    .bss
    .balign 64
    .skip 262144
    .globl operand, low_operand
here: operand:
    .skip 65536
saved: .skip 8
saved_rsp: .skip 8
low_here: low_operand: .skip 8

    .macro enter
    push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15
    movq %rdi, saved(%rip)
    movq %rsp, saved_rsp(%rip)
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    vmovdqu 32*\\n(%rdi), %ymm\\n
    .endr
    .endm

    .macro leave
    movq saved(%rip), %rax
    movq saved_rsp(%rip), %rsp
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    vmovdqu %ymm\\n, 512+32*\\n(%rax)
    .endr
    vzeroupper
    pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx
    ret
    .endm

    .text
"""


@dataclass(frozen=True)
class Form:
    """One instruction.

    Args:
        op: its name.
        bytes: of its vectors: 16 or 32.
        target: number of the register with the sums.
        first: of the one with the first factors.
        second: of the one with the second factors; ``None``: they are in memory.
        setup: instructions that set the registers of the address.
        operand: the memory operand.
    """

    op: str
    bytes: int
    target: int
    first: int
    second: Optional[int]
    setup: str = ""
    operand: str = ""

    @property
    def text(self) -> str:
        """The instruction in assembler."""
        kind = "ymm" if self.bytes == VECTOR_BYTES else "xmm"
        second = self.operand if self.second is None else f"%{kind}{self.second}"
        return f"{{vex}} {self.op} {second}, %{kind}{self.first}, %{kind}{self.target}"

    def expected(self, registers: np.ndarray, memory: np.ndarray) -> np.ndarray:
        """The registers afterwards, uint8 [16, 32]."""
        source = memory if self.second is None else registers[self.second]
        first, second = registers[self.first][: self.bytes], source[: self.bytes]
        sums = registers[self.target][: self.bytes].view(np.int32).astype(np.int64)
        if "bus" in self.op:
            products = first.astype(np.int64) * second.view(np.int8).astype(np.int64)
        else:
            products = first.view(np.int16).astype(np.int64) * second.view(np.int16).astype(np.int64)
        sums = sums + products.reshape(len(sums), -1).sum(axis=1)
        if self.op.endswith("ds"):
            sums = sums.clip(-(2**31), 2**31 - 1)
        found = registers.copy()
        found[self.target] = 0
        found[self.target][: self.bytes] = (sums & 0xFFFFFFFF).astype(np.uint32).view(np.uint8)
        return found


def forms() -> List[Form]:
    """All ops and lengths, with every register in every place and every kind of address."""
    rng = random.Random(0)
    kinds = [(op, size) for op in OPS for size in (16, 32)]
    found = [
        Form(op, size, (number + shift) % 16, (number * 7 + shift) % 16, (number * 5 + 3 * shift) % 16)
        for op, size in kinds
        for number in range(16)
        for shift in (0, 1, 5)
    ]
    found += [Form(op, size, 3, 3, 3) for op, size in kinds]
    for setup, operand in addresses(rng):
        op, size = rng.choice(kinds)
        found.append(Form(op, size, rng.randrange(16), rng.randrange(16), None, setup, operand))
    return found


def addresses(rng: random.Random) -> Iterator[Tuple[str, str]]:
    """Instructions that set registers, and an operand that then lies at ``operand``."""
    yield "", "here(%rip)"
    for base in GENERAL:
        # A signal writes below the stack pointer, which therefore must not lie behind the operand.
        displacements: Tuple[int, ...] = (0, 1, 8, 127, 128, 4096)
        if base != "rsp":
            displacements += (-1, -128, -129, -65536, 2**20 + 3)
        for displacement in displacements:
            yield lea(base, -displacement), f"{displacement}(%{base})"
        for index in GENERAL:
            if index in ("rsp", base):
                continue
            scale, displacement = rng.choice((1, 2, 4, 8)), rng.choice(displacements)
            count = rng.randrange(0 if base == "rsp" else -300, 300)
            yield (
                f"{lea(base, -displacement - scale * count)}; movq ${count}, %{index}",
                f"{displacement}(%{base},%{index},{scale})",
            )
    for index in GENERAL:
        if index == "rsp":
            continue
        yield (
            f"{lea(index, -64)}; shrq $3, %{index}",
            f"64(,%{index},8)",
        )  # no base: a displacement of four bytes
        if index != "rbp":
            yield f"{lea(index, -32)}; shrq $1, %{index}", f"32(%{index},%{index},1)"
    yield f"movq %fs:0, %rax; negq %rax; {lea('rcx', -24)}; addq %rax, %rcx", "%fs:24(%rcx)"
    yield lea("rdx", 0), "%ds:(%rdx)"
    # Only the low halves of the registers count.
    above = "movabsq $0x1234567800000000, %rsi"
    yield f"{above}; addq low_here(%rip), %rsi", "(%esi)"
    yield f"{above}; addq low_here(%rip), %rsi; subq $800, %rsi; movq $100, %r9", "(%esi,%r9d,8)"


def lea(register: str, offset: int) -> str:
    """Set a register to the operand's address and some bytes."""
    return f"leaq here{offset:+d}(%rip), %{register}"


def source(of: List[Form]) -> str:
    """Assembler for all forms."""
    parts = [PROLOGUE]
    for number, form in enumerate(of):
        parts.append(
            f"    .globl form_{number}\nform_{number}:\n"
            f"    enter\n    {form.setup}\n    {form.text}\n    leave\n"
        )
    return "".join(parts)


def run(library: str, of: List[Form]) -> List[str]:
    """The forms that left other registers than they must."""
    functions = ctypes.CDLL(library)
    rng = np.random.default_rng(0)
    block = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40)  # MAP_32BIT
    low = np.frombuffer(block, np.uint8)
    ctypes.c_uint64.in_dll(functions, "low_operand").value = low.ctypes.data
    memory = np.frombuffer((ctypes.c_uint8 * VECTOR_BYTES).in_dll(functions, "operand"), np.uint8)
    state = np.empty((2, VECTORS, VECTOR_BYTES), np.uint8)
    wrong = []
    for number, form in enumerate(of):
        for extreme in (False, True):
            state[:] = rng.integers(0, 256, state.shape)
            memory[:] = rng.integers(0, 256, VECTOR_BYTES)
            if extreme:  # sums that leave the range of 32 bits
                state[0, form.target].view(np.uint32)[:] = rng.choice([0x7FFFFFFF, 0x80000000], 8)
                state[0, form.first].view(np.uint16)[::2] = rng.choice([0x8000, 0x7FFF, 0xFFFF], 8)
                memory[:] = rng.choice([0x80, 0x7F, 0xFF, 0x00], VECTOR_BYTES)
            low[:VECTOR_BYTES] = memory
            expected = form.expected(state[0], memory)
            functions[f"form_{number}"](ctypes.c_void_p(state.ctypes.data))
            if not (state[1] == expected).all():
                wrong.append(f"{form.setup}; {form.text}")
                break
    return wrong


if __name__ == "__main__":
    for line in run(sys.argv[1], forms()):
        print(line)  # noqa: T201 - read by the test
