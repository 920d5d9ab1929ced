"""Static quantization parameters of every linear, for runtimes that need them where our engine does not.

LiteRT rounds the outputs of linears to 8 bits, where our engine keeps float, and a bundle with dynamic
activations has no static parameters at all. Those that the bundle lacks come from the ranges that values take
on its embedded test cases.
"""

from __future__ import annotations

from typing import Dict, Sequence, Tuple

import numpy as np

from obert_edge.bundle.cases import Case
from obert_edge.device.export.dense import Dense, DenseModel, QuantParams
from obert_edge.device.export.evaluate import Floats, evaluate

#: Parameters of the input and of the output of a linear, by the name of the value it writes.
LinearQuantParams = Dict[str, Tuple[QuantParams, QuantParams]]


def observe_qparams(model: DenseModel, cases: Sequence[Case]) -> LinearQuantParams:
    """Quantization parameters of every linear: the bundle's own, else those of the range seen on the cases.

    Args:
        model: the dense model of a bundle.
        cases: the bundle's embedded test cases.
    """
    inputs: Dict[str, Tuple[float, float]] = {}
    outputs: Dict[str, Tuple[float, float]] = {}

    def widen(ranges: Dict[str, Tuple[float, float]], key: str, x: Floats) -> None:
        low, high = ranges.get(key, (0.0, 0.0))
        ranges[key] = (min(low, float(x.min())), max(high, float(x.max())))

    def observe(op: Dense, x: Floats, y: Floats) -> None:
        widen(inputs, op.output, x)
        widen(outputs, op.output, y)

    for case in cases:
        for begin, end in zip(case.starts[:-1], case.starts[1:]):
            ids, types = case.ids[None, begin:end], case.token_types[None, begin:end]
            evaluate(model, ids, np.ones_like(ids), types, observe)
    return {
        op.output: (
            op.input_qparams or _qparams(*inputs[op.output]),
            op.output_qparams or _qparams(*outputs[op.output]),
        )
        for op in model.ops
        if isinstance(op, Dense)
    }


def _qparams(low: float, high: float) -> QuantParams:
    """256 steps from ``low`` (at most 0) to ``high`` (at least 0), one of them exactly 0."""
    scale = (high - low) / 255 or 1.0
    return QuantParams(scale, round(-low / scale))
