"""How fast a bundle should be, without running it: the roofline at its target's measured numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence, Tuple

from obert_edge.bundle.manifest import LinearFacts, Manifest
from obert_edge.bundle.program import Attention, Linear, Op, Program
from obert_edge.device.roofline.bound import bound_of
from obert_edge.device.roofline.peaks import Peaks
from obert_edge.device.roofline.work import work_of

#: Prefix of the keys of the manifest's ``reference`` that say, by kind of op, which part of its bound it
#: reached.
REACHED = "reached_"
#: A layer with a smaller share of zeros than this was never meant to be sparse.
_LEAST_SPARSITY = 0.05
#: A smaller speed-up than this cannot be told from none.
_LEAST_SPEEDUP = 1.1


@dataclass(frozen=True)
class LinearEstimate:
    """The estimated time of one linear, in nanoseconds of one thread for the length asked about.

    Args:
        name: of the layer.
        nanoseconds: of the layer as the bundle stores it.
        dense_int8: nanoseconds if its zeros were stored too, on the same engine.
        dense_fp32: nanoseconds in float32 at the machine's multiply-add peak.
        warning: why it gains nothing; empty when it does.
        cause: the warning without its numbers.
        sparsity: share of its weights that are zero, 0..1.
    """

    name: str
    nanoseconds: float
    dense_int8: float
    dense_fp32: float
    warning: str = ""
    cause: str = ""
    sparsity: float = 0.0


@dataclass(frozen=True)
class Estimate:
    """The estimated time of one sequence on one thread of the target's reference machine.

    Args:
        sequence_length: tokens of the sequence.
        ms: milliseconds of the bundle.
        dense_int8_ms: milliseconds if every linear were stored dense, on the same engine.
        dense_fp32_ms: milliseconds with float32 products at the multiply-add peak and all else as in the
            bundle; no float32 engine is faster.
        kinds: milliseconds by kind of op.
        linears: the linears that run on every token.
    """

    sequence_length: int
    ms: float
    dense_int8_ms: float
    dense_fp32_ms: float
    kinds: Dict[str, float]
    linears: List[LinearEstimate]

    @property
    def over_dense_int8(self) -> float:
        """Times faster than the same model stored dense."""
        return self.dense_int8_ms / self.ms

    @property
    def over_dense_fp32(self) -> float:
        """Times faster than a float32 engine can be at the very best."""
        return self.dense_fp32_ms / self.ms

    @property
    def warnings(self) -> List[str]:
        """What a user should know before relying on this bundle's speed, one sentence each.

        Linears of one cause share a sentence, with how many they are; each has its own in ``linears``.
        """
        causes: Dict[str, List[LinearEstimate]] = {}
        for linear in self.linears:
            if linear.warning:
                causes.setdefault(linear.cause, []).append(linear)
        lines = []
        for cause, linears in causes.items():
            first = linears[0]
            if len(linears) == 1:
                lines.append(f"{first.name}: {first.warning}")
            else:
                lines.append(f"{len(linears)} linears {cause}, such as {first.name}: {first.warning}")
        is_pruned = any(linear.sparsity >= _LEAST_SPARSITY for linear in self.linears)
        if is_pruned and self.over_dense_int8 < _LEAST_SPEEDUP:
            lines.append(
                f"the whole model is estimated to be {self.over_dense_int8:.2f}x as fast as stored dense: "
                "sparsity gains nothing here; prune more, in 4x1 blocks"
            )
        return lines


def estimate(program: Program, manifest: Manifest, sequence_length: int = 128) -> Optional[Estimate]:
    """Estimate a bundle's time from the numbers its target was measured with.

    Args:
        program: the compiled graph.
        manifest: of the same bundle.
        sequence_length: tokens of the one sequence; cut to what the model takes.

    Returns:
        The estimate; ``None`` when the bundle does not carry the numbers.
    """
    peaks = Peaks.from_dict(manifest.reference)
    if peaks is None:
        return None
    facts = {linear.name: linear for linear in manifest.linears}
    lengths = [min(sequence_length, program.max_positions)]
    ours = dense_int8 = dense_fp32 = 0.0
    kinds: Dict[str, float] = {}
    linears: List[LinearEstimate] = []
    for op in program.ops:
        time = _nanoseconds(program, op, lengths, peaks, manifest.reference)
        int8 = fp32 = time
        if isinstance(op, Linear) and op.name in facts:
            fact = facts[op.name]
            linear = _linear(fact, time, lengths, peaks)
            int8, fp32 = linear.dense_int8, linear.dense_fp32
            if fact.per_token:
                linears.append(linear)
        elif isinstance(op, Attention):
            fp32 = work_of(program, op, lengths).multiply_adds / peaks.float_multiply_add
        kinds[type(op).__name__] = kinds.get(type(op).__name__, 0.0) + time / 1e6
        ours, dense_int8, dense_fp32 = ours + time, dense_int8 + int8, dense_fp32 + fp32
    return Estimate(lengths[0], ours / 1e6, dense_int8 / 1e6, dense_fp32 / 1e6, kinds, linears)


def _nanoseconds(
    program: Program, op: Op, lengths: Sequence[int], peaks: Peaks, reference: Dict[str, float]
) -> float:
    bound = bound_of(work_of(program, op, lengths), peaks).nanoseconds
    return bound / reference.get(f"{REACHED}{type(op).__name__}", 1.0)


def _linear(fact: LinearFacts, time: float, lengths: Sequence[int], peaks: Peaks) -> LinearEstimate:
    tokens = sum(lengths) if fact.per_token else len(lengths)
    # The packer's costs are nanoseconds of a full panel in L2; only their ratio holds for other lengths.
    int8 = time * fact.dense_cost / fact.cost if fact.cost > 0 else time
    fp32 = fact.n * fact.k * tokens / peaks.float_multiply_add
    return LinearEstimate(fact.name, time, int8, fp32, *_warning(fact), fact.sparsity)


def _warning(fact: LinearFacts) -> Tuple[str, str]:
    """Why a linear gains nothing, and its cause; empty where it gains."""
    if not fact.per_token or fact.sparsity < _LEAST_SPARSITY or fact.cost <= 0:
        return "", ""
    zeros = f"{100 * fact.sparsity:.0f} % sparse"
    if fact.sparse_format and fact.sparse_cost > fact.cost:
        times = fact.sparse_cost / fact.cost
        name = fact.sparse_format.lower()
        return (
            f"{zeros}: dense is faster ({name}, its best sparse format, would take {times:.2f}x as long)",
            "are faster dense",
        )
    gain = fact.dense_cost / fact.cost
    if gain >= _LEAST_SPEEDUP:
        return "", ""
    return f"{zeros}: only {gain:.2f}x as fast as dense", "gain next to nothing"
