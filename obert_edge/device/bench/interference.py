"""What else ran on the machine during a measurement.

The load average is a poor witness: it counts our own threads, and what ran minutes ago. Here the CPU time of
all processes (``/proc/stat``) is compared with that of the measuring ones.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from typing import Callable, List, Optional, Sequence, Tuple

from obert_edge.device.runtime import machine

#: Share of the CPUs, 0..1, above which a measurement should be repeated.
INTERFERENCE_LIMIT = 0.05


@dataclass(frozen=True)
class Interference:
    """How much of the machine was busy with something else, in shares of the time of all CPUs, 0..1.

    Args:
        others: taken by processes that are no part of the measurement.
        stolen: taken by the host of a virtual machine.
    """

    others: float
    stolen: float

    @property
    def significant(self) -> bool:
        """Whether the measurement should be repeated on a quieter machine."""
        return max(self.others, self.stolen) > INTERFERENCE_LIMIT

    def to_text(self) -> str:
        """One line for people."""
        line = f"other processes used {100 * self.others:.1f} % of the CPUs"
        return f"{line}, the host of this virtual machine took {100 * self.stolen:.1f} %"


class CpuWatch:
    """Watches the machine from its creation on.

    Args:
        pids: the processes that measure, this one among them.
        clock: gives seconds that pass.
    """

    def __init__(self, pids: Sequence[int], clock: Callable[[], float] = time.monotonic) -> None:
        self._pids = list(pids)
        self._clock = clock
        self._before = self._read()

    def read(self) -> Optional[Interference]:
        """What happened since; ``None`` where the system does not tell, or no time has passed."""
        before, after = self._before, self._read()
        if before is None or after is None or after[0] <= before[0]:
            return None
        elapsed, busy, stolen, ours = (later - earlier for earlier, later in zip(before, after))
        total = elapsed * (os.cpu_count() or 1)
        return Interference(min(1.0, max(0.0, busy - ours) / total), min(1.0, max(0.0, stolen) / total))

    def _read(self) -> Optional[Tuple[float, float, float, float]]:
        """Seconds on the clock, then seconds of CPU time: of all processes, stolen, of the watched ones."""
        system = _system_seconds()
        own = [_process_seconds(pid) for pid in self._pids]
        if system is None or any(seconds is None for seconds in own):
            return None
        return (self._clock(), *system, sum(seconds for seconds in own if seconds is not None))


def _ticks() -> int:
    return os.sysconf("SC_CLK_TCK")


def _system_seconds() -> Optional[Tuple[float, float]]:
    """Of all CPUs together: seconds busy, and seconds stolen by the host."""
    match = re.match(r"cpu\s+([\d ]+)", machine.read_text("/proc/stat") or "")
    if match is None:
        return None
    fields: List[int] = [int(value) for value in match.group(1).split()]
    if len(fields) < 8:
        return None
    user, nice, system, _idle, _wait, interrupts, soft_interrupts, stolen = fields[:8]
    busy = user + nice + system + interrupts + soft_interrupts
    return busy / _ticks(), stolen / _ticks()


def _process_seconds(pid: int) -> Optional[float]:
    """Seconds of CPU time of a process, all its threads together."""
    text = machine.read_text(f"/proc/{pid}/stat")
    if text is None:
        return None
    # The name, in parentheses, may hold anything; utime and stime are the 12th and 13th field after it.
    fields = text.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _ticks()
