"""Results of a run are made when somebody asks for them, and are then those of `Session.run`."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import obert_edge
from obert_edge.device.runtime.native import Packed
from obert_edge.device.runtime.results import Results

TEXTS = ["the film is good", "a", "bob and anna " * 5]


@pytest.fixture(scope="module")
def session(build_bundle):
    with obert_edge.load(build_bundle("BertModel"), threads=1) as session:
        yield session


def encodings_of(session):
    return [session.tokenizer.encode(text) for text in TEXTS]


def test_they_are_what_run_gives(session):
    encodings = encodings_of(session)
    longest = max(map(len, encodings))
    ids = np.array([one.ids + [session.manifest.model.pad_id] * (longest - len(one)) for one in encodings])
    mask = np.array([[1] * len(one) + [0] * (longest - len(one)) for one in encodings])
    expected = session.run(ids, mask)
    found = session.run_encodings(encodings)
    assert list(found) == list(expected) and len(found) == len(expected) > 1
    for name in expected:
        assert found[name].tobytes() == expected[name].tobytes()


def test_one_output_of_some_texts(session):
    found = session.run_encodings(encodings_of(session))
    some = found.of_rows([2, 0])
    assert list(some) == list(found)
    for name in found:
        assert some[name].tobytes() == found[name][[2, 0]].tobytes()


def test_each_is_made_once_and_only_when_asked_for():
    made = []

    def maker(name):
        return lambda: made.append(name) or np.zeros(2)

    results = Results({"first": maker("first"), "second": maker("second")})
    assert made == []
    assert results["second"] is results["second"]
    assert made == ["second"]
    with pytest.raises(KeyError):
        results["third"]


def test_another_process_gets_the_arrays(session):
    found = session.run_encodings(encodings_of(session))
    copied = pickle.loads(pickle.dumps(found))
    assert type(copied) is dict and list(copied) == list(found)
    assert all(copied[name].tobytes() == found[name].tobytes() for name in found)
    assert repr(found) == f"Results({', '.join(found)})"


def test_an_embedding_spreads_no_tokens_over_a_padded_array(session, monkeypatch):
    spread = []
    unpack = Packed.unpack
    monkeypatch.setattr(Packed, "unpack", lambda *one: spread.append(one) or unpack(*one))
    session.encode(TEXTS)
    assert spread == []
    session.run_encodings(encodings_of(session))["last_hidden_state"]
    assert len(spread) == 1
