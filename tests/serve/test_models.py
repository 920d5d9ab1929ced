"""A served model keeps what answers with given options, unless a client could fill the memory with it."""

from __future__ import annotations

import gc
import weakref

import pytest

import obert_edge
from obert_edge.serve.models import Model


@pytest.fixture(scope="module", params=["embedder", "classifier"])
def model(request):
    with obert_edge.load(request.getfixturevalue(request.param), threads=1) as session:
        yield Model("model", session)


def test_the_same_options_are_answered_by_the_same_pipeline(model):
    assert model.answerer(prompt="query: ") is model.answerer(prompt="query: ")
    assert model.answerer(prompt="query: ") is not model.answerer(prompt="passage: ")


def test_what_has_a_long_prompt_is_not_kept(model):
    answerer = model.answerer(prompt="a " * 10**5)
    assert answerer.prompt == "a " * 10**5
    pipeline = weakref.ref(answerer.pipeline)
    del answerer
    gc.collect()
    assert pipeline() is None
