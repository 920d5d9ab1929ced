"""Bundles to a hub and back, checked before anything is lost."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from obert_edge.bundle.container import sign_bundle
from obert_edge.bundle.packed import pack_bundle
from obert_edge.cli import run_command
from obert_edge.errors import BundleError, HubError, UsageError, VerificationError
from obert_edge.host.hub.card import MARK, card_path, write_card
from obert_edge.host.hub.transfer import pull, push
from obert_edge.host.signing import make_keys, read_signer
from tests.host.hub.conftest import offline
from tests.host.hub.fake_hub import TOKEN, Hub

REPOSITORY = "org/small-oeb"


@pytest.fixture(autouse=True)
def token(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)


def test_a_push_and_a_pull(hub: Hub, bundle: Path, tmp_path: Path) -> None:
    assert run_command(["push", str(bundle), REPOSITORY]) == 0
    files = hub.repositories[REPOSITORY].commits[hub.repositories[REPOSITORY].refs["main"]]
    assert files["small.oeb"] == bundle.read_bytes()
    assert MARK in files["README.md"].decode()
    assert run_command(["pull", REPOSITORY, "-o", "here.oeb"]) == 0
    assert (tmp_path / "here.oeb").read_bytes() == bundle.read_bytes()
    assert (tmp_path / "here.oeb.md").read_bytes() == files["README.md"]
    assert run_command(["verify", "here.oeb"]) == 0


def test_a_packed_push_and_its_pull(hub: Hub, bundle: Path, tmp_path: Path) -> None:
    assert run_command(["push", str(bundle), REPOSITORY, "--pack"]) == 0
    files = hub.repositories[REPOSITORY].commits[hub.repositories[REPOSITORY].refs["main"]]
    assert set(files) == {"small.oeb.gz", "README.md", ".gitattributes"}
    assert len(files["small.oeb.gz"]) < bundle.stat().st_size
    assert run_command(["pull", REPOSITORY]) == 0
    assert (tmp_path / "small.oeb").read_bytes() == bundle.read_bytes()
    assert card_path(tmp_path / "small.oeb").is_file()


def test_a_damaged_packed_bundle_replaces_nothing(hub: Hub, bundle: Path, tmp_path: Path) -> None:
    small = bytearray(pack_bundle(bundle, tmp_path / "small.oeb.gz").read_bytes())
    small[len(small) // 2] ^= 1
    hub.repository(REPOSITORY).commit({"small.oeb.gz": bytes(small)})
    shutil.copyfile(bundle, tmp_path / "mine.oeb")
    with pytest.raises(BundleError):
        pull(REPOSITORY, tmp_path / "mine.oeb")
    assert (tmp_path / "mine.oeb").read_bytes() == bundle.read_bytes()


def test_both_files_arrive_in_one_commit(hub: Hub, bundle: Path) -> None:
    pushed = push(bundle, REPOSITORY)
    assert [line for line in hub.requests if "/commit/" in line] == [
        f"POST /api/models/{REPOSITORY}/commit/main"
    ]
    assert pushed.commit == hub.repositories[REPOSITORY].refs["main"]
    assert pushed.url == f"{hub.url}/{REPOSITORY}"


def test_the_card_beside_the_bundle_goes_along(hub: Hub, bundle: Path, tmp_path: Path) -> None:
    mine = tmp_path / "small.oeb"
    shutil.copyfile(bundle, mine)
    card_path(mine).write_text("# Our own words\n")
    push(mine, REPOSITORY)
    files = hub.repositories[REPOSITORY].commits[hub.repositories[REPOSITORY].refs["main"]]
    assert files["README.md"] == b"# Our own words\n"


def test_a_repositorys_own_card_stays(hub: Hub, bundle: Path) -> None:
    hub.repository(REPOSITORY).commit({"README.md": b"# Theirs\n"})
    assert push(bundle, REPOSITORY).card is False
    files = hub.repositories[REPOSITORY].commits[hub.repositories[REPOSITORY].refs["main"]]
    assert files["README.md"] == b"# Theirs\n"
    assert "small.oeb" in files


def test_a_private_repository_is_made_private(hub: Hub, bundle: Path) -> None:
    push(bundle, REPOSITORY, private=True)
    assert hub.repositories[REPOSITORY].private
    assert pull(REPOSITORY, Path("again.oeb")).bundle.is_file()


def test_a_push_without_a_token(hub: Hub, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(HubError) as caught:
        push(bundle, REPOSITORY)
    assert "hf auth login" in caught.value.hint


def test_a_damaged_bundle_is_not_pushed(hub: Hub, bundle: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.oeb"
    data = bytearray(bundle.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)
    with pytest.raises(BundleError):
        push(damaged, REPOSITORY)
    assert not hub.requests


def test_a_damaged_bundle_does_not_take_the_place_of_a_good_one(
    hub: Hub, bundle: Path, tmp_path: Path
) -> None:
    data = bytearray(bundle.read_bytes())
    data[len(data) // 2] ^= 1
    hub.repository(REPOSITORY).commit({"small.oeb": bytes(data)})
    shutil.copyfile(bundle, "small.oeb")
    with pytest.raises(BundleError):
        pull(REPOSITORY)
    assert Path("small.oeb").read_bytes() == bundle.read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"cache", "small.oeb"}


def test_a_signature_is_asked_for(hub: Hub, bundle: Path, tmp_path: Path) -> None:
    private, public = make_keys(tmp_path / "ours")
    _, other = make_keys(tmp_path / "theirs")
    signed = sign_bundle(bundle, read_signer(private), tmp_path / "signed.oeb")
    push(signed, REPOSITORY)
    with pytest.raises(VerificationError):
        pull(REPOSITORY, Path("a.oeb"), trusted_keys=[other])
    assert not Path("a.oeb").exists()
    assert pull(REPOSITORY, Path("a.oeb"), trusted_keys=[public]).bundle.is_file()


def test_what_was_pulled_works_offline(hub: Hub, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    push(bundle, REPOSITORY)
    first = pull(REPOSITORY, Path("a.oeb"))
    offline(monkeypatch)
    second = pull(REPOSITORY, Path("b.oeb"))
    assert second.commit == first.commit
    assert second.bundle.read_bytes() == bundle.read_bytes()


def test_several_bundles_are_told_apart(hub: Hub, bundle: Path) -> None:
    data = bundle.read_bytes()
    hub.repository(REPOSITORY).commit({"a.oeb": data, "b/c.oeb": data})
    with pytest.raises(UsageError, match=r"2 bundles: a\.oeb, b/c\.oeb"):
        pull(REPOSITORY)
    assert pull(REPOSITORY, file="b/c.oeb").bundle == Path("c.oeb")
    with pytest.raises(HubError, match=r"no bundle d\.oeb"):
        pull(REPOSITORY, file="d.oeb")


def test_a_repository_without_a_bundle(hub: Hub) -> None:
    with pytest.raises(HubError, match="obert-edge build") as caught:
        pull("org/small")
    assert "has no bundle" in caught.value.message


def test_files_of_other_kinds_are_not_overwritten(hub: Hub, bundle: Path) -> None:
    push(bundle, REPOSITORY)
    Path("notes.txt").write_text("mine")
    hub.requests.clear()
    with pytest.raises(UsageError, match="is no bundle"):
        pull(REPOSITORY, Path("notes.txt"))
    assert not hub.requests
    Path("a.oeb.md").write_text("mine")
    assert pull(REPOSITORY, Path("a.oeb")).card is None
    assert Path("a.oeb.md").read_text() == "mine"


def test_a_file_that_is_not_called_a_bundle_is_not_pushed(hub: Hub, bundle: Path, tmp_path: Path) -> None:
    other = tmp_path / "model.bin"
    shutil.copyfile(bundle, other)
    with pytest.raises(UsageError, match=r"\.oeb"):
        push(other, REPOSITORY)
    assert write_card(other).name == "model.bin.md"
