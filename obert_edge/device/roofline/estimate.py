"""How fast a bundle should be, without running it: the model of the limit at its target's stored numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence

from obert_edge.bundle.manifest import LinearFacts, Manifest
from obert_edge.bundle.program import Attention, Linear, Op, Program
from obert_edge.device.roofline.peaks import Peaks
from obert_edge.device.roofline.work import bound_of, work_of

#: Of the manifest's ``reference``: the part of its bound that an op of a kind reached.
REACHED = "reached_"
#: A layer with fewer zeros than this was never meant to be sparse.
_MEANT = 0.05
#: Below this a layer is as fast as a dense one, for all that can be told.
_GAIN = 1.1


@dataclass(frozen=True)
class LinearPrediction:
    """One linear, in nanoseconds of one thread for the predicted length.

    Args:
        name: of the layer.
        nanoseconds: as it is stored.
        dense_int8: stored with its zeros, on the same engine.
        dense_fp32: in float32 at the machine's multiply-add peak.
        warning: why it gains nothing, or empty.
    """

    name: str
    nanoseconds: float
    dense_int8: float
    dense_fp32: float
    warning: str = ""


@dataclass(frozen=True)
class Prediction:
    """A whole run of one sequence on one thread of the target's reference machine, in milliseconds.

    Args:
        sequence_length: tokens.
        ms: ours.
        dense_int8_ms: ours, were every linear stored dense.
        dense_fp32_ms: float32 products at the multiply-add peak, the rest as ours: no engine is faster.
        kinds: milliseconds by kind of op.
        linears: those that run on every token.
    """

    sequence_length: int
    ms: float
    dense_int8_ms: float
    dense_fp32_ms: float
    kinds: Dict[str, float]
    linears: List[LinearPrediction]

    @property
    def over_dense_int8(self) -> float:
        """Times faster than the same model stored dense."""
        return self.dense_int8_ms / self.ms

    @property
    def over_dense_fp32(self) -> float:
        """Times faster than any float32 engine can be, at most."""
        return self.dense_fp32_ms / self.ms

    @property
    def warnings(self) -> List[str]:
        """What should be known before this bundle is used."""
        lines = [f"{linear.name}: {linear.warning}" for linear in self.linears if linear.warning]
        if self.over_dense_int8 < _GAIN:
            lines.append(
                f"the whole model is predicted {self.over_dense_int8:.2f}x as fast as stored dense: sparsity "
                "gains nothing here; prune more, in 4x1 blocks"
            )
        return lines


def predict(program: Program, manifest: Manifest, sequence_length: int = 128) -> Optional[Prediction]:
    """Predict from the numbers the bundle's target was measured with.

    Args:
        program: the compiled graph.
        manifest: of the same bundle.
        sequence_length: tokens of the one sequence.

    Returns:
        The prediction; ``None`` when the bundle does not carry the numbers.
    """
    peaks = Peaks.from_dict(manifest.reference)
    if peaks is None:
        return None
    facts = {linear.name: linear for linear in manifest.linears}
    lengths = [min(sequence_length, program.max_positions)]
    ours = dense_int8 = dense_fp32 = 0.0
    kinds: Dict[str, float] = {}
    linears: List[LinearPrediction] = []
    for op in program.ops:
        time = _nanoseconds(program, op, lengths, peaks, manifest.reference)
        int8 = fp32 = time
        if isinstance(op, Linear) and op.name in facts:
            fact = facts[op.name]
            found = _linear(fact, time, lengths, peaks)
            int8, fp32 = found.dense_int8, found.dense_fp32
            if fact.per_token:
                linears.append(found)
        elif isinstance(op, Attention):
            fp32 = work_of(program, op, lengths).multiply_adds / peaks.float_multiply_add
        kinds[type(op).__name__] = kinds.get(type(op).__name__, 0.0) + time / 1e6
        ours, dense_int8, dense_fp32 = ours + time, dense_int8 + int8, dense_fp32 + fp32
    return Prediction(lengths[0], ours / 1e6, dense_int8 / 1e6, dense_fp32 / 1e6, kinds, linears)


def _nanoseconds(
    program: Program, op: Op, lengths: Sequence[int], peaks: Peaks, reference: Dict[str, float]
) -> float:
    bound = bound_of(work_of(program, op, lengths), peaks).nanoseconds
    return bound / reference.get(f"{REACHED}{type(op).__name__}", 1.0)


def _linear(fact: LinearFacts, time: float, lengths: Sequence[int], peaks: Peaks) -> LinearPrediction:
    columns = sum(lengths) if fact.per_token else len(lengths)
    # The packer's costs are nanoseconds too, of a full panel in L2; their ratio is what is wanted of them.
    int8 = time * fact.dense_cost / fact.cost if fact.cost > 0 else time
    fp32 = fact.n * fact.k * columns / peaks.float_multiply_add
    return LinearPrediction(fact.name, time, int8, fp32, _warning(fact))


def _warning(fact: LinearFacts) -> str:
    if not fact.per_token or fact.sparsity < _MEANT or fact.cost <= 0:
        return ""
    zeros = f"{100 * fact.sparsity:.0f} % sparse"
    if fact.sparse_format and fact.sparse_cost > fact.cost:
        times = fact.sparse_cost / fact.cost
        name = fact.sparse_format.lower()
        return f"{zeros}: dense is faster ({name}, its best sparse format, would take {times:.2f}x as long)"
    gain = fact.dense_cost / fact.cost
    return f"{zeros}: only {gain:.2f}x as fast as dense" if gain < _GAIN else ""
