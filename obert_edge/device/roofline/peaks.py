"""What a machine can do at most, measured on it: the other half of the model of the limit (``limits.py``)."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Callable, Dict, List, Mapping, Optional

from obert_edge.device.runtime.native import Library

#: ``OE_PEAK_...`` of ``engine/obert_edge.h``.
_MULTIPLY_ADD, _SHUFFLE, _FLOAT, _ROW_GATHER, _READ, _WRITE = range(6)
#: Bytes that surely lie in a level of the cache while they are read over and over.
L1_BYTES, L2_BYTES = 16 << 10, 256 << 10


@dataclass(frozen=True)
class Peaks:
    """Rates of all threads together, in units per nanosecond.

    Args:
        multiply_add: 8-bit multiply-adds from registers.
        shuffle: bytes through a shuffle.
        float_multiply_add: float32 multiply-adds from registers.
        row_gather: by rows that share columns (1, 2, 4): multiply-adds of the kernel's instructions on L1.
        read_l1, read_l2, read_memory: bytes read from there.
        write_l2: bytes written to there.
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
        """Flat, for JSON and manifests."""
        values = {name: value for name, value in vars(self).items() if name != "row_gather"}
        return {**values, **{f"row_gather_{rows}": rate for rows, rate in self.row_gather.items()}}

    @classmethod
    def from_dict(cls, values: Mapping[str, float]) -> Optional[Peaks]:
        """What :meth:`to_dict` gave; ``None`` when something is missing."""
        gather = {rows: values.get(f"row_gather_{rows}", 0.0) for rows in (1, 2, 4)}
        try:
            others = {name: values[name] for name in cls.__dataclass_fields__ if name != "row_gather"}
        except KeyError:
            return None
        return cls(row_gather=gather, **others)


def measure_peaks(
    library: Library, implementation: str, threads: int, memory_bytes: int = 64 << 20
) -> Optional[Peaks]:
    """Measure this machine; takes about half a second.

    Caches and arithmetic are each thread's own, memory is shared: it is read by all threads at once.

    Args:
        library: the engine.
        implementation: whose instructions to use.
        threads: how many to measure for.
        memory_bytes: what all threads together read from memory: the weights of the model, so that they come
            from whatever cache they fit in.

    Returns:
        The rates of ``threads`` threads, ``None`` where the library does not know them.
    """

    def one(what: int, parameter: int = 0) -> float:
        return library.measure_peak(implementation, what, parameter) * threads

    if one(_MULTIPLY_ADD) == 0:
        return None
    share = max(L2_BYTES, memory_bytes // threads)
    return Peaks(
        multiply_add=one(_MULTIPLY_ADD),
        shuffle=one(_SHUFFLE),
        float_multiply_add=one(_FLOAT),
        row_gather={rows: one(_ROW_GATHER, rows) for rows in (1, 2, 4)},
        read_l1=one(_READ, L1_BYTES),
        read_l2=one(_READ, L2_BYTES),
        read_memory=_together(lambda: library.measure_peak(implementation, _READ, share), threads),
        write_l2=one(_WRITE, L2_BYTES),
    )


def _together(measure: Callable[[], float], threads: int) -> float:
    """The sum of what threads measure at the same time; the library runs without Python's lock."""
    found: List[float] = []
    workers = [threading.Thread(target=lambda: found.append(measure())) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(found)
