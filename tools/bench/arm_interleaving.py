"""Ways to put four arbitrary columns side by side for SDOT, as loops for llvm-mca (tools.bench.arm_loops).

SDOT wants the four columns of a token in one dword; a panel has them in four rows. Every function gives one
iteration of a row-gather loop on one quad of columns, with its loads of columns, activations and weights:
what the kernels do, and what else could be done.

No way that stays in registers needs fewer than 8 vector instructions for 16 tokens. Each of the four results
has bytes of four columns, and an instruction joins two registers to one of 16 bytes. So a result is made of
two registers that have two columns each (or of three and one, which takes more), and making the 64 bytes of
those takes four instructions more.
"""

from __future__ import annotations

from typing import Callable, Dict, Iterator, List, Tuple


def _columns(register: str) -> List[str]:
    """Loads of four indices and four rows of 16 (``q``) or 8 (``d``) tokens to v24 .. v27."""
    shift = 4 if register == "q" else 3
    lines = [f"ldrh w{13 + i}, [x12, #{2 * i}]" for i in range(4)]
    return [
        *lines,
        "add x12, x12, #8",
        *(f"ldr {register}{24 + i}, [x20, x{13 + i}, lsl #{shift}]" for i in range(4)),
    ]


def _products(rows: int, registers: List[int], weights: List[int]) -> List[str]:
    """Loads of the rows' weights and their SDOT with the interleaved ``registers``; sums are v0 upward."""
    lines = [f"ldr q{register}, [x10, #{16 * i}]" for i, register in enumerate(weights)]
    lines.append(f"add x10, x10, #{16 * len(weights)}")
    for row in range(rows):
        element = f"v{weights[row // 4]}.4b[{row % 4}]"
        for i, x in enumerate(registers):
            lines.append(f"sdot v{row * len(registers) + i}.4s, v{x}.16b, {element}")
    return lines


_LOOP = ["subs x11, x11, #1", "b.ne .L0"]


def zips(rows: int) -> List[str]:
    """The kernel's way, for 16 tokens: 4 ZIPs of bytes, then 4 ZIPs of pairs of bytes."""
    return [
        *_columns("q"),
        *("zip1 v28.16b, v24.16b, v25.16b", "zip2 v24.16b, v24.16b, v25.16b"),
        *("zip1 v29.16b, v26.16b, v27.16b", "zip2 v25.16b, v26.16b, v27.16b"),
        *("zip1 v26.8h, v28.8h, v29.8h", "zip2 v27.8h, v28.8h, v29.8h"),
        *("zip1 v28.8h, v24.8h, v25.8h", "zip2 v29.8h, v24.8h, v25.8h"),
        *_products(rows, [26, 27, 28, 29], [30]),
        *_LOOP,
    ]


def zips_of_half(rows: int) -> List[str]:
    """ZIPs for 8 tokens: a row has half as many sums, so that twice as many rows can share the 4 ZIPs."""
    return [
        *_columns("d"),
        *("zip1 v28.16b, v24.16b, v25.16b", "zip1 v29.16b, v26.16b, v27.16b"),
        *("zip1 v30.8h, v28.8h, v29.8h", "zip2 v31.8h, v28.8h, v29.8h"),
        *_products(rows, [30, 31], [24, 25, 26][: rows // 4]),
        *_LOOP,
    ]


def table_lookup(rows: int) -> List[str]:
    """Every TBL of four registers makes one interleaved register; its indices would be constants."""
    table = "{ v24.16b, v25.16b, v26.16b, v27.16b }"
    lookups = [f"tbl v{28 + i}.16b, {table}, v31.16b" for i in range(4)]
    return [*_columns("q"), *lookups, *_products(rows, [28, 29, 30, 31], [24]), *_LOOP]


def structure_store(rows: int) -> List[str]:
    """ST4 interleaves four registers on their way to L1, and they are loaded again from there."""
    store = "st4 { v24.16b, v25.16b, v26.16b, v27.16b }, [x9]"
    loads = [f"ldr q{28 + i}, [x9, #{16 * i}]" for i in range(4)]
    return [*_columns("q"), store, *loads, *_products(rows, [28, 29, 30, 31], [24]), *_LOOP]


def copies(rows: int) -> List[str]:
    """Scalar registers and L1 put 8 tokens of two columns side by side; TBL does the rest."""
    lines = [f"ldrh w{13 + i}, [x12, #{2 * i}]" for i in range(4)]
    lines.append("add x12, x12, #8")
    lines += [f"add x{13 + i}, x20, x{13 + i}, lsl #4" for i in range(4)]
    lines += [f"ldp x{2 * i}, x{2 * i + 1}, [x{13 + i}]" for i in range(4)]
    for pair in range(2):
        a, b = 4 * pair, 4 * pair + 2
        lines += [f"stp x{a}, x{b}, [x9, #{16 * pair}]", f"stp x{a + 1}, x{b + 1}, [x9, #{32 + 16 * pair}]"]
    lines += [f"ldr q{24 + i}, [x9, #{16 * i}]" for i in range(4)]
    lines += [
        f"tbl v{28 + i}.16b, {{ v{24 + i // 2 * 2}.16b, v{25 + i // 2 * 2}.16b }}, v31.16b" for i in range(4)
    ]
    return [*lines, *_products(rows, [28, 29, 30, 31], [24]), *_LOOP]


_Loop = Callable[[int], List[str]]
#: By name of the way: the output channels that share their columns, and the function that makes the loop.
ALTERNATIVES: Dict[str, Tuple[int, _Loop]] = {
    "4 rows, 8 ZIPs (the kernel)": (4, zips),
    "4 rows, 4 TBLs of four registers": (4, table_lookup),
    "4 rows, ST4 and loads": (4, structure_store),
    "4 rows, copies of 8 bytes and 4 TBLs of two registers": (4, copies),
    "8 rows x 8 tokens, 4 ZIPs": (8, zips_of_half),
    "12 rows x 8 tokens, 4 ZIPs": (12, zips_of_half),
}


def alternatives() -> Iterator[Tuple[str, List[str]]]:
    """The name and the loop of every way."""
    for name, (rows, loop) in ALTERNATIVES.items():
        yield name, loop(rows)
