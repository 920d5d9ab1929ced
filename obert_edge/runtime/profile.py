"""Where the time of a run goes, op by op."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Dict, List, Sequence

from obert_edge.bundle.program import Attention, Domain, Linear, Op, Program, WeightFormat
from obert_edge.runtime.text_table import milliseconds, text_table


@dataclass(frozen=True)
class OpTime:
    """One op of the program.

    Args:
        name: of the op.
        kind: of the op, with the weight format of a linear.
        ms: milliseconds per run.
        share: of the whole run, 0..1.
        multiply_adds: per run, of the weights that are stored (zeros left out are not counted).
        gmacs: 10^9 multiply-adds per second.
    """

    name: str
    kind: str
    ms: float
    share: float
    multiply_adds: int
    gmacs: float


@dataclass(frozen=True)
class Profile:
    """Times of all ops, in the order they run."""

    ops: List[OpTime]
    runs: int

    @classmethod
    def from_nanoseconds(
        cls, program: Program, nanoseconds: Sequence[int], runs: int, lengths: Sequence[int]
    ) -> Profile:
        """Attribute measured times.

        Args:
            program: the compiled graph.
            nanoseconds: per op, summed over the runs.
            runs: how many.
            lengths: tokens of each sequence of the batch that ran.
        """
        total = max(1, sum(nanoseconds))
        ops = []
        for op, time in zip(program.ops, nanoseconds):
            work = _multiply_adds(program, op, lengths)
            ms = time / max(1, runs) / 1e6
            gmacs = work / (ms * 1e6) if ms > 0 else 0.0
            ops.append(OpTime(op.name, _kind(op), ms, time / total, work, gmacs))
        return cls(ops, runs)

    @property
    def ms(self) -> float:
        """Milliseconds of all ops together, per run."""
        return sum(op.ms for op in self.ops)

    def to_dict(self) -> Dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)

    def to_text(self, *, plain: bool = False) -> str:
        """Time per kind of op, then every op that takes at least 1 %."""
        kinds: Dict[str, List[OpTime]] = {}
        for op in self.ops:
            kinds.setdefault(op.kind, []).append(op)
        summed = [
            OpTime(
                f"{kind} x{len(ops)}",
                kind,
                sum(op.ms for op in ops),
                sum(op.share for op in ops),
                sum(op.multiply_adds for op in ops),
                sum(op.multiply_adds for op in ops) / max(1e-9, sum(op.ms for op in ops) * 1e6),
            )
            for kind, ops in kinds.items()
        ]
        by_kind = sorted(summed, key=lambda op: -op.ms)
        large = [op for op in self.ops if op.share >= 0.01]
        return (
            f"{milliseconds(self.ms)} ms in {len(self.ops)} ops, mean of {self.runs} runs\n\n"
            + _table("kind", by_kind, plain)
            + "\n\n"
            + _table("op (1 % or more)", large, plain)
        )


def _table(title: str, ops: Sequence[OpTime], plain: bool) -> str:
    rows = [
        [
            op.name,
            op.kind,
            milliseconds(op.ms),
            f"{100 * op.share:.1f} %",
            f"{op.multiply_adds / 1e6:.2f} M" if op.multiply_adds else "",
            f"{op.gmacs:.1f}" if op.multiply_adds else "",
        ]
        for op in ops
    ]
    return text_table([title, "kernel", "ms", "share", "multiply-adds", "GMAC/s"], rows, plain=plain)


def _kind(op: Op) -> str:
    if isinstance(op, Linear):
        return f"Linear {WeightFormat(op.format).name.lower()}"
    return type(op).__name__


def _multiply_adds(program: Program, op: Op, lengths: Sequence[int]) -> int:
    if isinstance(op, Linear):
        per_token = program.buffers[op.output].domain is Domain.TOKENS
        columns = sum(lengths) if per_token else len(lengths)
        return program.consts[op.weights].bytes * columns
    if isinstance(op, Attention):
        # scores and context: two products of length x length x channels
        return sum(2 * length * length * op.heads * op.head_dim for length in lengths)
    return 0
