"""``bench --device``: copied whole or not at all, run there, and one table of all devices."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from obert_edge.bundle.container import ENGINE, Bundle, write_bundle
from obert_edge.cli import run_command
from obert_edge.errors import UsageError
from obert_edge.host.remote import bench_devices
from obert_edge.host.remote.device import _RECEIVE

QUICK = {"sequence_length": 16, "iterations": 2, "threads": 1}

#: Ends the sshd session that runs this script's parent.
KILL_SESSION = "read -r _ _ _ session _ < /proc/$PPID/stat; kill -9 $session"


def error_of(outcome, number=0):
    return outcome.data["devices"][number]["error"]


def leftovers(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def gone(path, seconds=10):
    """Whether ``path`` goes away: the device's side may end after ours."""
    deadline = time.monotonic() + seconds
    while path() and time.monotonic() < deadline:
        time.sleep(0.05)
    return not path()


def test_the_bundle_is_copied_and_measured_there(device, classifier):
    outcome = bench_devices(classifier, ["ssh://device:models/"], **QUICK)
    assert outcome.exit_code == 0, outcome.text
    report = outcome.data["devices"][0]["report"]
    assert report["engine"]["latency_ms"]["runs"] == 2
    assert (report["sequence_length"], report["threads"]) == (16, 1)
    assert leftovers(device.home) == ["model.oeb"]
    assert (device.home / "models/model.oeb").read_bytes() == classifier.read_bytes()
    assert "ssh://device:models/" in outcome.text


def test_a_bundle_that_is_there_already_is_not_copied_again(device, classifier):
    place = device.home / "model.oeb"
    bench_devices(classifier, ["ssh://device"], **QUICK)
    before = place.stat().st_ino
    bench_devices(classifier, ["ssh://device"], **QUICK)
    assert place.stat().st_ino == before
    place.write_bytes(b"an older bundle")
    assert bench_devices(classifier, ["ssh://device"], **QUICK).exit_code == 0
    assert place.read_bytes() == classifier.read_bytes()


def test_one_table_of_all_devices_and_one_that_fails_spoils_no_other(device, classifier):
    devices = ["ssh://device:a/", "ssh://gone", "ssh://device:b/"]
    outcome = bench_devices(classifier, devices, **QUICK)
    assert outcome.exit_code == 1
    assert [result["report"] is not None for result in outcome.data["devices"]] == [True, False, True]
    assert "cannot be reached" in error_of(outcome, 1)["message"]
    assert sum("p50 ms" in line for line in outcome.text.splitlines()) == 1
    for name in devices:
        assert name in outcome.text


