"""``Session.reload``: a server goes over to a new file without a call that fails or is half of each."""

from __future__ import annotations

import os
import shutil
import threading
import weakref

import pytest

import obert_edge
from obert_edge.bundle.container import sign_bundle
from obert_edge.errors import BundleError, VerificationError
from obert_edge.host.signing import make_keys, read_signer


@pytest.fixture
def place(tmp_path, classifier):
    path = tmp_path / "model.oeb"
    shutil.copy(classifier, path)
    return path


def switch(new, place):
    """As `deploy` does: another file takes the name."""
    beside = place.with_suffix(".next")
    shutil.copy(new, beside)
    beside.replace(place)


def test_a_file_that_did_not_change_is_not_loaded_again(place):
    with obert_edge.load(place) as session:
        assert session.reload() is session


@pytest.mark.parametrize("how", ["switched", "overwritten"])
def test_a_file_that_changed_is_loaded_and_the_older_session_goes_on(place, answerer, how):
    with obert_edge.load(place, threads=1, implementation="scalar", cache_bytes=0) as older:
        before = older.run([[1, 2, 3]])["logits"].tobytes()
        switch(answerer, place) if how == "switched" else shutil.copy(answerer, place)
        with older.reload() as newer:
            assert newer is not older
            assert "start_logits" in newer.run([[1, 2, 3]])
            assert (newer.threads, newer.implementation, newer.cache_bytes) == (1, "scalar", 0)
            assert newer.reload() is newer
        assert older.run([[1, 2, 3]])["logits"].tobytes() == before


def test_a_file_that_is_refused_leaves_the_older_session_as_it_was(place, classifier):
    with obert_edge.load(place) as session:
        before = session.run([[1, 2, 3]])["logits"].tobytes()
        place.write_bytes(classifier.read_bytes()[:-10])
        with pytest.raises(BundleError):
            session.reload()
        place.unlink()
        with pytest.raises(BundleError, match="there is no bundle"):
            session.reload()
        assert session.run([[1, 2, 3]])["logits"].tobytes() == before
        switch(classifier, place)
        session.reload().close()


def test_keys_that_were_asked_for_once_are_asked_for_again(tmp_path, place, classifier):
    private, public = make_keys(tmp_path / "release.key")
    sign_bundle(place, read_signer(private), place)
    with obert_edge.load(place, trusted_keys=[public]) as session:
        switch(classifier, place)
        with pytest.raises(VerificationError, match="is not signed"):
            session.reload()


def test_threads_that_run_meanwhile_get_whole_answers_of_one_bundle_or_the_other(place, classifier, answerer):
    class Server:
        session = obert_edge.load(place, threads=1)

    expected = {}
    for bundle in (classifier, answerer):
        with obert_edge.load(bundle, threads=1) as session:
            expected[bundle] = {name: value.tobytes() for name, value in session.run([[1, 2, 3]]).items()}
    stop, seen, errors = threading.Event(), set(), []

    def serve():
        try:
            while not stop.is_set():
                answer = {name: value.tobytes() for name, value in Server.session.run([[1, 2, 3]]).items()}
                seen.add(next(bundle for bundle, known in expected.items() if known == answer))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=serve) for _ in range(2)]
    for thread in threads:
        thread.start()
    older = weakref.ref(Server.session)
    for bundle in (answerer, classifier, answerer):
        switch(bundle, place)
        os.utime(place, ns=(0, place.stat().st_ino))  # a new inode may have the number of an old one
        Server.session = Server.session.reload()
    stop.set()
    for thread in threads:
        thread.join()
    assert not errors and seen <= {classifier, answerer}
    assert older() is None  # nobody refers to it any more, so its memory is given back
