"""Who signed a bundle is asked at every door where it is run, before anything of it is run."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import obert_edge
from obert_edge.bundle import archive
from obert_edge.bundle.container import ENGINE, MANIFEST, WEIGHTS, Bundle, sign_bundle, write_bundle
from obert_edge.cli import run_command
from obert_edge.device.export.litert_models import write_encoder_tflite
from obert_edge.device.runtime.verify import verify
from obert_edge.errors import BundleError, UnsupportedDeviceError, UsageError, VerificationError
from obert_edge.host.signing import make_keys, read_signer


@pytest.fixture
def release(tmp_path):
    return make_keys(tmp_path / "release.key")


@pytest.fixture
def stranger(tmp_path):
    return make_keys(tmp_path / "stranger.key")


@pytest.fixture
def signed(tmp_path, classifier, release):
    return sign_bundle(classifier, read_signer(release[0]), tmp_path / "signed.oeb")


def with_engine(path, library):
    """The bundle with another engine library, and every checksum of the archive set anew."""
    with Bundle.open(path) as bundle:
        members = {name: bytes(bundle.member(name)) for name in bundle.names}
    members[ENGINE] = library.ljust(len(members[ENGINE]), b"\0")
    stream = io.BytesIO()
    archive.write_archive(stream, {MANIFEST: members.pop(MANIFEST), **members})
    path.write_bytes(stream.getvalue())
    return path


def test_a_signed_bundle_answers_as_the_unsigned_one(signed, classifier, release, stranger):
    with obert_edge.load(signed, trusted_keys=[stranger[1], release[1]]) as session:
        trusted = session.run([[1, 2, 3]])["logits"]
    for path in (signed, classifier):
        with obert_edge.load(path) as session:
            assert session.run([[1, 2, 3]])["logits"].tobytes() == trusted.tobytes()


@pytest.mark.parametrize("level", ["header", "checksums", "full"])
def test_a_load_that_asks_for_keys_checks_every_hash_before_it_looks_at_the_engine(signed, release, level):
    forged = with_engine(signed, b"not a library")
    with pytest.raises(UnsupportedDeviceError):  # the checksum is right, so the engine is looked at
        obert_edge.load(forged)
    with pytest.raises(BundleError, match="libobert_edge.so' of .* is altered: its hash"):
        obert_edge.load(forged, verify=level, trusted_keys=[release[1]])


def test_a_load_refuses_what_no_trusted_key_signed(signed, classifier, stranger):
    with pytest.raises(VerificationError, match="is not signed"):
        obert_edge.load(classifier, trusted_keys=[stranger[1]])
    with pytest.raises(VerificationError, match="says it is signed by 'ed25519:"):
        obert_edge.load(signed, trusted_keys=[stranger[1].read_text().strip()])
    with pytest.raises(UsageError, match="trusted_keys is empty"):
        obert_edge.load(signed, trusted_keys=[])


@pytest.mark.parametrize("keys", [5, b"ed25519:", iter(()), "ed25519:", {}])
def test_trusted_keys_are_a_list_of_one_or_more(signed, keys):
    with pytest.raises(UsageError, match="trusted_keys is .*; expected a list of one or more public keys"):
        obert_edge.load(signed, trusted_keys=keys)


@pytest.mark.parametrize("key", [5, None, b"ed25519:"])
def test_a_key_that_is_neither_text_nor_path_is_refused(signed, key):
    with pytest.raises(UsageError, match="a public key is .*; expected a text or a pathlib.Path"):
        obert_edge.load(signed, trusted_keys=[key])


def test_files_and_signature_are_checked_on_a_machine_that_cannot_run_the_bundle(
    classifier, release, stranger, tmp_path, capsys
):
    with Bundle.open(classifier) as bundle:
        members = {name: bytes(bundle.member(name)) for name in bundle.names if name != MANIFEST}
        engine = bytearray(members[ENGINE])
        engine[18:20] = (22).to_bytes(2, "little")  # e_machine of IBM S/390
        path = write_bundle(tmp_path / "other.oeb", bundle.manifest, {**members, ENGINE: bytes(engine)})
    sign_bundle(path, read_signer(release[0]), path)
    command = ["verify", str(path), "--json"]
    assert run_command([*command, "--key", str(release[1])]) == 0
    printed = capsys.readouterr()
    for said in (
        "which is trusted",
        "hashes and signature are right",
        "python3 other.oeb verify",
        "ELF machine 22",
    ):
        assert said in printed.err
    assert "FAILED" not in printed.err and "\nverified" not in printed.err
    found = json.loads(printed.out)
    assert (found["trusted"], found["ok"], found["checks"]) == (True, False, [])
    assert "was built for ELF machine 22" in found["not_run"]
    assert "error" not in found

    assert run_command(command) == 3
    printed = capsys.readouterr()
    assert "all hashes are right, but the 4 embedded cases were not run" in printed.err
    found = json.loads(printed.out)
    assert (found["error"], found["trusted"]) == ("UnsupportedDeviceError", False)
    assert found["fix"].startswith("run `python3 other.oeb verify` on the device; for this machine, build it")

    assert run_command([*command, "--key", str(stranger[1])]) == 1
    assert json.loads(capsys.readouterr().out)["error"] == "VerificationError"


def test_a_verification_says_who_signed_and_whether_that_was_checked(signed, classifier, release):
    key = release[1].read_text().strip()
    checked = verify(signed, threads=1, implementation="scalar", trusted_keys=[release[1]])
    assert checked.ok and (checked.signed_by, checked.trusted) == (key, True)
    assert f"signed by {key}, which is trusted" in checked.to_text()
    unasked = verify(signed, threads=1, implementation="scalar")
    assert unasked.ok and (unasked.signed_by, unasked.trusted) == (key, False)
    assert "no key was given to check that with" in unasked.to_text()
    assert "not signed" in verify(classifier, threads=1, implementation="scalar").to_text()


@pytest.mark.parametrize("verb", ["verify", "run"])
def test_the_command_line_asks_for_keys(signed, classifier, release, stranger, capsys, verb):
    text = ["the film is good"] if verb == "run" else []

    def code(path, *keys):
        words = [word for key in keys for word in ("--key", str(key))]
        return run_command([verb, str(path), *text, *words, "--threads", "1", "--json"])

    assert code(signed, stranger[1], release[1]) == 0
    assert code(signed) == code(classifier) == 0
    capsys.readouterr()
    assert code(signed, stranger[1]) == 1
    assert json.loads(capsys.readouterr().out)["error"] == "VerificationError"
    assert code(classifier, release[1]) == 1
    assert "is not signed" in json.loads(capsys.readouterr().out)["message"]
    assert code(signed, release[0]) == 2
    assert "holds a private key" in json.loads(capsys.readouterr().out)["message"]


def test_a_bundle_is_not_asked_about_itself(bare_device, release):
    code, printed, _ = bare_device("verify", "--key", release[1].read_text().strip(), "--json")
    assert code == 2
    assert "its own code is running" in printed["message"]
    assert "obert-edge verify model.oeb --key" in printed["fix"]


def test_a_device_with_numpy_alone_checks_a_new_bundle_with_the_code_of_one_it_trusts(
    tmp_path, classifier, signed, release, stranger
):
    """As the guide has it: the older bundle on the path, nothing installed but numpy."""
    (tmp_path / "packages").mkdir()
    source = Path(np.__file__).parent
    for package in (source, source.parent / "numpy.libs"):
        if package.exists():
            (tmp_path / "packages" / package.name).symlink_to(package)
    program = (
        "import sys; sys.path[:0] = sys.argv[1:3]; import obert_edge\n"
        "assert obert_edge.__file__.startswith(sys.argv[1]), obert_edge.__file__\n"
        "with obert_edge.load(sys.argv[3], threads=1, trusted_keys=sys.argv[4:]) as session:\n"
        "    print(session.manifest.signature.key)"
    )

    def check(key):
        paths = map(str, (classifier, tmp_path / "packages", signed, key))
        words = [sys.executable, "-I", "-S", "-c", program, *paths]
        return subprocess.run(words, capture_output=True, text=True, timeout=60)

    assert check(release[1]).stdout == release[1].read_text()
    refused = check(stranger[1])
    assert refused.returncode == 1 and "VerificationError" in refused.stderr


def test_inspect_names_the_key_and_says_that_it_checked_nothing(signed, classifier, release, capsys):
    assert run_command(["inspect", str(signed)]) == 0
    key = release[1].read_text().strip()
    assert f"says it is signed by {key} (`verify --key` checks it)" in capsys.readouterr().out
    assert run_command(["inspect", str(classifier)]) == 0
    assert "\nnot signed\n" in capsys.readouterr().out


def test_a_file_for_litert_is_that_of_the_unsigned_bundle_and_an_altered_one_gives_none(
    signed, classifier, tmp_path
):
    """Such a file has no place for a signature: it is made from a bundle that was checked."""
    pytest.importorskip("ai_edge_litert")
    made = [write_encoder_tflite(path, tmp_path / f"{path.stem}.tflite") for path in (signed, classifier)]
    assert made[0].read_bytes() == made[1].read_bytes()
    with Bundle.open(signed) as bundle:
        weights = bytes(bundle.member(WEIGHTS))
    content = signed.read_bytes()
    place = content.index(weights[: 1 << 12]) + 1
    signed.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    with pytest.raises(BundleError, match="'weights.bin'.*altered"):
        write_encoder_tflite(signed, tmp_path / "altered.tflite")
    assert not (tmp_path / "altered.tflite").exists()
