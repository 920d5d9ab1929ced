"""Facts about the machine, read from where Linux keeps them; every one may be unknown.

Nothing here fails on another system or in a locked-down container: what cannot be read is ``None`` or empty.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Set

#: Root of the file system; tests point it at a made-up one.
ROOT = Path("/")

#: CPU flags that decide which kernels run, as ``/proc/cpuinfo`` spells them.
_ISA_FLAGS = (
    "ssse3",
    "avx2",
    "fma",
    "avx_vnni",
    "avx512f",
    "avx512bw",
    "avx512vl",
    "avx512_vnni",
    "amx_int8",
    "neon",
    "asimd",
    "asimddp",
    "i8mm",
    "sve",
)
#: ARM's part numbers (``CPU part``) of the cores small boards and servers have.
_ARM_PARTS = {
    "0xc07": "Cortex-A7",
    "0xc0f": "Cortex-A15",
    "0xd03": "Cortex-A53",
    "0xd05": "Cortex-A55",
    "0xd07": "Cortex-A57",
    "0xd08": "Cortex-A72",
    "0xd09": "Cortex-A73",
    "0xd0a": "Cortex-A75",
    "0xd0b": "Cortex-A76",
    "0xd0c": "Neoverse-N1",
    "0xd40": "Neoverse-V1",
    "0xd41": "Cortex-A78",
    "0xd49": "Neoverse-N2",
    "0xd4f": "Neoverse-V2",
}
#: The parts that issue instructions in order, with narrower vector units than the cores beside them.
_IN_ORDER_PARTS = ("0xd03", "0xd04", "0xd05", "0xd46", "0xd80")


def read_text(path: str) -> Optional[str]:
    """The stripped text of a file below :data:`ROOT`, or ``None``."""
    try:
        return (ROOT / path.lstrip("/")).read_text("utf-8", "replace").strip("\0\n ")
    except OSError:
        return None


def architecture() -> str:
    """``x86_64``, ``aarch64``, ``armv7l``...: what this Python was built for, whatever the kernel is."""
    return architecture_of(platform.machine(), _bits())


def _bits() -> str:
    """What ``platform.architecture()[0]`` would say; it would start the program ``file`` at every load."""
    return "64bit" if sys.maxsize > 2**32 else "32bit"


def architecture_of(machine: str, bits: str) -> str:
    """The architecture a Python was built for.

    Args:
        machine: its ``platform.machine()``, which is the kernel's.
        bits: its ``platform.architecture()[0]``, ``"64bit"`` or ``"32bit"``.
    """
    if machine == "aarch64" and bits == "32bit":
        return "armv7l"
    return {"AMD64": "x86_64", "arm64": "aarch64", "armv8l": "armv7l"}.get(machine, machine)


def affinity() -> int:
    """How many CPUs this process may be scheduled on."""
    return len(_allowed_cpus())


def _allowed_cpus() -> List[int]:
    try:
        return sorted(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        return list(range(os.cpu_count() or 1))


def cpu_quota() -> Optional[float]:
    """The container's limit in CPUs (cgroup v2 or v1), the tightest on the way up; ``None`` without one."""
    quotas: List[float] = []
    for folder in _cgroup_folders(""):
        text = read_text(f"{folder}/cpu.max")
        if text is not None and len(text.split()) == 2 and not text.startswith("max"):
            quota, period = text.split()
            quotas.append(float(quota) / float(period))
    for folder in _cgroup_folders("cpu"):
        quota_v1, period_v1 = (
            read_text(f"{folder}/cpu.cfs_quota_us"),
            read_text(f"{folder}/cpu.cfs_period_us"),
        )
        if quota_v1 and period_v1 and float(quota_v1) > 0 and float(period_v1) > 0:
            quotas.append(float(quota_v1) / float(period_v1))
    return min(quotas, default=None)


def memory_limit() -> Optional[int]:
    """The container's memory limit in bytes; ``None`` without one."""
    limits: List[int] = []
    names = [f"{folder}/memory.max" for folder in _cgroup_folders("")]
    names += [f"{folder}/memory.limit_in_bytes" for folder in _cgroup_folders("memory")]
    for name in names:
        text = read_text(name)
        # cgroup v1 says "no limit" by a number near 2**63.
        if text is not None and text.isdigit() and int(text) < 1 << 60:
            limits.append(int(text))
    return min(limits, default=None)


