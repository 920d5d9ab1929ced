"""The boards there are, and what a bundle can be expected to do on them: modeled, never measured.

Clocks, cores and memory are of Raspberry Pi's own documentation ("Processors"); cache sizes of the Zero 2 W
and the 3 are of the Cortex-A53 configuration that Broadcom's BCM2837 is known to have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Tuple

from obert_edge.bundle.manifest import BoardFacts, Manifest
from obert_edge.device.roofline.bound import bound_of_units
from obert_edge.device.roofline.work import multiply_adds_by_kernel

KIB = 1 << 10
MIB = 1 << 20


@dataclass(frozen=True)
class Rates:
    """INT8 multiply-adds per cycle of a core's inner loops: by name of ``WeightFormat``, and attention's.

    From docs/results/arm_throughput.md: llvm-mca models, all data in L1, so upper bounds.
    """

    row_gather_4: float
    row_gather_2: float
    row_gather_1: float
    dense_4: float
    block_1x4: float
    attention: float

    def of(self, weight_format: str) -> float:
        """The rate of a linear, by ``LinearFacts.format``."""
        return float(getattr(self, weight_format.lower()))


CORTEX_A53 = Rates(3.1, 2.5, 1.3, 3.5, 2.5, 3.3)
CORTEX_A72 = Rates(7.5, 6.2, 4.0, 8.0, 7.5, 8.0)
CORTEX_A76 = Rates(21.3, 16.0, 9.8, 31.9, 24.3, 32.0)


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
        rates: what each core computes per cycle; modeled.
        l1_data: bytes per core.
        l1_ways: of it.
        l2: bytes of the second cache.
        l2_ways: of it.
        l2_cores: how many cores share it.
        last_level: bytes of the largest cache, shared by the cores.
        memory: bytes, by variant.
        bandwidth: bytes per second that all cores together can read from memory; estimated.
        cores: of the CPU; all are equal.
    """

    name: str
    model: str
    core: str
    gigahertz: float
    isa: str
    implementation: str
    rates: Rates
    l1_data: int
    l1_ways: int
    l2: int
    l2_ways: int
    l2_cores: int
    last_level: int
    memory: Tuple[int, ...]
    bandwidth: float
    cores: int = 4

    @property
    def threads(self) -> int:
        """Threads of a session: one per core.

        The cores are equal, so that none holds the others up, and the work is bound by multiplying, which
        grows with them, or by memory, which more cores do not make slower.
        """
        return self.cores

    @property
    def cache(self) -> int:
        """Bytes of the second cache that a core can count on while all work.

        The engine cuts linears into tiles for it, so that weights come from memory once for a panel of
        tokens, not once for each of its stripes (docs/results/arm_tiles.md).
        """
        return self.l2 // self.l2_cores

    @property
    def facts(self) -> BoardFacts:
        """What a bundle says of it."""
        return BoardFacts(self.model, self.threads, self.cache)


BOARDS: Tuple[Board, ...] = (
    Board(
        name="Zero 2 W",
        model="Raspberry Pi Zero 2 W",
        core="Cortex-A53",
        gigahertz=1.0,
        isa="ARMv8.0, NEON",
        implementation="neon",
        rates=CORTEX_A53,
        l1_data=32 * KIB,
        l1_ways=4,
        l2=512 * KIB,
        l2_ways=16,
        l2_cores=4,
        last_level=512 * KIB,
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
        rates=CORTEX_A53,
        l1_data=32 * KIB,
        l1_ways=4,
        l2=512 * KIB,
        l2_ways=16,
        l2_cores=4,
        last_level=512 * KIB,
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
        rates=CORTEX_A72,
        l1_data=32 * KIB,
        l1_ways=2,
        l2=1 * MIB,
        l2_ways=16,
        l2_cores=4,
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
        rates=CORTEX_A76,
        l1_data=64 * KIB,
        l1_ways=4,
        l2=512 * KIB,
        l2_ways=8,
        l2_cores=1,
        last_level=2 * MIB,
        memory=(2048 * MIB, 4096 * MIB, 8192 * MIB, 16384 * MIB),
        bandwidth=10e9,
    ),
)


def least_milliseconds(board: Board, manifest: Manifest, sequence_length: int) -> float:
    """The least time one sequence can take: the roofline of computing beside reading the weights.

    Softmax, GELU and LayerNorm, cache misses and a throttled clock come on top; a board never beats this.

    Args:
        board: where, on the threads a session has there.
        manifest: of a bundle.
        sequence_length: tokens.
    """
    cycles_per_ns = board.threads * board.gigahertz
    work = multiply_adds_by_kernel(manifest, sequence_length)
    computing = {kernel: count / board.rates.of(kernel) / cycles_per_ns for kernel, count in work.items()}
    weights = sum(linear.bytes for linear in manifest.linears)
    reading = 1e9 * weights / board.bandwidth if weights > board.last_level else 0.0
    return bound_of_units(computing, {"memory": reading}).nanoseconds / 1e6


def outlook(manifest: Manifest, sequence_length: int = 128) -> str:
    """Lines for people: what each board can do at best with a bundle."""
    length = min(sequence_length, manifest.model.max_length)
    lines = [
        f"at best, 1 x {length} tokens (modeled from the cores' inner loops, not measured; bench tells):"
    ]
    for board in BOARDS:
        time = least_milliseconds(board, manifest, length)
        lines.append(
            f"  Raspberry Pi {board.name} ({board.cores} x {board.core}, {board.gigahertz:g} GHz, "
            f"{board.implementation}): from {time:.1f} ms"
        )
    return "\n".join(lines)
