"""``deploy``: the new bundle is in place, verified there; or the older one is, as it was."""

from __future__ import annotations

import json
import shlex
import sys
import threading

import pytest

from obert_edge.bundle.cases import write_cases
from obert_edge.bundle.container import CASES, Bundle, sign_bundle, write_bundle
from obert_edge.bundle.packed import pack_bundle
from obert_edge.cli import run_command
from obert_edge.errors import BundleError, DeviceError, UnsupportedDeviceError, UsageError, VerificationError
from obert_edge.host.remote import deploy, roll_back
from obert_edge.host.signing import make_keys, read_signer

ADDRESS = "ssh://device:models/"


@pytest.fixture
def older(device, classifier, tmp_path):
    """What is on the device: the same model signed, so that it is another file."""
    path = sign_bundle(classifier, read_signer(make_keys(tmp_path / "old.key")[0]), tmp_path / "model.oeb")
    (device.home / "models").mkdir()
    (device.home / "models/model.oeb").write_bytes(path.read_bytes())
    return path.read_bytes()


def with_wrong_results(bundle, output):
    """A bundle whose hashes are right and whose embedded results are not."""
    with Bundle.open(bundle) as opened:
        members = {name: bytes(opened.member(name)) for name in opened.manifest.members}
        cases = opened.cases
        for case in cases:
            for name in case.outputs:
                case.outputs[name] = case.outputs[name] + 1
        return write_bundle(output, opened.manifest, {**members, CASES: write_cases(cases)})


def files(device):
    return {path.name: path.read_bytes() for path in (device.home / "models").iterdir()}


def test_the_first_bundle_of_a_device(device, classifier):
    outcome = deploy(classifier, ADDRESS)
    assert (outcome.exit_code, outcome.data["previous"]) == (0, None)
    assert outcome.data["verification"]["ok"]
    assert files(device) == {"model.oeb": classifier.read_bytes()}


def test_the_older_one_is_kept_and_comes_back_and_goes_again(device, classifier, older):
    outcome = deploy(classifier, ADDRESS)
    assert outcome.data["previous"] == "models/model.oeb.previous"
    new = classifier.read_bytes()
    assert files(device) == {"model.oeb": new, "model.oeb.previous": older}
    assert roll_back("model.oeb", ADDRESS).exit_code == 0
    assert files(device) == {"model.oeb": older, "model.oeb.previous": new}
    roll_back("model.oeb", ADDRESS)
    assert files(device) == {"model.oeb": new, "model.oeb.previous": older}


def test_the_same_bundle_again_does_not_push_the_older_one_out(device, classifier, older):
    deploy(classifier, ADDRESS)
    before = files(device)
    outcome = deploy(classifier, ADDRESS)
    assert "is this bundle already, and verifies there" in outcome.text
    assert files(device) == before


def test_a_whole_bundle_is_in_place_at_every_moment(device, classifier, older):
    place, stop, seen = device.home / "models/model.oeb", threading.Event(), set()

    def watch():
        while not stop.is_set():
            seen.add(place.read_bytes())  # raises where there is none

    watcher = threading.Thread(target=watch)
    watcher.start()
    deploy(classifier, ADDRESS)
    roll_back("model.oeb", ADDRESS)
    stop.set()
    watcher.join()
    assert seen == {older, classifier.read_bytes()}


def test_a_bundle_that_gives_other_results_there(device, classifier, older, tmp_path):
    wrong = with_wrong_results(classifier, tmp_path / "wrong/model.oeb")
    with pytest.raises(VerificationError, match="does not verify there"):
        deploy(wrong, ADDRESS)
    assert files(device) == {"model.oeb": older}


def test_a_bundle_that_is_killed_while_it_verifies(device, classifier, older):
    python = shlex.quote(sys.executable)
    device.program("python3", f'case "$1" in -c) exec {python} "$@";; *) kill -9 $$;; esac')
    with pytest.raises(DeviceError, match="was killed: the device has probably run out of memory"):
        deploy(classifier, ADDRESS)
    assert files(device) == {"model.oeb": older}


def test_what_was_changed_on_the_way_is_not_run(device, classifier, older):
    python, next_ = shlex.quote(sys.executable), device.home / "models/model.oeb.next"
    # The device changes the copy before it is asked for its hash, and would tell if it ran it.
    device.program(
        "python3",
        f"[ -e {next_} ] && echo 1 >> {next_}\n"
        f'case "$1" in -c) ;; *) echo ran > {device.home}/ran;; esac\nexec {python} "$@"',
    )
    with pytest.raises(DeviceError, match="is not the bundle that was checked here"):
        deploy(classifier, ADDRESS)
    assert files(device) == {"model.oeb": older}
    assert not (device.home / "ran").exists()


