"""The graph in the engine's ops, with buffers and constants still by value.

``passes/quantize.py`` writes it, ``passes/pack.py`` packs its weights, and
``passes/plan.py`` gives its values places in memory and makes a ``Program``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Type

import numpy as np
import numpy.typing as npt

from obert_edge.bundle.program import Domain, DType, Op


@dataclass(frozen=True)
class Value:
    """An activation; equal values are the same one."""

    name: str
    dtype: DType
    domain: Domain
    channels: int

    @property
    def bytes_per_column(self) -> int:
        """Memory for one token or sequence."""
        return self.channels * self.dtype.bytes


@dataclass(frozen=True)
class LoweredOp:
    """An op of the program; fields that are missing here are absent there.

    Attributes:
        op_type: which.
        values: field of ``op_type`` -> the activation it names.
        arrays: field -> the constant it names; a linear has its int8 [n, k] weights under
            ``matrix`` until they are packed.
        numbers: integer and float fields.
    """

    op_type: Type[Op]
    name: str
    values: Dict[str, Value] = field(default_factory=dict)
    arrays: Dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    numbers: Dict[str, float] = field(default_factory=dict)

    @property
    def reads(self) -> List[Value]:
        """Activations it reads."""
        return [self.values[name] for name in self.op_type.INPUTS if name in self.values]

    @property
    def writes(self) -> List[Value]:
        """Activations it writes."""
        return [self.values[name] for name in self.op_type.OUTPUTS if name in self.values]


@dataclass
class LoweredGraph:
    """Ops in execution order."""

    max_length: int
    ops: List[LoweredOp] = field(default_factory=list)


def as_f32(value: float) -> float:
    """Round a Python float to float32, as the engine will see it."""
    return float(np.float32(value))
