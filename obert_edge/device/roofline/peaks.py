"""What a machine can do at most: the rates that an op's work is divided by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Mapping, Optional

#: Rows that can share gathered columns, each with a rate of its own.
GATHERED_ROWS = (1, 2, 4)


@dataclass(frozen=True)
class Peaks:
    """Rates of all threads together, in units per nanosecond.

    Args:
        multiply_add: 8-bit multiply-adds from registers.
        shuffle: bytes through a shuffle.
        float_multiply_add: float32 multiply-adds from registers.
        row_gather: by rows that share columns (1, 2, 4): multiply-adds of the kernel's instructions on L1.
        read_l1: bytes read from the first-level cache.
        read_l2: bytes read from the second-level cache.
        read_memory: bytes read from memory, or from the cache that all weights fit in.
        write_l2: bytes written to the second-level cache.
    """

    multiply_add: float
    shuffle: float
    float_multiply_add: float
    row_gather: Dict[int, float]
    read_l1: float
    read_l2: float
    read_memory: float
    write_l2: float

    def to_dict(self) -> Dict[str, float]:
        """The rates by name, flat, as JSON and manifests hold them."""
        values = {name: value for name, value in vars(self).items() if name != "row_gather"}
        return {**values, **{f"row_gather_{rows}": rate for rows, rate in self.row_gather.items()}}

    @classmethod
    def from_dict(cls, values: Mapping[str, float]) -> Optional[Peaks]:
        """The peaks that :meth:`to_dict` gave; ``None`` when one other than ``row_gather`` is missing."""
        gather = {rows: values.get(f"row_gather_{rows}", 0.0) for rows in GATHERED_ROWS}
        try:
            others = {name: values[name] for name in cls.__dataclass_fields__ if name != "row_gather"}
        except KeyError:
            return None
        return cls(row_gather=gather, **others)
