"""Raspberry Pis under emulation: what was built on this machine gives the same bits on each."""

from __future__ import annotations

import json
import shlex

import pytest

from obert_edge.cli import run_command
from obert_edge.device.runtime.session import load
from obert_edge.host.remote import bench_devices
from tests.emulation.bundles import make_bundle, make_random_bundle
from tools.emulation.emulated import MACHINES, PI_32_BIT

PI_4, PI_5 = MACHINES[1], MACHINES[2]
TEXT = "the film is good."


@pytest.fixture(scope="module")
def answer(tmp_path_factory):
    """What this machine says to :data:`TEXT`."""
    with load(make_bundle(tmp_path_factory.mktemp("model"), "x86")) as session:
        return json.loads(json.dumps([prediction.to_dict() for prediction in session.predict([TEXT])]))


def target_of(machine):
    return "armhf" if machine is PI_32_BIT else "rpi"


@pytest.mark.parametrize("machine", [*MACHINES, PI_32_BIT], ids=lambda machine: machine.name)
def test_a_bundle_built_here_verifies_bit_for_bit_on_every_kernel_of_the_core(emulate, bundle_for, machine):
    done = emulate(machine).run(bundle_for(target_of(machine)), "verify", "--json")
    assert done.returncode == 0, done.stderr
    checks = json.loads(done.stdout)["checks"]
    assert all(check["failures"] == [] and check["batches"] for check in checks)
    assert list(dict.fromkeys(check["implementation"] for check in checks)) == list(machine.implementations)


@pytest.mark.parametrize("machine", [PI_5, PI_32_BIT], ids=lambda machine: machine.name)
@pytest.mark.parametrize("architecture", ["mpnet", "modernbert", "deberta-v2", "mobilebert"])
def test_a_bundle_with_ops_of_its_own_verifies_too(emulate, tmp_path, machine, architecture):
    bundle = make_random_bundle(tmp_path, target_of(machine), architecture)
    done = emulate(machine).run(bundle, "verify", "--json")
    assert done.returncode == 0, done.stderr
    checks = json.loads(done.stdout)["checks"]
    assert all(check["failures"] == [] and check["batches"] for check in checks)


@pytest.mark.parametrize("machine", [*MACHINES, PI_32_BIT], ids=lambda machine: machine.name)
def test_it_answers_a_text_as_this_machine_does(emulate, bundle_for, answer, machine):
    done = emulate(machine).run(bundle_for(target_of(machine)), "run", TEXT, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["predictions"] == answer


def test_no_speedup_is_given_under_emulation(emulate, bundle_for):
    options = ["--sequence-length", "16", "--iterations", "1", "--threads", "1", "--json"]
    options += ["--baseline", "onnxruntime", "--min-speedup", "1"]
    done = emulate(PI_5).run(bundle_for("rpi"), "bench", *options)
    assert done.returncode == 3
    report = json.loads(done.stdout)
    assert "qemu" in report["environment"]["emulation"]
    assert report["ratios"] == report["speedup"] == {}
    assert all("not measured" in reason for reason in report["missing"].values())
    assert "run bench on the device" in done.stderr


def test_the_doctor_sees_the_board_and_the_emulation(emulate, bundle_for):
    done = emulate(PI_4).run(bundle_for("rpi"), "doctor", "--json")
    assert done.returncode == 0, done.stderr
    findings = {finding["subject"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert "Cortex-A72" in findings["CPU"]["found"]
    assert findings["board"]["found"].startswith("Raspberry Pi 4 Model B Rev 1.4: ")
    assert "tiles for 256 KB of cache" in findings["board"]["found"]
    assert "no 8-bit dot product" in findings["CPU"]["found"]
    assert findings["emulation"]["severity"] == "warning"
    assert "runs neon" in findings["engine"]["found"]


@pytest.mark.parametrize(
    ("machine", "target", "said"),
    [
        (PI_5, "x86", ("built for x86_64", "--target arm64")),
        (PI_32_BIT, "rpi", ("built for aarch64", "64-bit Python", "--target armhf")),
        (PI_5, "armhf", ("built for armv7l", "--target arm64")),
    ],
    ids=["x86 on arm64", "arm64 on 32-bit", "32-bit on arm64"],
)
def test_a_bundle_for_another_cpu_is_refused_with_the_fix(emulate, bundle_for, machine, target, said):
    done = emulate(machine).run(bundle_for(target), "verify")
    assert done.returncode == 3
    for text in ("all hashes are right", *said):
        assert text in done.stdout


def test_the_cases_of_a_bundle_for_a_pi_are_not_run_on_this_machine(bundle_for, capsys):
    assert run_command(["verify", str(bundle_for("rpi"))]) == 3
    assert "built for aarch64" in capsys.readouterr().out


def test_bench_device_reaches_an_emulated_pi(emulate, bundle_for, device):
    machine = emulate(PI_4)
    device.program("python3", f'exec {shlex.quote(str(machine.python))} -B "$@"')
    options = {"sequence_length": 16, "iterations": 1, "threads": 1}
    outcome = bench_devices(bundle_for("rpi"), ["ssh://device"], **options)
    assert outcome.exit_code == 0, outcome.text
    report = outcome.data["devices"][0]["report"]
    assert report["engine"]["implementation"] == "neon"
    assert "Cortex-A72" in outcome.text
    assert "no speed-up is given" in outcome.text
    wrong = bench_devices(bundle_for("x86"), ["ssh://device"], **options)
    assert wrong.exit_code == 3
    assert "ssh://device is aarch64" in wrong.data["devices"][0]["error"]["message"]
