"""Facts about the machine, read from made-up ``/proc`` and ``/sys`` trees."""

from __future__ import annotations

import os
import platform

import pytest

from obert_edge.device.runtime import machine


@pytest.fixture
def fake_root(tmp_path, monkeypatch):
    """A function: paths and texts to the tree they describe."""
    monkeypatch.setattr(machine, "ROOT", tmp_path)

    def write(files):
        for name, text in files.items():
            path = tmp_path / name.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return write


X86_INFO = (
    "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Intel(R) Xeon(R)\n"
    "flags\t\t: fpu sse ssse3 avx2 fma avx512f avx512_vnni\n\nprocessor\t: 1\n"
)
PI_INFO = (
    "processor\t: 0\nFeatures\t: fp asimd evtstrm crc32 asimddp\nCPU implementer\t: 0x41\nCPU part\t: 0xd0b\n"
)


def test_x86_features_and_name(fake_root):
    fake_root({"proc/cpuinfo": X86_INFO})
    assert machine.cpu_model() == "Intel(R) Xeon(R)"
    assert machine.cpu_features() == ["ssse3", "avx2", "fma", "avx512f", "avx512_vnni"]


def test_a_raspberry_pi_is_named_with_its_core(fake_root):
    fake_root({"proc/cpuinfo": PI_INFO, "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0"})
    assert machine.cpu_model() == "Raspberry Pi 5 Model B Rev 1.0, Cortex-A76"
    assert machine.cpu_features() == ["asimd", "asimddp"]


def test_nothing_readable_is_nothing_known(fake_root):
    assert machine.cpu_features() == []
    assert machine.cpu_model()
    assert machine.cpu_quota() is None
    assert machine.memory_limit() is None
    assert machine.available_memory() is None
    assert machine.peak_memory() is None
    assert machine.governor() is None
    assert machine.temperature() is None
    assert machine.throttled() is None
    assert machine.available_threads() == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"sys/fs/cgroup/cpu.max": "max 100000"}, None),
        ({"sys/fs/cgroup/cpu.max": "150000 100000"}, 1.5),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/cpu.max": "200000 100000",
                "sys/fs/cgroup/a/b/cpu.max": "300000 100000",
            },
            2.0,
        ),
        (
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/box\n",
                "sys/fs/cgroup/cpu/box/cpu.cfs_quota_us": "50000",
                "sys/fs/cgroup/cpu/box/cpu.cfs_period_us": "100000",
            },
            0.5,
        ),
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, None),
    ],
)
def test_the_tightest_cpu_quota_on_the_way_up_counts(fake_root, files, quota):
    fake_root(files)
    assert machine.cpu_quota() == quota


@pytest.mark.parametrize(
    ("quota", "cpus", "threads"), [("50000", 8, 1), ("250000", 8, 2), ("max", 8, 8), ("999999", 2, 2)]
)
def test_threads_are_what_affinity_and_quota_allow(fake_root, monkeypatch, quota, cpus, threads):
    fake_root({"sys/fs/cgroup/cpu.max": f"{quota} 100000"})
    monkeypatch.setattr(machine, "affinity", lambda: cpus)
    assert machine.available_threads() == threads


CPU = "sys/devices/system/cpu/cpu{}/"


def of_cpus(name, texts):
    """Files of that name, one for each CPU."""
    return {CPU.format(cpu) + name: text for cpu, text in enumerate(texts)}


A53, A55, A72, A76 = (f"0x00000000410f{part}" for part in ("d034", "d050", "d083", "d0b1"))
MIDR = "regs/identification/midr_el1"
#: What the sysfs of machines says of their cores, and how many threads they get.
CORES = {
    "equal cores": (4, of_cpus("cpu_capacity", ["1024"] * 4), 4),
    "favored cores of a desktop": (
        4,
        of_cpus("cpufreq/cpuinfo_max_freq", ["5000000"] * 2 + ["4700000"] * 2),
        4,
    ),
    "RK3399, 2 Cortex-A72 and 4 Cortex-A53": (
        6,
        {**of_cpus("cpu_capacity", ["485"] * 4 + ["1024"] * 2), **of_cpus(MIDR, [A53] * 4 + [A72] * 2)},
        2,
    ),
    "RK3588, 4 Cortex-A76 and 4 Cortex-A55": (
        8,
        {**of_cpus("cpu_capacity", ["530"] * 4 + ["1024"] * 4), **of_cpus(MIDR, [A55] * 4 + [A76] * 4)},
        4,
    ),
    "the same where cores do not say what they are": (
        8,
        of_cpus("cpu_capacity", ["530"] * 4 + ["1024"] * 4),
        8,
    ),
    "2 P cores and 8 E cores, half as fast": (
        12,
        {"sys/devices/cpu_core/cpus": "0-3", "sys/devices/cpu_atom/cpus": "4-11"},
        12,
    ),
    "8 P cores and 4 E cores, half as fast": (
        12,
        {"sys/devices/cpu_core/cpus": "0-7", "sys/devices/cpu_atom/cpus": "8-11"},
        8,
    ),
    "P and E cores of a system that measures them": (
        8,
        {
            **of_cpus("cpu_capacity", ["1024"] * 6 + ["623"] * 2),
            "sys/devices/cpu_core/cpus": "0-5",
            "sys/devices/cpu_atom/cpus": "6-7",
        },
        6,
    ),
    "a cluster at a third of the clock": (
        4,
        of_cpus("cpufreq/cpuinfo_max_freq", ["600000", "600000", "1800000", "1800000"]),
        2,
    ),
    "half of the files": (4, of_cpus("cpu_capacity", ["1024", "300"]), 4),
    "files of nonsense": (2, {**of_cpus("cpu_capacity", ["", "x"]), "sys/devices/cpu_atom/cpus": "?"}, 2),
}


