"""The boards there are, and what a bundle can be expected to do on them: modelled, never measured.

Clocks, cores and memory are of Raspberry Pi's own documentation ("Processors"); cache sizes of the Zero 2 W
and the 3 are of the Cortex-A53 configuration that Broadcom's BCM2837 is known to have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Tuple

from obert_edge.bundle.manifest import Manifest

MIB = 1 << 20


@dataclass(frozen=True)
class Board:
    """One kind of Raspberry Pi.

    Args:
        name: as people say it.
        model: how ``/proc/device-tree/model`` begins on it.
        core: what its CPU has, ``cores`` times.
        gigahertz: of each core, without overclocking.
        isa: the ARM architecture and what the kernels can use of it.
        implementation: the kernels it runs.
        macs_per_cycle: INT8 multiply-adds per cycle and core, of the inner loop under llvm-mca's model of the
            core (all data in L1); an upper bound.
        l1_data: bytes per core.
        last_level: bytes of the largest cache, shared by the cores.
        memory: bytes, by variant.
        bandwidth: bytes per second that all cores together can read from memory; estimated.
    """

    name: str
    model: str
    core: str
    gigahertz: float
    isa: str
    implementation: str
    macs_per_cycle: float
    l1_data: int
    last_level: int
    memory: Tuple[int, ...]
    bandwidth: float
    cores: int = 4


BOARDS: Tuple[Board, ...] = (
    Board(
        name="Zero 2 W",
        model="Raspberry Pi Zero 2 W",
        core="Cortex-A53",
        gigahertz=1.0,
        isa="ARMv8.0, NEON",
        implementation="neon",
        macs_per_cycle=4.5,
        l1_data=32 << 10,
        last_level=512 << 10,
        memory=(512 * MIB,),
        bandwidth=1.5e9,
    ),
    Board(
        name="3 B+",
        model="Raspberry Pi 3",
        core="Cortex-A53",
        gigahertz=1.4,
        isa="ARMv8.0, NEON",
        implementation="neon",
        macs_per_cycle=4.5,
        l1_data=32 << 10,
        last_level=512 << 10,
        memory=(1024 * MIB,),
        bandwidth=2e9,
    ),
    Board(
        name="4 B",
        model="Raspberry Pi 4",
        core="Cortex-A72",
        gigahertz=1.8,
        isa="ARMv8.0, NEON",
        implementation="neon",
        macs_per_cycle=13.4,
        l1_data=32 << 10,
        last_level=1 * MIB,
        memory=(1024 * MIB, 2048 * MIB, 4096 * MIB, 8192 * MIB),
        bandwidth=4e9,
    ),
    Board(
        name="5",
        model="Raspberry Pi 5",
        core="Cortex-A76",
        gigahertz=2.4,
        isa="ARMv8.2, NEON, dotprod",
        implementation="neondot",
        macs_per_cycle=31.0,
        l1_data=64 << 10,
        last_level=2 * MIB,
        memory=(2048 * MIB, 4096 * MIB, 8192 * MIB, 16384 * MIB),
        bandwidth=10e9,
    ),
)


def multiply_adds(manifest: Manifest, sequence_length: int) -> float:
    """INT8 multiply-adds of one sequence: every stored weight, and attention's two products."""
    linears = sum(
        linear.n * linear.k * (1 - linear.sparsity) * (sequence_length if linear.per_token else 1)
        for linear in manifest.linears
    )
    model = manifest.model
    return linears + 2.0 * model.layers * model.hidden * sequence_length**2


def least_milliseconds(board: Board, manifest: Manifest, sequence_length: int) -> float:
    """The least time one sequence can take: the longer of computing and of reading the weights.

    Softmax, GELU and LayerNorm, cache misses and a throttled clock come on top; a board never beats this.

    Args:
        board: where.
        manifest: of a bundle.
        sequence_length: tokens.
    """
    compute = multiply_adds(manifest, sequence_length) / (
        board.cores * board.macs_per_cycle * board.gigahertz * 1e9
    )
    weights = sum(linear.bytes for linear in manifest.linears)
    reading = weights / board.bandwidth if weights > board.last_level else 0.0
    return 1e3 * max(compute, reading)


def outlook(manifest: Manifest, sequence_length: int = 128) -> str:
    """Lines for people: what each board can do at best with a bundle."""
    length = min(sequence_length, manifest.model.max_length)
    lines = [f"at best, 1 x {length} tokens (modelled from the cores' peaks, not measured; bench tells):"]
    for board in BOARDS:
        time = least_milliseconds(board, manifest, length)
        lines.append(
            f"  Raspberry Pi {board.name} ({board.cores} x {board.core}, {board.gigahertz:g} GHz, "
            f"{board.implementation}): from {time:.1f} ms"
        )
    return "\n".join(lines)
