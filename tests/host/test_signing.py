"""Keys are made once, kept from others, and sign what `verify` then accepts."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from obert_edge.bundle.container import Bundle, sign_bundle
from obert_edge.bundle.ed25519 import verify
from obert_edge.bundle.signature import read_key
from obert_edge.cli import run_command
from obert_edge.errors import UsageError
from obert_edge.host.compiler import build
from obert_edge.host.signing import make_keys, read_signer
from obert_edge.host.stages.stage_build import Build, BuildSettings
from tests.bundle.samples import write_sample
from tests.device.bundles import TEXTS, make_bundle


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return make_keys(tmp_path / "keys/release.key")


def pem(key, passphrase: bytes = b"") -> bytes:
    encryption = (
        serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    )
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def test_only_the_user_can_read_the_private_key_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        private, public = make_keys(tmp_path / "release.key")
    finally:
        os.umask(before)
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert public == tmp_path / "release.pub"
    assert stat.S_IMODE(public.stat().st_mode) == 0o644


def test_a_key_pair_belongs_together(keys: tuple[Path, Path]) -> None:
    private, public = keys
    signer = read_signer(private)
    assert signer.key == read_key(public)
    assert verify(bytes.fromhex(signer.key.partition(":")[2]), b"message", signer.sign(b"message"))


@pytest.mark.parametrize("taken", ["release.key", "release.pub"])
def test_no_key_is_overwritten_and_nothing_is_left_half_made(tmp_path: Path, taken: str) -> None:
    (tmp_path / taken).write_text("precious")
    with pytest.raises(UsageError, match="never overwritten"):
        make_keys(tmp_path / "release.key")
    assert [path.name for path in tmp_path.iterdir()] == [taken]
    assert (tmp_path / taken).read_text() == "precious"


def test_a_private_key_is_not_called_like_a_public_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"ends in \.pub"):
        make_keys(tmp_path / "release.pub")


def test_what_cannot_sign(tmp_path: Path) -> None:
    path = tmp_path / "release.key"
    with pytest.raises(UsageError, match="cannot be read"):
        read_signer(path)
    for content, found in (
        (b"ed25519:" + b"0" * 64, "is no private key in PEM"),
        (pem(ec.generate_private_key(ec.SECP256R1())), "expected a private key of Ed25519"),
        (pem(ed25519.Ed25519PrivateKey.generate(), b"secret"), "has a passphrase"),
    ):
        path.write_bytes(content)
        with pytest.raises(UsageError, match=found):
            read_signer(path)


def test_without_cryptography_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives", None)
    with pytest.raises(UsageError, match="not installed") as caught:
        make_keys(tmp_path / "release.key")
    assert "obert-edge[sign]" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_the_command_line_makes_keys_signs_and_says_who_signed(tmp_path: Path, capsys) -> None:
    bundle, private = write_sample(tmp_path / "m.oeb"), tmp_path / "release.key"
    assert run_command(["keygen", "-o", str(private), "--json"]) == 0
    key = json.loads(capsys.readouterr().out)["key"]
    assert (tmp_path / "release.pub").read_text() == key + "\n"
    assert run_command(["sign", str(bundle), "--key", str(private), "-o", str(bundle), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["signed_by"] == key
    with Bundle.open(bundle, trusted_keys=[tmp_path / "release.pub"]):
        pass
    assert run_command(["keygen", "-o", str(private)]) == 2


def test_a_damaged_bundle_is_not_signed(tmp_path: Path, keys: tuple[Path, Path]) -> None:
    bundle = write_sample(tmp_path / "m.oeb")
    bundle.write_bytes(bundle.read_bytes()[:-100])
    assert run_command(["sign", str(bundle), "--key", str(keys[0]), "-o", str(tmp_path / "n.oeb")]) == 1
    assert not (tmp_path / "n.oeb").exists()


def test_a_build_signs_as_signing_afterwards_does(tmp_path: Path, keys: tuple[Path, Path]) -> None:
    plain = make_bundle(tmp_path, "BertForSequenceClassification", num_labels=2)
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    signed = tmp_path / "signed.oeb"
    words = ["build", str(tmp_path), "-o", str(signed), "--calibration-data", str(tmp_path / "texts.txt")]
    assert run_command([*words, "--sign", str(keys[0])]) == 0
    after = sign_bundle(plain, read_signer(keys[0]), tmp_path / "after.oeb")
    assert signed.read_bytes() == after.read_bytes()


def test_a_key_that_cannot_sign_is_refused_before_the_model_is_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="private key .* cannot be read"):
        build(tmp_path / "no-model", output=tmp_path / "m.oeb", sign=tmp_path / "release.key")


def test_a_recipe_refuses_such_a_key_before_its_first_stage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="private key .* cannot be read"):
        Build().check(BuildSettings(sign=str(tmp_path / "release.key")), None)
