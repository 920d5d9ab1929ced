"""The packer's form of the roofline: the time of one weight format, with rates fitted on the target.

One unit is enough here: a single thread's vector unit, whose work on a linear is counted in what the format
stores. The costs of all formats of a target are compared with each other; only their ratios matter.
"""

from __future__ import annotations

from dataclasses import dataclass

from obert_edge.device.roofline.bound import bound_of_units


@dataclass(frozen=True)
class FormatCost:
    """One thread's time for one panel of 64 tokens, in nanoseconds per thing that a format stores.

    Args:
        ns_per_weight: per stored weight, padding included (its multiply-adds).
        ns_per_quad: per quad or 1x4 block (loads and interleave shared by the rows of a group).
        ns_per_group: per group of rows (loop end, epilogue).
    """

    ns_per_weight: float
    ns_per_quad: float
    ns_per_group: float

    def estimate(self, *, weights: int, quads: int, groups: int) -> float:
        """Nanoseconds for a matrix that stores that much (``bundle.packing.count_units``)."""
        return bound_of_units(
            {
                "multiply-adds": self.ns_per_weight * weights,
                "loads": self.ns_per_quad * quads,
                "epilogue": self.ns_per_group * groups,
            }
        ).nanoseconds
