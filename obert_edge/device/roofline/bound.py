"""How work and peaks give a time: the law of the roofline.

The units of a machine (its vector units, each level of its memory) work side by side, so a job takes as long
as the busiest of them; what one unit has to do adds up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Iterable, Mapping

from obert_edge.device.roofline.peaks import Peaks
from obert_edge.device.roofline.work import Work


@dataclass(frozen=True)
class Bound:
    """The least time of an op or a model.

    Args:
        nanoseconds: of one run.
        by: the kind of work that takes most of them on the busiest unit.
    """

    nanoseconds: float
    by: str


def bound_of_units(*units: Mapping[str, float]) -> Bound:
    """The least time of units that work side by side.

    Args:
        *units: for each unit, the nanoseconds it is busy with each kind of work, by the kind's name.

    Returns:
        The time of the busiest unit; of equally busy ones, the first.
    """
    busiest = max(units, key=lambda unit: _total(unit.values()))
    return Bound(_total(busiest.values()), max(busiest, key=lambda kind: busiest[kind]))


def bound_of(work: Work, peaks: Peaks) -> Bound:
    """The time no implementation of this form can be below.

    Multiply-adds, shuffles and float arithmetic share the vector units; loads from L1, reads from L2, writes
    to L2 and reads from memory are units of their own.
    """
    gathered = peaks.row_gather.get(work.gathered_rows, 0.0)
    arithmetic: Dict[str, float] = {
        "shuffles": work.shuffled / peaks.shuffle,
        "float arithmetic": work.floats / peaks.float_multiply_add,
    }
    if gathered > 0:
        arithmetic["row-gather"] = work.multiply_adds / gathered
    else:
        arithmetic["multiply-adds"] = work.multiply_adds / peaks.multiply_add
    return bound_of_units(
        arithmetic,
        {"L1 loads": work.l1 / peaks.read_l1},
        {"L2": work.l2 / peaks.read_l2},
        {"L2": work.written / peaks.write_l2},
        {"memory": work.memory / peaks.read_memory},
    )


def _total(times: Iterable[float]) -> float:
    """The plain sum, from left to right.

    The packer's costs stand in every manifest, so they must not depend on the version of Python; from 3.12
    on, ``sum`` rounds differently.
    """
    total = 0.0
    for time in times:
        total += time
    return total
