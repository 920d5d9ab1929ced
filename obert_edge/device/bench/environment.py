"""The circumstances of a measurement: without them a number of milliseconds says nothing."""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass
from typing import Dict, List, Optional

import numpy as np

import obert_edge
from obert_edge.device.runtime import machine


@dataclass(frozen=True)
class Environment:
    """Where and under what a benchmark ran.

    Args:
        cpu: name of the CPU (and board).
        architecture: e.g. ``x86_64``.
        features: CPU flags that decide which kernels run.
        cpus: CPUs this process may use.
        cpu_quota: the container's limit in CPUs, if any.
        memory_bytes: available memory.
        governor: frequency governor, if the system says.
        temperature_c: hottest thermal zone, degrees Celsius.
        throttled: a Raspberry Pi's throttling word.
        emulation: why timings mean nothing, or ``None``.
        system: operating system and kernel.
        python: version.
        packages: versions of obert-edge, numpy and the baselines that ran.
    """

    cpu: str
    architecture: str
    features: List[str]
    cpus: int
    cpu_quota: Optional[float]
    memory_bytes: Optional[int]
    governor: Optional[str]
    temperature_c: Optional[float]
    throttled: Optional[str]
    emulation: Optional[str]
    system: str
    python: str
    packages: Dict[str, str]

    @classmethod
    def current(cls) -> Environment:
        """Read everything now."""
        return cls(
            cpu=machine.cpu_model(),
            architecture=machine.architecture(),
            features=machine.cpu_features(),
            cpus=machine.affinity(),
            cpu_quota=machine.cpu_quota(),
            memory_bytes=machine.available_memory(),
            governor=machine.governor(),
            temperature_c=machine.temperature(),
            throttled=machine.throttled(),
            emulation=machine.emulation(),
            system=f"{platform.system()} {platform.release()}, {' '.join(platform.libc_ver())}",
            python=sys.version.split()[0],
            packages={"obert-edge": obert_edge.__version__, "numpy": np.__version__},
        )