def test_the_command_line_prints_the_same(device, classifier, capsys):
    options = ["--sequence-length", "16", "--iterations", "2", "--threads", "1", "--json"]
    assert run_command(["bench", str(classifier), "--device", "ssh://device", *options]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["devices"][0]["report"]["engine"]["name"] == "obert-edge"


def test_a_least_speedup_over_nothing_is_refused_before_a_device_is_asked(device, classifier):
    with pytest.raises(UsageError, match="over a baseline, and none was given"):
        bench_devices(classifier, ["ssh://device"], min_speedup=2.0, **QUICK)
    assert leftovers(device.home) == []


def test_no_python_there(device, classifier):
    (device.programs / "python3").unlink()
    outcome = bench_devices(classifier, ["ssh://device"], **QUICK)
    assert outcome.exit_code == 3
    assert "Python" in error_of(outcome)["message"]
    assert "apt install python3" in error_of(outcome)["fix"]
    assert leftovers(device.home) == []


def test_no_numpy_there(device, classifier):
    device.program("python3", f'exec {sys._base_executable} -I -S "$@"')
    outcome = bench_devices(classifier, ["ssh://device"], **QUICK)
    assert outcome.exit_code == 3
    assert "numpy" in error_of(outcome)["message"]
    assert leftovers(device.home) == []


def test_python_too_old_there(device, classifier):
    device.program("python3", """echo 'obert-edge:{"machine": "x86_64", "python": [3, 7, 3]}'""")
    outcome = bench_devices(classifier, ["ssh://device"], **QUICK)
    assert outcome.exit_code == 3
    assert "3.7.3; 3.9 is needed" in error_of(outcome)["message"]


def test_a_bundle_for_another_cpu_is_refused_before_it_is_copied(device, classifier, tmp_path):
    with Bundle.open(classifier) as bundle:
        members = {name: bytes(bundle.member(name)) for name in bundle.manifest.members}
        library = bytearray(members[ENGINE])
        library[18:20] = (183).to_bytes(2, "little")  # e_machine of AArch64
        other = write_bundle(tmp_path / "other.oeb", bundle.manifest, {**members, ENGINE: bytes(library)})
    outcome = bench_devices(other, ["ssh://device"], **QUICK)
    assert outcome.exit_code == 3
    assert "built for aarch64" in error_of(outcome)["message"]
    assert "ssh://device is x86_64" in error_of(outcome)["message"]
    assert leftovers(device.home) == []


def test_a_disk_too_small(device, classifier):
    if device.small is None:
        pytest.skip("only root can mount a small disk")
    outcome = bench_devices(classifier, [f"ssh://device:{device.small}/deep/er/"], **QUICK)
    assert outcome.exit_code == 1
    assert "free; the bundle has" in error_of(outcome)["message"]


def test_a_disk_that_fills_up_on_the_way(device, classifier):
    (device.programs / "cat").unlink()
    device.program("cat", "echo half; echo 'cat: write error: No space left on device' >&2; exit 1")
    outcome = bench_devices(classifier, ["ssh://device"], **QUICK)
    assert outcome.exit_code == 1
    assert "the disk is full" in error_of(outcome)["message"]
    assert leftovers(device.home) == []


def test_a_folder_that_cannot_be_written(device, classifier):
    (device.home / "taken").write_text("a file where a folder is to be")
    outcome = bench_devices(classifier, ["ssh://device:taken/"], **QUICK)
    assert outcome.exit_code == 1
    assert "cannot be written" in error_of(outcome)["message"]


def test_a_connection_that_breaks_on_the_way_leaves_nothing(device, classifier):
    (device.programs / "cat").unlink()
    device.program("cat", f"read -r line; echo half; {KILL_SESSION}; exec /bin/cat")
    outcome = bench_devices(classifier, ["ssh://device"], **QUICK)
    assert outcome.exit_code == 1
    assert "broke" in error_of(outcome)["message"]
    assert gone(lambda: leftovers(device.home))


def test_what_a_device_that_died_left_is_removed_by_the_next_copy(device, classifier):
    (device.programs / "cat").unlink()
    device.program("cat", f"echo half; {KILL_SESSION}; kill -9 $PPID")
    (device.home / "model.oeb").write_text("the bundle of before")
    assert bench_devices(classifier, ["ssh://device"], **QUICK).exit_code == 1
    assert gone(lambda: len(leftovers(device.home)) != 2)
    (part,) = (name for name in leftovers(device.home) if name != "model.oeb")
    receiver = part.split(".")[-2]  # a process that was killed stays in the table until it is waited for
    assert gone(Path("/proc", receiver).exists)
    assert (device.home / "model.oeb").read_text() == "the bundle of before"
    device.program("cat", 'exec /bin/cat "$@"')
    assert bench_devices(classifier, ["ssh://device"], **QUICK).exit_code == 0
    assert leftovers(device.home) == ["model.oeb"]


@pytest.mark.parametrize(
    ("ending", "message"),
    [
        ("kill -9 $PPID; read -r _", "broke"),
        ("kill -9 $$", "out of memory"),
        ("echo boom >&2; exit 1", "no report: boom"),
    ],
)
def test_a_benchmark_that_ends_without_a_report(device, classifier, ending, message):
    real = f'exec {shlex.quote(sys.executable)} "$@"'
    device.program("python3", f'case "$*" in *" bench "*) {ending};; esac\n{real}')
    outcome = bench_devices(classifier, ["ssh://device"], **QUICK)
    assert outcome.exit_code == 1
    assert message in error_of(outcome)["message"]


@pytest.mark.parametrize("place", ["-I", "-m/model.oeb", "-", "--help/", "a b/-c"])
def test_a_path_that_looks_like_an_option_is_a_path(device, classifier, place):
    """On the interpreter's command line, and on those of the shell that receives the bundle."""
    assert bench_devices(classifier, [f"ssh://device:{place}"], **QUICK).exit_code == 0
    path = device.home / (place + classifier.name if place.endswith("/") else place)
    assert path.read_bytes() == classifier.read_bytes()


@pytest.mark.parametrize("kind", ["pipe", "folder", "link to a device"])
def test_what_is_no_file_there_is_not_replaced(device, classifier, kind):
    place = device.home / "model.oeb"
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    else:
        place.symlink_to("/dev/zero")
    outcome = bench_devices(classifier, ["ssh://device:model.oeb"], **QUICK)
    assert outcome.exit_code == 1
    assert "is no regular file" in error_of(outcome)["message"]
    assert not place.is_file()
    assert [path.name for path in device.home.iterdir()] == ["model.oeb"]


def test_the_device_imports_nothing_of_its_home_folder(device, classifier):
    for name in ("json", "hashlib", "numpy", "platform", "struct"):
        (device.home / f"{name}.py").write_text("raise SystemExit('hostile')\n")
    assert bench_devices(classifier, ["ssh://device"], **QUICK).exit_code == 0


def test_the_receiver_itself_replaces_only_files(tmp_path):
    """Between the question what is there and the copy something else may have been put there."""
    os.mkfifo(tmp_path / "model.oeb")
    words = ["sh", "-c", _RECEIVE, "receive", str(tmp_path), "model.oeb", "3"]
    done = subprocess.run(words, input=b"abc", capture_output=True, check=False, timeout=30)
    assert done.returncode == 41
    assert b"no regular file" in done.stderr
    assert (tmp_path / "model.oeb").is_fifo()
