"""The Raspberry Pi boards, and the least time a bundle needs on each: modeled, never measured.

Clocks, cores and memory are those of Raspberry Pi's own documentation ("Processors"). The cache sizes of the
Zero 2 W and the 3 are those of the Cortex-A53 configuration that Broadcom's BCM2837 is known to have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Tuple

from obert_edge.bundle.manifest import BoardFacts, Manifest
from obert_edge.device.roofline.bound import bound_of_units
from obert_edge.device.roofline.work import multiply_adds_by_kernel
from obert_edge.device.text_table import milliseconds

KIB = 1 << 10
MIB = 1 << 20


@dataclass(frozen=True)
class Rates:
    """INT8 multiply-adds per cycle of one core, for the inner loop of each weight format and of attention.

    They are llvm-mca's models with all data in L1 (docs/results/arm_throughput.md), so upper bounds.
    """

    row_gather_4: float
    row_gather_2: float
    row_gather_1: float
    dense_4: float
    block_1x4: float
    attention: float

    def of(self, weight_format: str) -> float:
        """The rate of a linear of this ``LinearFacts.format``, or of ``"attention"``."""
        return float(getattr(self, weight_format.lower()))


CORTEX_A53 = Rates(3.1, 2.5, 1.3, 3.5, 2.5, 3.3)
CORTEX_A72 = Rates(7.5, 6.2, 4.0, 8.0, 7.5, 8.0)
CORTEX_A76 = Rates(21.3, 16.0, 9.8, 31.9, 24.3, 32.0)


@dataclass(frozen=True)
class Board:
    """One kind of Raspberry Pi.

    Args:
        name: what people call it, after "Raspberry Pi".
        model: how ``/proc/device-tree/model`` begins on it.
        core: the kind of its cores, all of which are equal.
        gigahertz: the clock of each core, without overclocking.
        isa: the ARM architecture and the extensions that the kernels can use.
        implementation: name of the kernels it runs.
        rates: what each core computes per cycle; modeled.
        l1_data: bytes of the first-level data cache of each core.
        l1_ways: ways of that cache.
        l2: bytes of the second-level cache.
        l2_ways: ways of that cache.
        l2_cores: the number of cores that share it.
        last_level: bytes of the largest cache, which all cores share.
        memory: bytes of memory, one number per variant of the board.
        bandwidth: bytes per second that all cores together can read from memory; estimated.
        cores: the number of cores.
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

        All cores are equal, so none keeps the others waiting. What binds the work is multiplying, whose rate
        grows with the cores, or memory, which more cores do not slow down.
        """
        return self.cores

    @property
    def cache(self) -> int:
        """Bytes of the second-level cache that each core can count on while all of them work.

        The engine cuts linears into tiles of this size, so that weights come from memory once for a panel of
        tokens and not once for each of its stripes (docs/results/arm_tiles.md).
        """
        return self.l2 // self.l2_cores

    @property
    def facts(self) -> BoardFacts:
        """What a bundle carries of this board."""
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
    """Lines for people: the least time that each board needs for one sequence with a bundle.

    Args:
        manifest: the manifest of the bundle.
        sequence_length: tokens; cut to the model's maximum.
    """
    length = min(sequence_length, manifest.model.max_length)
    lines = [
        f"at best, 1 x {length} tokens (modeled from the cores' inner loops, not measured; bench tells):"
    ]
    for board in BOARDS:
        time = least_milliseconds(board, manifest, length)
        lines.append(
            f"  Raspberry Pi {board.name} ({board.cores} x {board.core}, {board.gigahertz:g} GHz, "
            f"{board.implementation}): from {milliseconds(time) if time < 1 else f'{time:.1f}'} ms"
        )
    return "\n".join(lines)
