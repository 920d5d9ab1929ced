"""A copy of an adapter opens the bundle as the adapter did."""

from __future__ import annotations

import copy
import pickle
import shutil
from pathlib import Path

import pytest

import obert_edge
from obert_edge.adapters.opening import Opened
from obert_edge.bundle.container import sign_bundle
from obert_edge.errors import VerificationError
from obert_edge.host.signing import make_keys, read_signer


def test_a_copy_of_one_made_from_a_session_asks_for_its_trusted_keys(embedder: Path, tmp_path: Path) -> None:
    private, public = make_keys(tmp_path / "release.key")
    live = sign_bundle(embedder, read_signer(private), tmp_path / "live.oeb")
    with obert_edge.load(live, threads=1, trusted_keys=[public]) as session:
        opened = Opened(session)
        stored = pickle.dumps(opened)
        again = pickle.loads(stored)
        assert again.session is not session
        again.session.close()
        shutil.copy(embedder, live)  # signed by nobody
        for other in (pickle.loads(stored), copy.copy(opened)):
            with pytest.raises(VerificationError):
                _ = other.session


def test_a_copy_has_the_arguments_of_the_session(
    embedder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(embedder, tmp_path / "model.oeb")
    monkeypatch.chdir(tmp_path)
    with obert_edge.load("model.oeb", threads=1, implementation="scalar", cache_bytes=4096) as session:
        stored = pickle.dumps(Opened(session))
    monkeypatch.chdir("/")
    with pickle.loads(stored).session as again:
        assert (again.threads, again.implementation, again.cache_bytes) == (1, "scalar", 4096)
