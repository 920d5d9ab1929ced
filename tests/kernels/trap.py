"""An x86-64 CPU with AVX-VNNI, on one with AVX2 alone: ``avxvnni_trap.cpp`` executes what is lacking.

It is loaded beside a program by the dynamic loader, which shows it every library. The engine under test is
the one that is shipped, its choice of kernels included.
"""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List

from tests.kernels.emulation import DRIVER, compiled
from tools.emulation.debian import UnavailableError

TRAP = Path(__file__).with_name("avxvnni_trap.cpp")
#: Set to the number of a descriptor, the trap writes there at the end how many instructions it executed.
COUNT = "AVXVNNI_TRAP_COUNT"


def cpu_flags() -> List[str]:
    """What the kernel says this CPU has; empty where it is no x86."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])


def trap_environment(folder: Path) -> Dict[str, str]:
    """Variables for a process that is to have AVX-VNNI; ``folder`` keeps the compiled library.

    Raises:
        UnavailableError: this CPU is without the AVX registers that the instructions compute with.
    """
    if "avx2" not in cpu_flags():
        raise UnavailableError("this CPU has no AVX2, whose registers AVX-VNNI computes with")
    library = compiled(TRAP, folder / "avxvnni_trap.so", "x86_avx", ("-shared",))
    return {"LD_AUDIT": str(library)}


class TrappedMachine:
    """This machine with AVX-VNNI, in the place of an emulated one."""

    def command(self, cpu: str, folder: Path) -> List[str]:
        """The command that runs the driver; see ``Machine.command``."""
        variables = [f"{name}={value}" for name, value in trap_environment(folder).items()]
        driver = compiled(DRIVER, folder / "driver-x86_avx", "x86_avx", ("-ldl",))
        return ["env", *variables, str(driver)]


AVX_VNNI = TrappedMachine()
