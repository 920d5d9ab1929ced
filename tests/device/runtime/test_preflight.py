"""What is looked at before a bundle is loaded."""

from __future__ import annotations

import os

import pytest

from obert_edge.bundle.container import Bundle
from obert_edge.device.commands.doctor import doctor
from obert_edge.device.runtime import machine
from obert_edge.device.runtime.preflight import needed_memory, require_memory, throttling
from obert_edge.device.runtime.session import load
from obert_edge.errors import UnsupportedDeviceError
from tests.emulation.bundles import make_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("model"), "x86")


@pytest.fixture
def board(tmp_path, monkeypatch):
    """A function: what files of a Raspberry Pi's /proc and /sys say, on top of a calm one's."""

    def describe(**files):
        texts = {
            "proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0",
            "proc/cpuinfo": "Features : fp asimd\nCPU implementer : 0x41\nCPU part : 0xd08\n",
            "proc/meminfo": "MemAvailable: 1000000 kB\n",
            **files,
        }
        for name, text in texts.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        monkeypatch.setattr(machine, "ROOT", tmp_path)
        monkeypatch.setattr(machine, "architecture", lambda: "aarch64")

    return describe


def findings(path=None):
    return {finding.subject: finding for finding in doctor(path).findings}


def test_a_bundle_needs_its_weights_and_the_activations_of_its_longest_sequence(bundle):
    with Bundle.open(bundle) as opened:
        assert needed_memory(opened) > len(opened.weights) + 4 * 5 * 32 * 40


def test_a_machine_without_the_memory_refuses_to_load(bundle, monkeypatch):
    monkeypatch.setattr(machine, "available_memory", lambda: 10_000)
    with pytest.raises(UnsupportedDeviceError, match="needs about .* are available"):
        load(bundle)
    assert findings(bundle)["bundle's memory"].severity == "error"


def test_a_containers_limit_counts_as_much_as_the_systems_memory(bundle, monkeypatch):
    monkeypatch.setattr(machine, "available_memory", lambda: 1 << 40)
    monkeypatch.setattr(machine, "memory_limit", lambda: 10_000)
    with Bundle.open(bundle) as opened, pytest.raises(UnsupportedDeviceError):
        require_memory(opened)


def test_unknown_memory_is_no_reason_to_refuse(bundle, monkeypatch):
    monkeypatch.setattr(machine, "available_memory", lambda: None)
    monkeypatch.setattr(machine, "memory_limit", lambda: None)
    load(bundle).close()


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("0x0", []),
        ("0x1", ["under-voltage now"]),
        (
            "0x50005",
            [
                "under-voltage now",
                "throttled now",
                "under-voltage since the start",
                "throttled since the start",
            ],
        ),
        ("0x80000", ["soft temperature limit since the start"]),
    ],
)
def test_the_throttling_word_is_put_into_words(word, said):
    assert throttling(word) == said


def test_the_firmware_is_asked_where_the_kernel_does_not_say(board, monkeypatch, tmp_path):
    board()
    programs = tmp_path / "bin"
    programs.mkdir()
    program = programs / "vcgencmd"
    program.write_text('#!/bin/sh\n[ "$1" = get_throttled ] && echo throttled=0x50000\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    assert machine.throttled() == "0x50000"
    found = findings()["throttling"]
    assert found.severity == "warning"
    assert "under-voltage since the start" in found.found


def test_another_machine_is_not_asked_for_throttling(monkeypatch, tmp_path):
    program = tmp_path / "vcgencmd"
    program.write_text("#!/bin/sh\necho throttled=0x1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.throttled() is None


def test_a_32_bit_system_is_told_what_it_misses(board, monkeypatch):
    board(**{"proc/cpuinfo": "Features : half neon vfpv4\nCPU implementer : 0x41\nCPU part : 0xd08\n"})
    monkeypatch.setattr(machine, "architecture", lambda: "armv7l")
    found = findings()["CPU"]
    assert found.severity == "info"
    assert "32-bit" in found.found
    assert "64-bit" in found.fix


def test_a_slow_governor_and_heat_are_warned_of(board):
    board(
        **{
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave",
            "sys/class/thermal/thermal_zone0/temp": "83000",
        }
    )
    found = findings()
    assert found["frequency governor"].severity == "warning"
    assert found["temperature"].severity == "warning"
