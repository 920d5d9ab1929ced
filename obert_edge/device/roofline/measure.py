"""Measuring the peaks of this machine with the engine's own instructions."""

from __future__ import annotations

import threading
from typing import Callable, List, Optional

from obert_edge.device.roofline.peaks import GATHERED_ROWS, Peaks
from obert_edge.device.runtime.native import Library

#: ``OE_PEAK_...`` of ``engine/include/obert_edge.h``.
_MULTIPLY_ADD, _SHUFFLE, _FLOAT, _ROW_GATHER, _READ, _WRITE = range(6)
#: Bytes that surely lie in a level of the cache while they are read over and over.
L1_BYTES, L2_BYTES = 16 << 10, 256 << 10


def measure_peaks(
    library: Library, implementation: str, threads: int, memory_bytes: int = 64 << 20
) -> Optional[Peaks]:
    """Measure this machine; takes about half a second.

    Caches and arithmetic are each thread's own, so one thread is measured and multiplied; memory is shared,
    so all threads read it at once.

    Args:
        library: the engine.
        implementation: whose instructions to use.
        threads: how many to measure for.
        memory_bytes: what all threads together read from memory: the weights of the model, so that they come
            from whatever cache they fit in.

    Returns:
        The rates of ``threads`` threads; ``None`` where the library cannot measure them.
    """

    def of_all_threads(what: int, parameter: int = 0) -> float:
        return library.measure_peak(implementation, what, parameter) * threads

    if of_all_threads(_MULTIPLY_ADD) == 0:
        return None
    share = max(L2_BYTES, memory_bytes // threads)
    return Peaks(
        multiply_add=of_all_threads(_MULTIPLY_ADD),
        shuffle=of_all_threads(_SHUFFLE),
        float_multiply_add=of_all_threads(_FLOAT),
        row_gather={rows: of_all_threads(_ROW_GATHER, rows) for rows in GATHERED_ROWS},
        read_l1=of_all_threads(_READ, L1_BYTES),
        read_l2=of_all_threads(_READ, L2_BYTES),
        read_memory=_together(lambda: library.measure_peak(implementation, _READ, share), threads),
        write_l2=of_all_threads(_WRITE, L2_BYTES),
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
