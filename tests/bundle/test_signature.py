"""A signed bundle opens for those who trust its key exactly when nothing of it was changed since."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from obert_edge.bundle import archive
from obert_edge.bundle.container import (
    CASES,
    ENGINE,
    MANIFEST,
    PROGRAM,
    WEIGHTS,
    Bundle,
    sign_bundle,
    write_bundle,
)
from obert_edge.bundle.manifest import Manifest
from obert_edge.bundle.signature import Signer, key_text, read_key, sign_manifest
from obert_edge.errors import BundleError, UsageError, VerificationError
from tests.bundle.samples import sample_manifest, sample_members, write_sample


def signer_of(seed: int) -> Signer:
    private = Ed25519PrivateKey.from_private_bytes(bytes([seed] * 32))
    return Signer(key_text(private.public_key().public_bytes_raw()), private.sign)


OURS, OTHER = signer_of(1), signer_of(2)


@pytest.fixture
def signed(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "m.oeb", sample_manifest(), sample_members(), OURS)


def forged(path: Path, change: Callable[[dict, dict], None]) -> Path:
    """The bundle as somebody without the key can change it: every checksum of the archive is right."""
    with Bundle.open(path) as bundle:
        members = {name: bytes(bundle.member(name)) for name in bundle.names}
    facts = json.loads(members.pop(MANIFEST))
    change(facts, members)
    text = (json.dumps(facts, indent=1, sort_keys=True) + "\n").encode()
    stream = io.BytesIO()
    archive.write_archive(stream, {MANIFEST: text, **members})
    path.write_bytes(stream.getvalue())
    return path


def test_a_bundle_signed_by_a_trusted_key_opens_with_all_hashes_checked(signed: Path) -> None:
    for keys in ([OURS.key], [OTHER.key, OURS.key]):
        with Bundle.open(signed, trusted_keys=keys) as bundle:
            assert bundle.manifest.signature.key == OURS.key
            assert bytes(bundle.member(ENGINE)) == sample_members()[ENGINE]


def test_a_signature_changes_nothing_for_those_who_ask_for_none(signed: Path, tmp_path: Path) -> None:
    plain = write_sample(tmp_path / "plain.oeb")
    with Bundle.open(signed, "full") as one, Bundle.open(plain, "full") as other:
        assert one.manifest.members == other.manifest.members
        assert one.names == other.names
        assert b"signature" not in bytes(other.member(MANIFEST))


def test_an_older_reader_knows_no_signature_and_reads_the_rest(signed: Path) -> None:
    with Bundle.open(signed) as bundle:
        fields = json.loads(bytes(bundle.member(MANIFEST)))
        assert fields["minimum_reader"] == 1
        del fields["signature"]  # an older reader ignores what it does not know
        again = Manifest.from_json(json.dumps(fields).encode())
        assert again.members == bundle.manifest.members


def test_the_same_key_gives_the_same_bytes_at_once_or_later_and_over_another_signature(
    signed: Path, tmp_path: Path
) -> None:
    plain = write_sample(tmp_path / "plain.oeb")
    later = sign_bundle(plain, OURS, tmp_path / "later.oeb")
    assert later.read_bytes() == signed.read_bytes()
    sign_bundle(later, OTHER, later)
    assert later.read_bytes() != signed.read_bytes()
    assert sign_bundle(later, OURS, later).read_bytes() == signed.read_bytes()


def test_signing_writes_over_no_key(signed: Path, tmp_path: Path) -> None:
    key = tmp_path / "release.key"
    key.write_text("-----BEGIN PRIVATE KEY-----")
    with pytest.raises(UsageError, match="is there already and is no bundle: it would be lost"):
        sign_bundle(signed, OURS, key)
    assert key.read_text() == "-----BEGIN PRIVATE KEY-----"


def test_signing_keeps_what_a_later_version_said(tmp_path: Path) -> None:
    path = forged(write_sample(tmp_path / "m.oeb"), lambda facts, _: facts.update(of_tomorrow=[1, 2]))
    with Bundle.open(sign_bundle(path, OURS, path), trusted_keys=[OURS.key]) as bundle:
        assert json.loads(bytes(bundle.member(MANIFEST)))["of_tomorrow"] == [1, 2]


def test_an_unsigned_bundle(tmp_path: Path) -> None:
    path = write_sample(tmp_path / "m.oeb")
    with pytest.raises(VerificationError, match="is not signed; expected a signature by ed25519:") as caught:
        Bundle.open(path, trusted_keys=[OURS.key])
    assert "obert-edge sign" in caught.value.hint


def test_a_bundle_that_another_key_signed(signed: Path) -> None:
    with pytest.raises(VerificationError) as caught:
        Bundle.open(signed, trusted_keys=[OTHER.key])
    assert OURS.key in caught.value.message and f"expected {OTHER.key}" in caught.value.message


def test_a_bundle_whose_signature_was_taken_away(signed: Path) -> None:
    path = forged(signed, lambda facts, _: facts.pop("signature"))
    Bundle.open(path).close()
    with pytest.raises(VerificationError, match="is not signed"):
        Bundle.open(path, trusted_keys=[OURS.key])


def claim_our_key(facts: dict, _: dict) -> None:
    facts["signature"]["key"] = OTHER.key


@pytest.mark.parametrize(
    "change",
    [
        lambda facts, _: facts["task"].update(labels=["good", "bad"]),
        lambda facts, _: facts.update(of_tomorrow=1),
        lambda facts, _: facts["members"][ENGINE].update(sha256="0" * 64),
        lambda facts, _: facts["signature"].update(value="0" * 128),
        lambda facts, _: facts["signature"].update(value=facts["signature"]["value"].upper()),
        lambda facts, _: facts["signature"].update(value=facts["signature"]["value"][:-2]),
        lambda facts, _: facts["signature"].update(value=""),
        lambda facts, _: facts["signature"].update(more=1),
        lambda facts, _: facts["tools"].update(value=facts["signature"]["value"]),
    ],
)
def test_a_manifest_that_was_changed(signed: Path, change: Callable[[dict, dict], None]) -> None:
    path = forged(signed, change)
    with pytest.raises(VerificationError, match="the manifest was altered after it was signed"):
        Bundle.open(path, trusted_keys=[OURS.key])


def test_a_signature_under_the_name_of_another_key(signed: Path) -> None:
    path = forged(signed, claim_our_key)
    with pytest.raises(VerificationError, match="or somebody else signed it"):
        Bundle.open(path, trusted_keys=[OTHER.key])


@pytest.mark.parametrize("name", [PROGRAM, WEIGHTS, CASES, ENGINE, "__main__.py", "obert_edge/__init__.py"])
def test_a_member_that_was_changed_is_found_though_its_checksum_is_right(signed: Path, name: str) -> None:
    def change(facts: dict, members: dict) -> None:
        members[name] = members[name][:-1] + bytes([members[name][-1] ^ 1])

    path = forged(signed, change)
    Bundle.open(path, "checksums").close()  # a CRC-32 is no guard: whoever changes a file sets it anew
    with pytest.raises(BundleError, match=f"member '{name}' of .* is altered: its hash"):
        Bundle.open(path, trusted_keys=[OURS.key])


@pytest.mark.parametrize("name", ["obert_edge/extra.py", "modules.bin"])
def test_a_member_that_the_manifest_does_not_list(signed: Path, name: str) -> None:
    path = forged(signed, lambda facts, members: members.update({name: b"import os\n"}))
    with pytest.raises(BundleError, match="disagree about members"):
        Bundle.open(path, trusted_keys=[OURS.key])


def test_a_field_that_looks_like_a_signature_is_not_taken_for_it() -> None:
    manifest = sample_manifest(tokenizer={"special_tokens": {"value": "0" * 128}})
    with pytest.raises(UsageError, match="128 zeros"):
        sign_manifest(manifest.to_json(), OURS)
    text = sign_manifest(sample_manifest(tokenizer={"x": '"value": "' + "0" * 128 + '"'}).to_json(), OURS)
    assert json.loads(text)["tokenizer"]["x"].endswith('0"')


def test_a_key_is_a_text_or_a_file_of_it(tmp_path: Path) -> None:
    path = tmp_path / "release.pub"
    path.write_text(OURS.key + "\n")
    assert read_key(path) == read_key(str(path)) == read_key(OURS.key) == OURS.key


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("ed25519:12", "is no public key"),
        ("ed25519:" + "00" * 32, "is no public key"),  # a point of small order: anybody can sign for it
        (OURS.key + "0", "is no public key"),
        ("-----BEGIN PRIVATE KEY-----\nabc\n", "holds a private key"),
        ("", "is no public key"),
    ],
)
def test_what_is_no_public_key(tmp_path: Path, text: str, found: str) -> None:
    path = tmp_path / "release.pub"
    path.write_text(text)
    with pytest.raises(UsageError, match=found):
        read_key(path)


def test_keys_that_cannot_be_read_or_are_none_are_refused_before_the_bundle_is_read(tmp_path: Path) -> None:
    absent = tmp_path / "absent.oeb"
    with pytest.raises(UsageError, match=r"absent\.pub cannot be read"):
        Bundle.open(absent, trusted_keys=[tmp_path / "absent.pub"])
    with pytest.raises(UsageError, match="trusted_keys is empty"):
        Bundle.open(absent, trusted_keys=[])
    with pytest.raises(UsageError, match="expected a list"):
        Bundle.open(absent, trusted_keys=OURS.key)
