"""Where the time of a run goes, op by op, and how much of the machine each op uses."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence

import numpy as np

from obert_edge.bundle.program import Linear, Op, Program, WeightFormat
from obert_edge.device.roofline.bound import bound_of
from obert_edge.device.roofline.peaks import Peaks
from obert_edge.device.roofline.work import work_of
from obert_edge.device.text_table import milliseconds, text_table


@dataclass(frozen=True)
class OpTime:
    """One op of the program.

    Args:
        name: name of the op.
        kind: its kind, with the weight format of a linear.
        ms: milliseconds of a run, the median of all runs.
        least_ms: milliseconds of the fastest run.
        share: its part of the time of the whole run, 0..1.
        multiply_adds: per run, of the weights that are stored (zeros left out are not counted), padding lanes
            included.
        gmacs: 10^9 multiply-adds per second in the fastest run.
        bytes_moved: per run, between the first-level cache and what is behind it (``Work.moved``).
        bound: the kind of work that bounds its time (docs/reference/roofline.md); empty without peaks.
        bound_ms: milliseconds it would take at the machine's peaks.
        reached: share of the bound that the fastest run reached, ``bound_ms / least_ms``.
    """

    name: str
    kind: str
    ms: float
    least_ms: float
    share: float
    multiply_adds: int
    gmacs: float
    bytes_moved: int
    bound: str = ""
    bound_ms: float = 0.0
    reached: float = 0.0


@dataclass(frozen=True)
class Profile:
    """Times of all ops, in the order they run.

    Args:
        ops: the ops, one by one.
        runs: how many runs were measured.
        peaks: of the machine, for as many threads as ran; ``None`` where they are not known.
    """

    ops: List[OpTime]
    runs: int
    peaks: Optional[Peaks] = None

    @classmethod
    def from_nanoseconds(
        cls,
        program: Program,
        nanoseconds: Sequence[Sequence[int]],
        lengths: Sequence[int],
        peaks: Optional[Peaks] = None,
    ) -> Profile:
        """Make a profile of measured times.

        Args:
            program: the compiled graph.
            nanoseconds: of each op in each run, [runs][ops].
            lengths: tokens of each sequence of the batch that ran.
            peaks: of the machine, for as many threads as ran.
        """
        times = np.asarray(nanoseconds, np.float64) / 1e6
        medians, least = np.median(times, axis=0), times.min(axis=0)
        total = float(medians.sum()) or 1.0
        ops = []
        for op, ms, best in zip(program.ops, medians.tolist(), least.tolist()):
            work = work_of(program, op, lengths)
            bound = bound_of(work, peaks) if peaks else None
            ops.append(
                _rated(
                    OpTime(
                        name=op.name,
                        kind=_kind(op),
                        ms=ms,
                        least_ms=best,
                        share=ms / total,
                        multiply_adds=round(work.multiply_adds),
                        gmacs=0.0,
                        bytes_moved=round(work.moved),
                        bound=bound.by if bound else "",
                        bound_ms=bound.nanoseconds / 1e6 if bound else 0.0,
                    )
                )
            )
        return cls(ops, len(times), peaks)

    @property
    def ms(self) -> float:
        """Milliseconds of all ops together, per run."""
        return sum(op.ms for op in self.ops)

    def kinds(self) -> List[OpTime]:
        """The ops of each kind as one, the slowest first."""
        kinds: Dict[str, List[OpTime]] = {}
        for op in self.ops:
            kinds.setdefault(op.kind, []).append(op)
        return sorted((_sum(kind, ops) for kind, ops in kinds.items()), key=lambda op: -op.ms)

    def to_dict(self) -> Dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)

    def to_text(self, *, plain: bool = False) -> str:
        """Time per kind of op, then every op that takes at least 1 %, then the peaks."""
        large = [op for op in self.ops if op.share >= 0.01]
        lines = [
            f"{milliseconds(self.ms)} ms in {len(self.ops)} ops, medians of {self.runs} runs; GMAC/s and "
            "shares of the bound are those of each op's fastest run",
            "",
            _table("kind", self.kinds(), plain),
            "",
            _table("op (1 % or more)", large, plain),
        ]
        if self.peaks is not None:
            rates = {name: rate for name, rate in self.peaks.to_dict().items() if rate}
            shown = ", ".join(f"{name.replace('_', ' ')} {rate:.0f}" for name, rate in rates.items())
            lines += ["", f"peaks measured now, all threads, units/ns: {shown}"]
        return "\n".join(lines)


def _rated(op: OpTime) -> OpTime:
    """The same with its rates filled in."""
    least = op.least_ms
    gmacs = op.multiply_adds / (least * 1e6) if least > 0 else 0.0
    return dataclasses.replace(op, gmacs=gmacs, reached=op.bound_ms / least if least > 0 else 0.0)


def _sum(kind: str, ops: Sequence[OpTime]) -> OpTime:
    """All ops of a kind as one, bound by what bounds the largest part of their time."""
    bounds: Dict[str, float] = {}
    for op in ops:
        bounds[op.bound] = bounds.get(op.bound, 0.0) + op.bound_ms
    return _rated(
        OpTime(
            name=f"{kind} x{len(ops)}",
            kind=kind,
            ms=sum(op.ms for op in ops),
            least_ms=sum(op.least_ms for op in ops),
            share=sum(op.share for op in ops),
            multiply_adds=sum(op.multiply_adds for op in ops),
            gmacs=0.0,
            bytes_moved=sum(op.bytes_moved for op in ops),
            bound=max(bounds, key=lambda name: bounds[name]),
            bound_ms=sum(op.bound_ms for op in ops),
        )
    )


def _table(title: str, ops: Sequence[OpTime], plain: bool) -> str:
    rows = [
        [
            op.name,
            op.kind,
            milliseconds(op.ms),
            milliseconds(op.least_ms),
            f"{100 * op.share:.1f} %",
            f"{op.multiply_adds / 1e6:.2f} M" if op.multiply_adds else "",
            f"{op.gmacs:.1f}" if op.multiply_adds else "",
            f"{op.bytes_moved / 1e6:.2f} MB" if op.bytes_moved else "",
            op.bound,
            f"{100 * op.reached:.0f} %" if op.bound else "",
        ]
        for op in ops
    ]
    headers = [
        title,
        "kernel",
        "ms",
        "fastest",
        "share",
        "multiply-adds",
        "GMAC/s",
        "moved",
        "bound by",
        "of bound",
    ]
    return text_table(headers, rows, plain=plain)


def _kind(op: Op) -> str:
    if isinstance(op, Linear):
        return f"Linear {WeightFormat(op.format).name.lower()}"
    return type(op).__name__