def available_threads() -> int:
    """Threads worth starting: one for each CPU this process may use, but no more than its container's quota.

    Where cores differ (P and E cores, big.LITTLE), those are left out that would hold the others up.
    """
    quota = cpu_quota()
    count = affinity() - slow_cpus()
    return count if quota is None else max(1, min(count, int(quota)))


def slow_cpus() -> int:
    """How many of the CPUs this process may use are too slow beside the others to be given a thread."""
    speeds = _core_speeds(_allowed_cpus())
    return len(speeds) - worthwhile(speeds)


def worthwhile(speeds: Sequence[float]) -> int:
    """How many of the fastest cores to use.

    The engine hands every thread an equal part of an op first, so ``n`` threads are about as fast as ``n``
    times the slowest of them. Where that is the same, more threads win: small parts that are handed out at
    the end make up for some of the difference.

    Args:
        speeds: of each core, in any unit.
    """
    fastest = sorted(speeds, reverse=True)
    return max(range(1, len(fastest) + 1), key=lambda count: (count * fastest[count - 1], count), default=0)


def _core_speeds(cpus: Sequence[int]) -> List[float]:
    """How fast CPUs are beside each other, in a unit that depends on what the system says; 1 where nothing.

    In this order: the scheduler's own measure (``cpu_capacity``, which is of ordinary code: at the engine's
    dot products an ARM core that issues in order is half as fast as that, by estimate); Intel's kinds of
    cores, of which an E core computes about half as much as a P core; the highest clock.
    """
    folder = "/sys/devices/system/cpu"
    capacities = [_number(f"{folder}/cpu{cpu}/cpu_capacity") for cpu in cpus]
    if all(capacities) and len(set(capacities)) > 1:
        return [
            capacity / (2 if _part(cpu) in _IN_ORDER_PARTS else 1) for cpu, capacity in zip(cpus, capacities)
        ]
    efficient = _cpu_list("/sys/devices/cpu_atom/cpus") | _cpu_list("/sys/devices/cpu_lowpower/cpus")
    if efficient and _cpu_list("/sys/devices/cpu_core/cpus"):
        return [0.5 if cpu in efficient else 1.0 for cpu in cpus]
    clocks = [_number(f"{folder}/cpu{cpu}/cpufreq/cpuinfo_max_freq") for cpu in cpus]
    return clocks if all(clocks) else [1.0] * len(cpus)


def _number(path: str) -> float:
    """The number in a file; 0 without one."""
    text = read_text(path) or ""
    return float(text) if text.isdigit() else 0.0


def _part(cpu: int) -> str:
    """The part number of an ARM core, as :data:`_ARM_PARTS` has it; empty where the system does not say."""
    text = read_text(f"/sys/devices/system/cpu/cpu{cpu}/regs/identification/midr_el1") or ""
    return f"0x{int(text, 16) >> 4 & 0xFFF:03x}" if re.fullmatch("0x[0-9a-f]+", text) else ""


def _cpu_list(path: str) -> Set[int]:
    """The CPUs in a file such as ``0-3,8``."""
    ranges = re.findall(r"(\d+)(?:-(\d+))?", read_text(path) or "")
    return {cpu for first, last in ranges for cpu in range(int(first), int(last or first) + 1)}


def available_memory() -> Optional[int]:
    """Bytes that can be taken without swapping."""
    match = re.search(r"^MemAvailable:\s+(\d+) kB", read_text("/proc/meminfo") or "", re.MULTILINE)
    return int(match.group(1)) * 1024 if match else None


def peak_memory() -> Optional[int]:
    """The most bytes this process has had resident (mapped files included).

    ``ru_maxrss`` would be wrong: it survives ``exec``, so a worker would report its parent's peak.
    """
    match = re.search(r"^VmHWM:\s+(\d+) kB", read_text("/proc/self/status") or "", re.MULTILINE)
    return int(match.group(1)) * 1024 if match else None


def board_model() -> Optional[str]:
    """What a board calls itself in its device tree, such as ``Raspberry Pi 4 Model B Rev 1.4``."""
    return read_text("/proc/device-tree/model")


def cpu_model() -> str:
    """The CPU's name, and on a board the board's."""
    info = _cpuinfo()
    board = board_model()
    name = info.get("model name") or info.get("Hardware") or ""
    part = _ARM_PARTS.get(info.get("CPU part", ""))
    if part:
        name = part
    parts = [text for text in (board, name or platform.processor() or architecture()) if text]
    return ", ".join(parts)