@pytest.mark.parametrize(("cpus", "files", "threads"), CORES.values(), ids=CORES)
def test_slow_cores_that_would_hold_the_others_up_get_no_thread(fake_root, monkeypatch, cpus, files, threads):
    fake_root(files)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cpus)))
    assert machine.available_threads() == threads
    assert machine.slow_cpus() == cpus - threads


def test_only_the_cores_this_process_may_use_are_compared(fake_root, monkeypatch):
    fake_root(CORES["8 P cores and 4 E cores, half as fast"][1])
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {6, 7, 8, 9, 10, 11})
    assert machine.available_threads() == 6
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {8, 9})
    assert machine.available_threads() == 2
    fake_root({"sys/fs/cgroup/cpu.max": "300000 100000"})
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(12)))
    assert machine.available_threads() == 3


def test_memory(fake_root):
    fake_root(
        {
            "proc/meminfo": "MemTotal: 100 kB\nMemAvailable:    2048 kB\n",
            "proc/self/status": "VmPeak: 9 kB\nVmHWM:\t  512 kB\n",
            "sys/fs/cgroup/memory.max": "1048576",
        }
    )
    assert machine.available_memory() == 2 << 20
    assert machine.peak_memory() == 512 << 10
    assert machine.memory_limit() == 1 << 20


def test_no_memory_limit_in_cgroup_v1_is_a_huge_number(fake_root):
    fake_root({"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712"})
    assert machine.memory_limit() is None


def test_clock_and_heat(fake_root):
    fake_root(
        {
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand\n",
            "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor": "performance\n",
            "sys/class/thermal/thermal_zone0/temp": "48312\n",
            "sys/class/thermal/thermal_zone1/temp": "61000\n",
            "sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
        }
    )
    assert machine.governor() == "ondemand, performance"
    assert machine.temperature() == 61.0
    assert machine.throttled() == "0x50005"


@pytest.mark.parametrize(
    ("architecture", "info", "emulated"),
    [
        ("x86_64", X86_INFO, False),
        ("aarch64", PI_INFO, False),
        ("aarch64", X86_INFO, True),
        ("armv7l", X86_INFO, True),
        ("x86_64", PI_INFO, True),
        ("x86_64", "vendor_id : VirtualApple\nmodel name : VirtualApple @ 2.50GHz\n", True),
        ("x86_64", "vendor_id : AuthenticAMD\nmodel name : QEMU TCG CPU version 2.5+\n", True),
    ],
)
def test_emulation_shows_where_cpu_and_python_disagree(fake_root, monkeypatch, architecture, info, emulated):
    monkeypatch.setattr(platform, "machine", lambda: architecture)
    monkeypatch.setattr(machine, "_bits", lambda: "64bit")
    fake_root({"proc/cpuinfo": info})
    assert (machine.emulation() is not None) == emulated


def test_user_mode_qemu_shows_in_the_running_program(fake_root, tmp_path):
    fake_root({"proc/cpuinfo": X86_INFO, "proc/thread-self/comm": ""})
    (tmp_path / "proc/thread-self/exe").symlink_to("/usr/bin/qemu-aarch64-static")
    assert "qemu-aarch64-static" in machine.emulation()


def test_a_32_bit_python_on_a_64_bit_kernel_is_armv7(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(machine, "_bits", lambda: "32bit")
    assert machine.architecture() == "armv7l"


def test_this_machine_is_not_emulated_and_measures_its_peak():
    assert machine.emulation() is None
    assert machine.peak_memory() > 1 << 20
