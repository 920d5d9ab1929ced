#!/usr/bin/env python3
"""Time of every kernel of every implementation this CPU can run, at the shapes of a BERT-base layer.

    tools/bench_kernels.py --tokens 128 --threads 1 --sparsity 0.8

Linears and attention are given as GMAC/s on the weights that are not zero, and as a fraction of the
multiply-add peak, which is measured first: the implementation's own multiply-add instruction on registers,
nothing else. Times are the least of several rounds; one machine's, and noisy on a shared one.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Optional, Sequence

import numpy as np

from obert_edge.bundle.packing import pack_linear
from obert_edge.bundle.program import (
    ABSENT,
    Activation,
    Attention,
    Buffer,
    Const,
    Domain,
    DType,
    Embed,
    LayerNorm,
    Linear,
    MeanPool,
    Op,
    Program,
    Quantize,
    QuantizeDynamic,
    WeightFormat,
)
from obert_edge.runtime.native import Library, NativeModel, PackedBatch, aligned_empty
from obert_edge.targets import get_target, library_path
from obert_edge.targets.build import plans, toolchain

HIDDEN, INTERMEDIATE, HEADS = 768, 3072, 12
BLOCK_ROWS = {
    WeightFormat.ROW_GATHER_1: 1,
    WeightFormat.ROW_GATHER_2: 2,
    WeightFormat.ROW_GATHER_4: 4,
    WeightFormat.DENSE_4: 4,
    WeightFormat.BLOCK_1X4: 1,
}

#: Per implementation: compiler flags, the instruction (%0: accumulator), its vector type, its multiply-adds.
PEAKS = {
    "avx512vnni": (("-mavx512f", "-mavx512vnni"), "vpdpbusd %2, %1, %0", "__m512i", 64),
    "avx512vnni_ymm": (("-mavx512vl", "-mavx512vnni"), "vpdpbusd %2, %1, %0", "__m256i", 32),
    "avxvnni": (("-mavx2", "-mavxvnni"), "{vex} vpdpbusd %2, %1, %0", "__m256i", 32),
    "avx2": (("-mavx2",), "vpmaddwd %2, %1, %0", "__m256i", 16),
}
PEAK_SOURCE = """
#include <immintrin.h>
#define STEP(a) __asm__ volatile(INSTRUCTION : "+v"(a) : "v"(x), "v"(y));
void peak(long rounds) {
  VECTOR x = {1}, y = {2}, a = x, b = x, c = x, d = x, e = x, f = x, g = x, h = x, i = x, j = x, k = x, l = x;
  for (long n = 0; n < rounds; ++n) {
    STEP(a) STEP(b) STEP(c) STEP(d) STEP(e) STEP(f) STEP(g) STEP(h) STEP(i) STEP(j) STEP(k) STEP(l)
  }
}
"""


@dataclass(frozen=True)
class Case:
    """One op to time.

    Args:
        title: what it is.
        program: buffers, constants and the op.
        weights: the constants.
        work: multiply-adds (or elements) of one run.
        unit: what ``work`` counts.
    """

    title: str
    program: Program
    weights: bytes
    work: float
    unit: str


class Builder:
    """A program of one op."""

    def __init__(self) -> None:
        self.program = Program(max_positions=4096)
        self.weights = bytearray()

    def buffer(self, dtype: DType, channels: int, domain: Domain = Domain.TOKENS) -> int:
        """A buffer in a slot of its own."""
        self.program.buffers.append(Buffer(dtype, domain, channels, self.program.slots))
        return len(self.program.buffers) - 1

    def const(self, values: np.ndarray) -> int:
        """A constant, aligned."""
        data = np.ascontiguousarray(values).tobytes()
        self.program.consts.append(Const(len(self.weights), len(data)))
        self.weights += data + bytes(-len(data) % 64)
        return len(self.program.consts) - 1

    def case(self, title: str, op: Op, work: float, unit: str = "MAC") -> Case:
        """The finished case."""
        self.program.ops.append(op)
        return Case(title, self.program, bytes(self.weights), work, unit)


def linear_case(
    n: int,
    k: int,
    weight_format: WeightFormat,
    sparsity: float,
    tokens: int,
    out: DType,
    activation: Activation,
) -> Case:
    """A linear whose zeros come in the blocks the format is made for."""
    rng = np.random.default_rng(0)
    weights = rng.integers(1, 128, (n, k)).astype(np.int8)
    rows = BLOCK_ROWS[weight_format]
    columns = 4 if weight_format is WeightFormat.BLOCK_1X4 else 1
    density = 1.0 if weight_format is WeightFormat.DENSE_4 else 1.0 - sparsity
    keep = rng.random((n // rows, k // columns)) < density
    weights = (weights * keep.repeat(rows, axis=0).repeat(columns, axis=1)).astype(np.int8)
    packed = pack_linear(weights, weight_format)
    builder = Builder()
    source, output = builder.buffer(DType.U8, k), builder.buffer(out, n)
    residual = builder.buffer(DType.F32, n) if out is DType.F32 else ABSENT
    arrays = {part: builder.const(packed[part]) for part in ("rows", "offsets", "columns", "weights")}
    op = Linear(
        "linear", source, ABSENT, residual, output, **arrays,
        scale=builder.const(np.full(n, 1e-5, np.float32)), bias=builder.const(np.zeros(n, np.float32)),
        correction=builder.const(np.zeros(n, np.int32)), k=k, n=n, groups=len(packed["offsets"]) - 1,
        format=weight_format, activation=activation, zero_point=0, lo=0, hi=255, inv_scale=1.0,
    )  # fmt: skip
    title = f"linear {n}x{k} {weight_format.name.lower()} {100 * (1 - density):.0f}%"
    title += "" if activation is Activation.NONE else f" {activation.name.lower()}"
    return builder.case(title + f" -> {out.name}", op, float(np.count_nonzero(weights)) * tokens)


def linear_cases(tokens: int, sparsity: float) -> Iterator[Case]:
    """Every format at the three shapes of a layer."""
    for weight_format in WeightFormat:
        for n, k, out, activation in (
            (HIDDEN, HIDDEN, DType.U8, Activation.NONE),
            (INTERMEDIATE, HIDDEN, DType.U8, Activation.GELU),
            (HIDDEN, INTERMEDIATE, DType.F32, Activation.NONE),
        ):
            yield linear_case(n, k, weight_format, sparsity, tokens, out, activation)


def other_cases(tokens: int) -> Iterator[Case]:
    """Everything that is not a linear."""
    builder = Builder()
    query, output = builder.buffer(DType.U8, HIDDEN), builder.buffer(DType.U8, HIDDEN)
    key, value = builder.buffer(DType.S8, HIDDEN), builder.buffer(DType.S8, HIDDEN)
    op: Op = Attention("attention", query, key, value, output, HEADS, HIDDEN // HEADS, 128, 128, 1e-4, 1.0)
    yield builder.case("attention 12x64", op, 2.0 * tokens * tokens * HIDDEN)

    builder = Builder()
    hidden, narrow = builder.buffer(DType.F32, HIDDEN), builder.buffer(DType.U8, HIDDEN)
    ones = builder.const(np.ones(HIDDEN, np.float32))
    op = LayerNorm("norm", hidden, hidden, narrow, ones, ones, HIDDEN, 128, 1e-12, 30.0)
    yield builder.case("layer_norm", op, float(tokens * HIDDEN), "element")

    builder = Builder()
    hidden, narrow = builder.buffer(DType.F32, HIDDEN), builder.buffer(DType.U8, HIDDEN)
    op = Quantize("quantize", hidden, narrow, HIDDEN, 128, 30.0)
    yield builder.case("quantize", op, float(tokens * HIDDEN), "element")

    builder = Builder()
    hidden, narrow = builder.buffer(DType.F32, HIDDEN), builder.buffer(DType.U8, HIDDEN)
    op = QuantizeDynamic("quantize", hidden, narrow, builder.buffer(DType.F32, 2), HIDDEN)
    yield builder.case("quantize_dynamic", op, float(tokens * HIDDEN), "element")

    builder = Builder()
    table, scale = builder.const(np.ones((4096, HIDDEN), np.int8)), builder.const(np.ones(4096, np.float32))
    hidden = builder.buffer(DType.F32, HIDDEN)
    op = Embed("embed", hidden, *(table, scale) * 3, 4096, 4096, 4096, HIDDEN)
    yield builder.case("embed", op, float(tokens * HIDDEN), "element")

    builder = Builder()
    hidden, pooled = builder.buffer(DType.F32, HIDDEN), builder.buffer(DType.F32, HIDDEN, Domain.SEQUENCES)
    yield builder.case(
        "mean_pool", MeanPool("pool", hidden, pooled, HIDDEN), float(tokens * HIDDEN), "element"
    )


def measure(
    case: Case, library: Library, implementation: str, threads: int, tokens: int, seconds: float
) -> float:
    """Least nanoseconds of one run."""
    rng = np.random.default_rng(1)
    padded = -(-tokens // 16) * 16
    arrays: List[Optional[np.ndarray]] = []
    for buffer in case.program.buffers:
        array = aligned_empty(padded * buffer.channels * buffer.dtype.bytes, np.uint8)
        if buffer.dtype is DType.F32:
            array.view(np.float32)[:] = rng.normal(0, 1, array.size // 4)
        else:
            array[:] = rng.integers(0, 256, array.size)
        arrays.append(array)
    at = np.arange(tokens, dtype=np.int32)
    batch = PackedBatch(np.array([0, tokens], np.int32), at, at, at)
    model: NativeModel
    with library.open(
        case.program.to_bytes(), case.weights, threads=threads, implementation=implementation
    ) as model:
        once = model.run_op(0, batch, arrays)
        repeats = max(1, int(3e5 / max(once, 1.0)))
        rounds = max(3, int(seconds * 1e9 / (repeats * max(once, 1.0))))
        return min(model.run_op(0, batch, arrays, repeats) for _ in range(min(rounds, 2000)))


def measure_peak(implementation: str) -> float:
    """Multiply-adds per nanosecond of one thread that does nothing else; 0 where none is known."""
    if implementation not in PEAKS:
        return 0.0
    flags, instruction, vector, work = PEAKS[implementation]
    tools = toolchain(plans()["x86_avx"].triple)
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "peak.c"), Path(folder, "peak.so")
        source.write_text(PEAK_SOURCE)
        defines = (f"-DVECTOR={vector}", f'-DINSTRUCTION="{instruction}"')
        command = [*tools.link, "-shared", "-fPIC", "-O2", *flags, *defines, str(source), "-o", str(library)]
        subprocess.run(command, check=True, env={**os.environ, "ZIG_LOCAL_CACHE_DIR": folder})
        peak: Callable[[int], None] = ctypes.CDLL(str(library)).peak
        rounds = 100_000
        best = min(_seconds(lambda: peak(ctypes.c_long(rounds))) for _ in range(200))  # type: ignore[arg-type]
    return rounds * 12 * work / best / 1e9


def _seconds(function: Callable[[], None]) -> float:
    import time

    before = time.perf_counter()
    function()
    return time.perf_counter() - before


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Print the table."""
    library = Library(library_path(get_target("x86")))
    names = library.implementations()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--implementation", action="append", choices=names)
    parser.add_argument("--tokens", type=int, default=128, help="of one sequence")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sparsity", type=float, default=0.8)
    parser.add_argument("--seconds", type=float, default=0.2, help="per measurement")
    parser.add_argument("--only", default="", help="part of a case's title")
    options = parser.parse_args(arguments)
    chosen = options.implementation or [name for name in names if name != "scalar"]
    peaks: Dict[str, float] = {name: measure_peak(name) * options.threads for name in chosen}
    for name, peak in peaks.items():
        print(f"{name}: multiply-add peak {peak:.0f} GMAC/s on {options.threads} threads" if peak else name)
    title = f"op, {options.tokens} tokens"
    print(f"{title:48} {'implementation':15} {'us':>9} {'rate':>14} {'of peak':>8}")
    for case in (*linear_cases(options.tokens, options.sparsity), *other_cases(options.tokens)):
        if options.only not in case.title:
            continue
        for name in chosen:
            ns = measure(case, library, name, options.threads, options.tokens, options.seconds)
            rate = case.work / ns
            unit = "GMAC/s" if case.unit == "MAC" else "G/s"
            part = f"{100 * rate / peaks[name]:6.0f} %" if case.unit == "MAC" and peaks[name] else ""
            print(f"{case.title:48} {name:15} {ns / 1000:9.1f} {rate:8.1f} {unit:5} {part:>8}")


if __name__ == "__main__":
    main()