def test_what_was_changed_after_it_was_verified_does_not_take_the_place(device, classifier, older):
    python, next_ = shlex.quote(sys.executable), device.home / "models/model.oeb.next"
    device.program(
        "python3",
        f'case "$1" in -c) exec {python} "$@";; esac\n{python} "$@"\nstatus=$?\n'
        f"echo 1 >> {next_}\nexit $status",
    )
    with pytest.raises(DeviceError, match="was changed after it was verified"):
        deploy(classifier, ADDRESS)
    assert files(device) == {"model.oeb": older}


def test_a_device_that_cannot_run_it_or_be_reached(device, classifier, older):
    with pytest.raises(DeviceError, match="cannot be reached"):
        deploy(classifier, "ssh://gone")
    device.program("python3", f'exec {sys._base_executable} -I -S "$@"')
    with pytest.raises(UnsupportedDeviceError, match="numpy"):
        deploy(classifier, ADDRESS)
    assert files(device) == {"model.oeb": older}


def test_no_room_for_a_second_bundle(device, classifier, older):
    (device.programs / "cat").unlink()
    device.program("cat", "echo half; echo 'cat: write error: No space left on device' >&2; exit 1")
    with pytest.raises(DeviceError, match="the disk is full"):
        deploy(classifier, ADDRESS)
    assert files(device) == {"model.oeb": older}


def test_a_place_for_the_older_one_that_is_taken(device, classifier, older):
    (device.home / "models/model.oeb.previous").mkdir()
    with pytest.raises(DeviceError, match="was not replaced: .*previous is a folder"):
        deploy(classifier, ADDRESS)
    assert (device.home / "models/model.oeb").read_bytes() == older


def test_only_what_a_trusted_key_signed_is_copied(device, classifier, older, tmp_path):
    (private, public), (_, stranger) = (make_keys(tmp_path / name) for name in ("release.key", "other.key"))
    with pytest.raises(VerificationError, match="is not signed"):
        deploy(classifier, ADDRESS, trusted_keys=[public])
    signed = sign_bundle(classifier, read_signer(private), tmp_path / "signed/model.oeb")
    with pytest.raises(VerificationError, match="says it is signed by"):
        deploy(signed, ADDRESS, trusted_keys=[stranger])
    assert files(device) == {"model.oeb": older}
    deploy(signed, ADDRESS, trusted_keys=[stranger, public])
    assert files(device) == {"model.oeb": signed.read_bytes(), "model.oeb.previous": older}


def test_an_older_bundle_that_is_damaged_is_not_switched_back_to(device, classifier, older):
    deploy(classifier, ADDRESS)
    previous = device.home / "models/model.oeb.previous"
    previous.write_bytes(older[: len(older) // 2])
    with pytest.raises(VerificationError, match="does not verify there"):
        roll_back("model.oeb", ADDRESS)
    assert (device.home / "models/model.oeb").read_bytes() == classifier.read_bytes()


def test_nothing_to_switch_back_to(device, older):
    with pytest.raises(DeviceError, match=r"there is no models/model\.oeb\.previous on ssh://device"):
        roll_back("model.oeb", ADDRESS)
    assert files(device) == {"model.oeb": older}


def test_a_packed_bundle_is_deployed_as_the_bundle(device, classifier, older, tmp_path):
    packed = pack_bundle(classifier, tmp_path / "model.oeb.gz")
    assert deploy(packed, ADDRESS).data["path"] == "models/model.oeb"
    assert files(device) == {"model.oeb": classifier.read_bytes(), "model.oeb.previous": older}
    assert roll_back(packed.name, ADDRESS).exit_code == 0
    assert files(device) == {"model.oeb": older, "model.oeb.previous": classifier.read_bytes()}
    with pytest.raises(VerificationError, match="not signed"):
        deploy(packed, ADDRESS, trusted_keys=[make_keys(tmp_path / "new.key")[1]])
    packed.write_bytes(packed.read_bytes()[:-100])
    with pytest.raises(BundleError, match="ends within a bundle"):
        deploy(packed, ADDRESS)
    assert files(device) == {"model.oeb": older, "model.oeb.previous": classifier.read_bytes()}


def test_what_is_no_bundle_or_no_address_is_refused_before_the_device_is_asked(classifier, tmp_path):
    with pytest.raises(BundleError, match="there is no bundle"):
        deploy(tmp_path / "absent.oeb", "ssh://gone")
    with pytest.raises(UsageError, match="is not the address of a device"):
        deploy(classifier, "device")


def test_the_command_line(device, classifier, older, capsys):
    address = "ssh://device:models/model.oeb"
    assert run_command(["deploy", str(classifier), address, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["previous"] == "models/model.oeb.previous"
    assert run_command(["deploy", "model.oeb", address, "--rollback"]) == 0
    assert files(device)["model.oeb"] == older
    assert run_command(["deploy", "model.oeb", address, "--rollback", "--key", "ed25519:00"]) == 2
