"""The lowered graph: the engine's ops in execution order, with activations and constants still by value.

The nodes of ``ir.py`` write it, ``passes/pack.py`` packs its weights, and ``passes/plan.py`` gives its values
places in memory and makes a ``Program`` of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Type

import numpy as np
import numpy.typing as npt

from obert_edge.bundle.program import Op
from obert_edge.host.compiler.values import Value


@dataclass(frozen=True)
class LoweredOp:
    """An op of the program; a field of its type that is missing here is absent there.

    Attributes:
        op_type: a class of ``bundle/program.py``.
        name: of the node it comes from, for profiles and errors.
        values: field of ``op_type`` -> the activation it names.
        arrays: field -> the constant it names; a linear has its int8 [n, k] weights under ``matrix`` until
            they are packed.
        numbers: integer and float fields.
        overwrites: the field of ``values`` whose memory the float output may take over, where nothing reads
            it afterward; "": none.
    """

    op_type: Type[Op]
    name: str
    values: Dict[str, Value] = field(default_factory=dict)
    arrays: Dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    numbers: Dict[str, float] = field(default_factory=dict)
    overwrites: str = ""

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
    """Ops in execution order.

    Attributes:
        max_length: the longest sequence, in tokens.
        ops: of which each reads only what an earlier one wrote.
    """

    max_length: int
    ops: List[LoweredOp] = field(default_factory=list)


def as_f32(value: float) -> float:
    """A Python float rounded to float32, as the engine will read it."""
    return float(np.float32(value))
