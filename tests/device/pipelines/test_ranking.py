"""Similarities and the order of documents; the library's own are in tests/answers."""

from __future__ import annotations

import numpy as np
import pytest

from obert_edge.bundle.manifest import SIMILARITIES, TaskFacts
from obert_edge.device.pipelines.ranking import DOCUMENT_PROMPTS, prompt_for, ranked, similarities
from obert_edge.errors import InputError

QUERY = np.array([3.0, 4.0], np.float32)
DOCUMENTS = np.array([[3.0, 4.0], [4.0, -3.0], [0.0, 0.0]], np.float32)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("", [1, 0, 0]),
        ("cosine", [1, 0, 0]),
        ("dot", [25, 0, 0]),
        ("euclidean", [0, -np.sqrt(50), -5]),
        ("manhattan", [0, -8, -7]),
    ],
)
def test_similarities_of_one_embedding_to_many(name, expected):
    found = similarities(name, QUERY, DOCUMENTS)
    assert found.dtype == np.float32
    assert np.allclose(found, [expected])


@pytest.mark.parametrize("name", SIMILARITIES)
def test_none_and_many_give_an_empty_matrix(name):
    assert similarities(name, np.zeros((0, 2)), DOCUMENTS).shape == (0, 3)
    assert similarities(name, DOCUMENTS, np.zeros((0, 2))).shape == (3, 0)


def test_of_documents_with_the_same_score_the_earlier_is_first():
    found = ranked([0.5, 0.9, 0.5], ["a", "b", "c"], top_k=None, return_documents=True)
    assert found == [
        {"corpus_id": 1, "score": 0.9, "text": "b"},
        {"corpus_id": 0, "score": 0.5, "text": "a"},
        {"corpus_id": 2, "score": 0.5, "text": "c"},
    ]
    assert ranked([0.5, 0.9], ["a", "b"], 1, False) == [{"corpus_id": 1, "score": 0.9}]


def test_the_prompt_of_documents_has_several_names():
    task = TaskFacts("encoder", prompts={"corpus": "c", "passage": "p"})
    assert prompt_for(task, DOCUMENT_PROMPTS) == "passage"
    assert prompt_for(TaskFacts("encoder"), DOCUMENT_PROMPTS) is None


@pytest.mark.parametrize("name", ["", *SIMILARITIES])
def test_embeddings_of_different_widths_are_refused(name):
    with pytest.raises(InputError, match="the embeddings have 2 and 3 channels"):
        similarities(name, QUERY, np.ones((4, 3)))


@pytest.mark.parametrize(
    "odd", [np.ones((2, 2, 2)), np.float32(1), np.array(["a", "b"]), np.array([[1], None], object)]
)
def test_what_is_no_embedding_is_refused(odd):
    with pytest.raises(InputError, match=r"the right embeddings are .*; expected numbers"):
        similarities("cosine", QUERY, odd)
