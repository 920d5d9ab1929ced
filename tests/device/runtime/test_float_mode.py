"""The caller's floating-point environment changes no bit of an answer, and is the same again afterwards."""

from __future__ import annotations

import contextlib
import ctypes
import json
import platform

import numpy as np
import pytest

import obert_edge
from obert_edge.device.runtime.library import installed_library
from obert_edge.errors import InputError

LIBM = ctypes.CDLL("libm.so.6")
X86 = platform.machine() == "x86_64"
#: Of fenv.h: the other roundings than the one to the nearest.
ROUNDINGS = {"down": 0x400, "up": 0x800, "to zero": 0xC00} if X86 else {}
#: Bits of MXCSR, which is the last word of fenv_t: denormals are zeros, results are flushed to zero.
FLUSHING = 0x8040
MXCSR = 7

pytestmark = pytest.mark.skipif(not X86, reason="the numbers of the modes are those of x86-64")


def environment() -> list[int]:
    words = (ctypes.c_uint32 * 8)()
    LIBM.fegetenv(words)
    words[MXCSR] &= ~0x3F  # exceptions that have occurred are no mode
    return list(words)[MXCSR:]


@contextlib.contextmanager
def mode(name: str):
    saved, words = (ctypes.c_uint32 * 8)(), (ctypes.c_uint32 * 8)()
    LIBM.fegetenv(saved)
    try:
        if name == "flushing":
            LIBM.fegetenv(words)
            words[MXCSR] |= FLUSHING
            LIBM.fesetenv(words)
        else:
            assert LIBM.fesetround(ROUNDINGS[name]) == 0
        before = environment()
        yield
        assert environment() == before, "the caller's mode was changed"
    finally:
        LIBM.fesetenv(saved)


modes = pytest.mark.parametrize("name", [*ROUNDINGS, "flushing"])


@modes
def test_a_mode_is_one_that_numpy_feels(name):
    """Else the other tests would show nothing."""
    numbers = np.linspace(-30, 30, 1000)
    tiny = np.full(8, 1e-310)
    expected = (np.exp(numbers) / 3).tobytes() + (tiny / 3).tobytes()
    with mode(name):
        found = (np.exp(numbers) / 3).tobytes() + (tiny / 3).tobytes()
    assert found != expected


@modes
@pytest.mark.parametrize("fixture", ["classifier", "answerer", "roberta_tagger"])
def test_predictions_have_the_same_bits(request, fixture, name):
    inputs = (
        {"question": "who?", "context": "anna lives in paris"} if fixture == "answerer" else "the film is bad"
    )
    with obert_edge.load(request.getfixturevalue(fixture), threads=1) as session:
        expected = json.dumps(_plain(session.predict(inputs)))
        with mode(name):
            found = json.dumps(_plain(session.predict(inputs)))
    assert found == expected


def _plain(answer):
    return [part.to_dict() for part in (answer if isinstance(answer, list) else [answer])]


@pytest.fixture(scope="module")
def encoder(build_bundle):
    return build_bundle("BertModel")


@modes
def test_embeddings_and_similarities_have_the_same_bits(encoder, name):
    texts = ["the film is good", "anna lives in new york"]

    def answers(session):
        vectors = session.encode(texts, normalize_embeddings=True)
        ranks = [rank["score"] for rank in session.rank(texts[0], texts)]
        return vectors.tobytes() + session.similarity(vectors, vectors).tobytes(), ranks

    with obert_edge.load(encoder, threads=1) as session:
        expected = answers(session)
        with mode(name):
            assert answers(session) == expected


@modes
@pytest.mark.parametrize("implementation", installed_library().implementations())
def test_the_engine_loads_and_runs_with_the_same_bits_on_every_thread(classifier, implementation, name):
    ids = np.arange(1, 81).reshape(4, 20) % 30
    with obert_edge.load(classifier, threads=3, implementation=implementation) as session:
        expected = session.run(ids)["logits"].tobytes()
        with mode(name):
            assert session.run(ids)["logits"].tobytes() == expected
            with obert_edge.load(classifier, threads=3, implementation=implementation) as another:
                assert another.run(ids)["logits"].tobytes() == expected


def test_an_error_restores_the_mode_too(classifier):
    with obert_edge.load(classifier, threads=1) as session, mode("up"), pytest.raises(InputError):
        session.predict(5)
