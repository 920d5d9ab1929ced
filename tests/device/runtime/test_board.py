"""A board is recognized by its device tree, and only the user and the system's limits outweigh its table."""

from __future__ import annotations

import dataclasses

import pytest

import obert_edge
from obert_edge.bundle.container import Bundle, write_bundle
from obert_edge.bundle.manifest import BoardFacts
from obert_edge.device.commands.doctor import doctor
from obert_edge.device.runtime import machine
from obert_edge.device.runtime.board import default_cache_bytes, default_threads, find_board
from obert_edge.device.runtime.verify import verify
from obert_edge.errors import UsageError

BOARDS = [
    BoardFacts("Raspberry Pi 4", 3, 2 << 10),
    BoardFacts("Raspberry Pi 4 Model A", 1, 0),
    BoardFacts("Raspberry Pi 5", 4, 512 << 10),
]


@pytest.fixture
def board(tmp_path, monkeypatch):
    """A function: what this machine's device tree says from now on."""
    monkeypatch.setattr(machine, "ROOT", tmp_path / "root")
    monkeypatch.setattr(machine, "affinity", lambda: 8)

    def become(model: str) -> None:
        path = tmp_path / "root" / "proc" / "device-tree" / "model"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(model + "\0")

    return become


@pytest.fixture
def bundle(tmp_path, classifier):
    """The classifier, built for a target that knows :data:`BOARDS`."""
    with Bundle.open(classifier) as opened:
        members = {name: bytes(opened.member(name)) for name in opened.names if name != "manifest.json"}
        return write_bundle(
            tmp_path / "board.oeb", dataclasses.replace(opened.manifest, boards=BOARDS), members
        )


@pytest.mark.parametrize(
    ("model", "found"),
    [
        ("Raspberry Pi 4 Model B Rev 1.4", 0),
        ("Raspberry Pi 4 Model A Rev 1.0", 1),
        ("Raspberry Pi 5 Model B Rev 1.0", 2),
        ("Raspberry Pi 400 Rev 1.0", 0),
        ("Raspberry Pi 3 Model B", None),
    ],
)
def test_the_closest_name_counts(board, model, found):
    board(model)
    assert find_board(BOARDS) == (None if found is None else BOARDS[found])


def test_without_a_device_tree_nothing_changes(board):
    assert find_board(BOARDS) is None
    assert default_threads(None) == 8
    assert default_cache_bytes(None) == 0


def test_a_session_starts_what_the_board_takes_unless_told_otherwise(board, bundle):
    board("Raspberry Pi 4 Model B Rev 1.4")
    with obert_edge.load(bundle) as session:
        assert (session.threads, session.cache_bytes) == (3, 2 << 10)
    with obert_edge.load(bundle, threads=2, cache_bytes=0) as session:
        assert (session.threads, session.cache_bytes) == (2, 0)
    with pytest.raises(UsageError, match="cache_bytes"):
        obert_edge.load(bundle, cache_bytes=-1)


def test_the_system_allows_no_more_than_it_allows(board, monkeypatch, tmp_path):
    board("Raspberry Pi 4 Model B Rev 1.4")
    quota = tmp_path / "root" / "sys" / "fs" / "cgroup" / "cpu.max"
    quota.parent.mkdir(parents=True)
    quota.write_text("200000 100000")
    assert default_threads(BOARDS[0]) == 2
    monkeypatch.setattr(machine, "affinity", lambda: 1)
    assert default_threads(BOARDS[0]) == 1


def test_what_is_verified_is_what_runs(board, bundle):
    board("Raspberry Pi 4 Model B Rev 1.4")
    verification = verify(bundle)
    assert {check.threads for check in verification.checks} == {1, 3}
    verification.require()


def test_the_doctor_says_what_the_board_gets(board, bundle, classifier):
    board("Raspberry Pi 5 Model B Rev 1.0")
    findings = {finding.subject: finding for finding in doctor(bundle).findings}
    assert findings["board"].found == (
        "Raspberry Pi 5 Model B Rev 1.0: 4 threads, linears in tiles for 512 KB of cache each"
    )
    assert "board" not in {finding.subject for finding in doctor(classifier).findings}