def cpu_features() -> List[str]:
    """The flags of ``/proc/cpuinfo`` that decide which kernels run."""
    info = _cpuinfo()
    flags = set((info.get("flags") or info.get("Features") or "").split())
    return [flag for flag in _ISA_FLAGS if flag in flags]


def governor() -> Optional[str]:
    """The frequency governors in use, ``None`` where the system does not say."""
    found = sorted(
        {
            text
            for folder in _glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq")
            if (text := read_text(f"{folder}/scaling_governor"))
        }
    )
    return ", ".join(found) or None


def temperature() -> Optional[float]:
    """The temperature of the hottest thermal zone, in degrees Celsius; ``None`` without one."""
    readings = [read_text(f"{zone}/temp") for zone in _glob("sys/class/thermal/thermal_zone*")]
    degrees = [int(text) / 1000 for text in readings if text and text.lstrip("-").isdigit()]
    return max(degrees, default=None)


def throttled() -> Optional[str]:
    """A Raspberry Pi's throttling word (``0x0``: never), ``None`` elsewhere.

    What its bits mean is in ``preflight.py``.
    """
    text = read_text("/sys/devices/platform/soc/soc:firmware/get_throttled")
    if text is None and "Raspberry Pi" in (board_model() or ""):
        text = _vcgencmd("get_throttled")  # 'throttled=0x50005'
    try:
        return f"0x{int(text.rpartition('=')[2], 16):x}" if text else None
    except ValueError:
        return None


def emulation() -> Optional[str]:
    """Why timings mean nothing here: another CPU is being emulated. ``None`` on a real one.

    User-mode QEMU answers for ``/proc/self/exe`` but not for ``/proc/thread-self/exe``, and (before
    version 8) lets the host's ``/proc/cpuinfo`` show through. Where neither shows,
    ``$OBERT_EDGE_ASSUME_EMULATED`` says it.
    """
    if os.environ.get("OBERT_EDGE_ASSUME_EMULATED"):
        return "OBERT_EDGE_ASSUME_EMULATED is set"
    try:
        program = (ROOT / "proc/thread-self/exe").readlink().name
    except OSError:
        program = ""
    if program.startswith("qemu-"):
        return f"this Python runs under {program}"
    info = _cpuinfo()
    is_arm = architecture().startswith(("aarch64", "arm"))
    if is_arm and "vendor_id" in info:
        return f"this Python is for {architecture()}, but the CPU is a {info.get('model name', 'x86')}"
    if architecture() == "x86_64" and "CPU implementer" in info:
        return "this Python is for x86_64, but the CPU is an ARM"
    if "VirtualApple" in (info.get("vendor_id") or "") or "QEMU TCG" in (info.get("model name") or ""):
        return f"the CPU calls itself {info.get('model name') or info['vendor_id']}"
    return None


def _vcgencmd(question: str) -> Optional[str]:
    """What the firmware of a Raspberry Pi answers; ``None`` where it cannot be asked."""
    try:
        done = subprocess.run(
            ["vcgencmd", question], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("ascii", "replace").strip()


def _cpuinfo() -> Dict[str, str]:
    """The first processor's lines; on ARM also the lines after the last."""
    info: Dict[str, str] = {}
    for line in (read_text("/proc/cpuinfo") or "").splitlines():
        key, separator, value = line.partition(":")
        if separator:
            info.setdefault(key.strip(), value.strip())
    return info


def _cgroup_folders(controller: str) -> List[str]:
    """Folders of this process's cgroup and its parents, for cgroup v2 (``""``) or a v1 controller."""
    mount = "/sys/fs/cgroup" if not controller else f"/sys/fs/cgroup/{controller}"
    folders = [mount]
    for line in (read_text("/proc/self/cgroup") or "").splitlines():
        _, controllers, path = (line.split(":", 2) + ["", ""])[:3]
        if controller in controllers.split(","):
            parts = [part for part in path.split("/") if part and part != ".."]
            folders += [f"{mount}/{'/'.join(parts[:count])}" for count in range(1, len(parts) + 1)]
    return folders


def _glob(pattern: str) -> List[str]:
    return sorted("/" + str(path.relative_to(ROOT)) for path in ROOT.glob(pattern))
