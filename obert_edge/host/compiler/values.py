"""Values that flow between the nodes of the float graph, and between the ops it is lowered to."""

from __future__ import annotations

from dataclasses import dataclass

from obert_edge.bundle.program import Domain, DType


@dataclass(frozen=True)
class Tensor:
    """A value of the float graph: ``channels`` numbers per packed token, or per sequence."""

    name: str
    channels: int
    domain: Domain = Domain.TOKENS


@dataclass(frozen=True)
class Value:
    """An activation of the lowered graph; two that are equal are the same place in memory."""

    name: str
    dtype: DType
    domain: Domain
    channels: int

    @property
    def bytes_per_token(self) -> int:
        """Memory, in bytes, for one token (or sequence, if that is the domain)."""
        return self.channels * self.dtype.bytes
