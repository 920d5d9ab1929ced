"""Time every kernel of every implementation this CPU can run, at the shapes of a BERT-base layer.

    python -m tools.bench.kernels --tokens 128 --threads 1 --sparsity 0.8
    python -m tools.bench.kernels --tokens 16 128 384 --output docs/results/kernels.md
    python -m tools.bench.kernels --only "768x768 row_gather_4" --implementation avx2      # one kernel

Linears and attention are given as GMAC/s on the weights that are not zero, as a fraction of the multiply-add
peak, and as a fraction of their bound (docs/reference/roofline.md); peaks and bounds are measured in the same
run. Times are the least of several rounds: one machine's, and noisy on a shared one.

Needs: a quiet machine.
Takes: about half a minute for each number of tokens.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from obert_edge.bundle.ops import Multiply, Rotate
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
    SelectFirst,
    WeightFormat,
)
from obert_edge.device.roofline.bound import bound_of
from obert_edge.device.roofline.measure import measure_peaks
from obert_edge.device.roofline.peaks import Peaks
from obert_edge.device.roofline.work import work_of
from obert_edge.device.runtime import machine
from obert_edge.device.runtime.native import Library, NativeModel, PackedBatch, aligned_empty
from obert_edge.device.text_table import text_table
from obert_edge.files import atomic_file
from obert_edge.targets import get_target, library_path
from tools import command_line
from tools.markdown import table

HIDDEN, INTERMEDIATE, HEADS = 768, 3072, 12


@dataclass(frozen=True)
class Case:
    """One op to time.

    Args:
        title: the name of the case: op, shape, format, sparsity, tokens.
        program: a program of one op, with its buffers and constants.
        weights: the bytes of the constants.
        work: multiply-adds (or elements) of one run.
        unit: what ``work`` counts, ``MAC`` or ``element``.
    """

    title: str
    program: Program
    weights: bytes
    work: float
    unit: str


class Builder:
    """Collects the buffers and constants of a program of one op."""

    def __init__(self) -> None:
        self.program = Program(max_positions=4096)
        self.weights = bytearray()

    def buffer(self, dtype: DType, channels: int, domain: Domain = Domain.TOKENS) -> int:
        """Add a buffer in a slot of its own; return its index."""
        self.program.buffers.append(Buffer(dtype, domain, channels, self.program.slots))
        return len(self.program.buffers) - 1

    def const(self, values: np.ndarray) -> int:
        """Add a constant, padded so that the next one begins at a multiple of 64 bytes; return its index."""
        data = np.ascontiguousarray(values).tobytes()
        self.program.consts.append(Const(len(self.weights), len(data)))
        self.weights += data + bytes(-len(data) % 64)
        return len(self.program.consts) - 1

    def case(self, title: str, op: Op, work: float, unit: str = "MAC") -> Case:
        """Add the op and return the case."""
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
    # Values are spread as in a trained matrix, and only the pattern makes zeros.
    weights = np.clip(np.rint(rng.normal(0, 32, (n, k))), -127, 127)
    weights[weights == 0] = 1
    rows, columns = weight_format.rows, weight_format.block
    density = 1.0 - sparsity if weight_format.is_sparse else 1.0
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
    title = f"linear {n}x{k} {weight_format.name.lower()} {100 * (1 - density):.0f}%, {tokens} tokens"
    title += "" if activation is Activation.NONE else f" {activation.name.lower()}"
    return builder.case(title + f" -> {out.name}", op, float(np.count_nonzero(weights)) * tokens)


def linear_cases(tokens: int, sparsity: float) -> Iterator[Case]:
    """The linears of every format, at the three shapes of a layer."""
    for weight_format in WeightFormat:
        for n, k, out, activation in (
            (HIDDEN, HIDDEN, DType.U8, Activation.NONE),
            (INTERMEDIATE, HIDDEN, DType.U8, Activation.GELU),
            (HIDDEN, INTERMEDIATE, DType.F32, Activation.NONE),
        ):
            yield linear_case(n, k, weight_format, sparsity, tokens, out, activation)


def other_cases(tokens: int) -> Iterator[Case]:
    """The ops that are not linears."""
    builder = Builder()
    query, output = builder.buffer(DType.U8, HIDDEN), builder.buffer(DType.U8, HIDDEN)
    key, value = builder.buffer(DType.S8, HIDDEN), builder.buffer(DType.S8, HIDDEN)
    op: Op = Attention("attention", query, key, value, output, HEADS, HIDDEN // HEADS, 128, 128, 1e-4, 1.0)
    yield builder.case(f"attention 12x64, {tokens} tokens", op, 2.0 * tokens * tokens * HIDDEN)

    builder = Builder()
    query, output = builder.buffer(DType.U8, HIDDEN), builder.buffer(DType.U8, HIDDEN)
    key, value = builder.buffer(DType.S8, HIDDEN), builder.buffer(DType.S8, HIDDEN)
    bias = builder.const(np.ones((HEADS, 255), np.float32))
    op = dataclasses.replace(op, bias=bias, distances=128)
    yield builder.case(f"attention 12x64 with bias, {tokens} tokens", op, 2.0 * tokens * tokens * HIDDEN)

    builder = Builder()
    query, output = builder.buffer(DType.U8, HIDDEN), builder.buffer(DType.U8, HIDDEN)
    key, value = builder.buffer(DType.S8, HIDDEN), builder.buffer(DType.S8, HIDDEN)
    rows = 2 * tokens - 1
    table = builder.const(np.ones((HEADS, HIDDEN // HEADS // 4, rows, 4), np.int8))
    scales = builder.const(np.full((HEADS, rows), 1e-4, np.float32))
    op = dataclasses.replace(
        op,
        bias=ABSENT,
        distances=tokens,
        positions=rows,
        row_of_distance=builder.const(np.arange(rows, dtype=np.uint16)[::-1]),
        position_key=table,
        position_query=table,
        position_key_scale=scales,
        position_query_scale=scales,
    )
    yield builder.case(f"attention 12x64 with positions, {tokens} tokens", op, 4.0 * tokens * tokens * HIDDEN)

    builder = Builder()
    hidden, narrow = builder.buffer(DType.F32, HIDDEN), builder.buffer(DType.U8, HIDDEN)
    ones = builder.const(np.ones(HIDDEN, np.float32))
    op = LayerNorm("norm", hidden, hidden, narrow, ones, ones, HIDDEN, 128, 1e-12, 30.0)
    yield builder.case(f"layer_norm, {tokens} tokens", op, float(tokens * HIDDEN), "element")

    builder = Builder()
    hidden, narrow = builder.buffer(DType.F32, HIDDEN), builder.buffer(DType.U8, HIDDEN)
    op = Quantize("quantize", hidden, narrow, HIDDEN, 128, 30.0)
    yield builder.case(f"quantize, {tokens} tokens", op, float(tokens * HIDDEN), "element")

    builder = Builder()
    hidden, narrow = builder.buffer(DType.F32, HIDDEN), builder.buffer(DType.U8, HIDDEN)
    op = QuantizeDynamic("quantize", hidden, narrow, builder.buffer(DType.F32, 2), HIDDEN)
    yield builder.case(f"quantize_dynamic, {tokens} tokens", op, float(tokens * HIDDEN), "element")

    builder = Builder()
    hidden, narrow = builder.buffer(DType.F32, HIDDEN), builder.buffer(DType.U8, HIDDEN)
    half = HIDDEN // HEADS // 2
    turn = builder.const(np.ones((4096, half), np.float32))
    op = Rotate("rotate", hidden, narrow, turn, turn, HEADS, 2 * half, 4096, 128, 0, 255, 30.0)
    yield builder.case(f"rotate, {tokens} tokens", op, float(tokens * HIDDEN), "element")

    builder = Builder()
    unit, gate = builder.buffer(DType.F32, HIDDEN), builder.buffer(DType.F32, HIDDEN)
    op = Multiply("multiply", unit, gate, builder.buffer(DType.U8, HIDDEN), HIDDEN, 128, 30.0)
    yield builder.case(f"multiply, {tokens} tokens", op, float(tokens * HIDDEN), "element")

    builder = Builder()
    rows, scale = builder.const(np.ones((4096, HIDDEN), np.int8)), builder.const(np.ones(4096, np.float32))
    hidden = builder.buffer(DType.F32, HIDDEN)
    op = Embed("embed", hidden, *(rows, scale) * 3, 4096, 4096, 4096, HIDDEN)
    yield builder.case(f"embed, {tokens} tokens", op, float(tokens * HIDDEN), "element")

    pools: Tuple[Tuple[str, Callable[..., Op], int], ...] = (
        ("mean_pool", MeanPool, tokens),
        ("select_first", SelectFirst, 1),
    )
    for title, make, columns in pools:
        builder = Builder()
        hidden, pooled = (
            builder.buffer(DType.F32, HIDDEN),
            builder.buffer(DType.F32, HIDDEN, Domain.SEQUENCES),
        )
        op = make("pool", hidden, pooled, HIDDEN)
        yield builder.case(f"{title}, {tokens} tokens", op, float(columns * HIDDEN), "element")


def cases(tokens: int, sparsity: float) -> Iterator[Case]:
    """Every kernel of an implementation."""
    yield from linear_cases(tokens, sparsity)
    yield from other_cases(tokens)


def buffers_of(case: Case, tokens: int) -> List[Optional[np.ndarray]]:
    """Random values for every buffer, with room for a whole number of stripes of 16 tokens."""
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
    return arrays


def batch_of(tokens: int) -> PackedBatch:
    """A batch of one sequence."""
    at = np.arange(tokens, dtype=np.int32)
    return PackedBatch(np.array([0, tokens], np.int32), at, at, at)


def measure(
    case: Case, library: Library, implementation: str, threads: int, tokens: int, seconds: float
) -> float:
    """The least nanoseconds that one run took, over at least three rounds and about ``seconds``."""
    arrays, batch = buffers_of(case, tokens), batch_of(tokens)
    model: NativeModel
    with library.open(
        case.program.to_bytes(), case.weights, threads=threads, implementation=implementation
    ) as model:
        once = model.run_op(0, batch, arrays)
        repeats = max(1, int(3e5 / max(once, 1.0)))
        rounds = max(3, int(seconds * 1e9 / (repeats * max(once, 1.0))))
        return min(model.run_op(0, batch, arrays, repeats) for _ in range(min(rounds, 2000)))


@dataclass(frozen=True)
class Row:
    """What was measured of one kernel of one implementation.

    Args:
        title: title of the case.
        implementation: name of the kernels that ran.
        microseconds: the least time of one run.
        rate: 10^9 multiply-adds (or elements) per second.
        unit: unit of the rate.
        of_peak: part of the multiply-add peak; ``None`` for ops without any, or where no peak is known.
        bound: the part of its bound that the op reached, and what that bound is (docs/reference/roofline.md);
            empty where no peak is known.
    """

    title: str
    implementation: str
    microseconds: float
    rate: float
    unit: str
    of_peak: Optional[float]
    bound: str

    def cells(self) -> List[str]:
        """The row as text, for a table."""
        peak = "" if self.of_peak is None else f"{100 * self.of_peak:.0f} %"
        return [
            self.title,
            self.implementation,
            f"{self.microseconds:.1f}",
            f"{self.rate:.1f} {self.unit}",
            peak,
            self.bound,
        ]


def rate(case: Case, name: str, nanoseconds: float, tokens: int, peaks: Optional[Peaks]) -> Row:
    """The rates and parts of peaks that a measured time means."""
    multiplies = case.unit == "MAC"
    found = case.work / nanoseconds
    of_peak = found / peaks.multiply_add if peaks and multiplies else None
    bound = ""
    if peaks:
        least = bound_of(work_of(case.program, case.program.ops[0], [tokens]), peaks)
        bound = f"{100 * least.nanoseconds / nanoseconds:.0f} % of {least.by}"
    unit = "GMAC/s" if multiplies else "G/s"
    return Row(case.title, name, nanoseconds / 1000, found, unit, of_peak, bound)


def best_peaks(
    known: Dict[str, Peaks], library: Library, names: Sequence[str], threads: int
) -> Dict[str, Peaks]:
    """Measure the peaks once more, and return the best rate of each kind so far."""
    best: Dict[str, Peaks] = {}
    for name in names:
        found = measure_peaks(library, name, threads)
        if found is not None:
            before = known[name].to_dict() if name in known else {}
            rates = {key: max(value, before.get(key, 0.0)) for key, value in found.to_dict().items()}
            merged = Peaks.from_dict(rates)
            assert merged is not None
            best[name] = merged
    return best


HEADERS = ["op", "implementation", "us", "rate", "of peak", "of bound"]


def markdown(rows: Sequence[Row], peaks: Dict[str, Peaks], options: argparse.Namespace, cpu: str) -> str:
    """The page for docs/results."""
    threads = f"{options.threads} thread{'s' * (options.threads != 1)}"
    tokens = " ".join(map(str, options.tokens))
    lines = [
        "# Kernels",
        "",
        f"    python -m tools.bench.kernels --tokens {tokens} --threads {options.threads} "
        f"--sparsity {options.sparsity:g}",
        "",
        f"{cpu}, {threads}; least times on data of one op.",
        "Rates count weights that are not zero; the bounds are those of the "
        "[roofline](../reference/roofline.md), with peaks measured in the same run.",
        "",
        "Peaks in units per ns:",
        "",
    ]
    known = {name: found.to_dict() for name, found in peaks.items()}
    if known:
        names = list(next(iter(known.values())))
        lines += table(
            ["implementation", *(name.replace("_", " ") for name in names)],
            [[name, *(f"{values[key]:.0f}" for key in names)] for name, values in known.items()],
        )
    return "\n".join([*lines, "", *table(HEADERS, [row.cells() for row in rows])]) + "\n"


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Measure, print the table and perhaps write the page."""
    parser = command_line.parser("tools.bench.kernels", __doc__)
    parser.add_argument(
        "--implementation",
        action="append",
        help="name of the kernels; may be given several times (default: all that run here, but for scalar)",
    )
    parser.add_argument(
        "--tokens", type=int, nargs="+", default=[128], help="of the one sequence (default: 128)"
    )
    parser.add_argument("--threads", type=int, default=1, help="(default: 1)")
    parser.add_argument("--sparsity", type=float, default=0.8, help="of the linears (default: 0.8)")
    parser.add_argument("--seconds", type=float, default=0.2, help="per measurement (default: 0.2)")
    parser.add_argument("--only", default="", help="measure only cases with this text in their title")
    parser.add_argument("--output", type=Path, help="also write a page, for instance docs/results/kernels.md")
    options = parser.parse_args(arguments)
    library = Library(library_path(get_target("x86")))
    names = library.implementations()
    chosen = options.implementation or [name for name in names if name != "scalar"]
    if not set(chosen) <= set(names):
        parser.error(f"{', '.join(set(chosen) - set(names))} does not run here; there are {', '.join(names)}")
    wanted = [
        (case, tokens)
        for tokens in options.tokens
        for case in cases(tokens, options.sparsity)
        if options.only in case.title
    ]
    peaks = best_peaks({}, library, chosen, options.threads)
    times: List[Tuple[Case, str, float, int]] = []
    for number, (case, tokens) in enumerate(wanted, start=1):
        for name in chosen:
            nanoseconds = measure(case, library, name, options.threads, tokens, options.seconds)
            times.append((case, name, nanoseconds, tokens))
        # Peaks are measured three times in all, since the CPU's clock may have been lower before.
        if number in (len(wanted), len(wanted) // 2):
            peaks = best_peaks(peaks, library, chosen, options.threads)
    rows = [
        rate(case, name, nanoseconds, tokens, peaks.get(name)) for case, name, nanoseconds, tokens in times
    ]
    print(text_table(HEADERS, [row.cells() for row in rows], plain=True))
    if options.output:
        with atomic_file(options.output) as path:
            path.write_text(markdown(rows, peaks, options, machine.cpu_model()))


if __name__ == "__main__":
    sys.exit(command_line.run(main))
