"""``POST /rerank`` gives the order of ``Session.rank``, in the words of Cohere and Jina, and of TEI."""

from __future__ import annotations

import pytest

import obert_edge
from obert_edge.errors import UsageError

QUERY = "is the film good?"
DOCUMENTS = ["bob and anna", "the film is bad.", "the film is good and fun", "paris"]


@pytest.fixture(scope="module", params=["embed", "rank"])
def ranking(request, embedder, reranker):
    """The name of a model that ranks, and what it has to give."""
    bundle = embedder if request.param == "embed" else reranker
    with obert_edge.load(bundle, threads=1) as session:
        yield request.param, session.rank(QUERY, DOCUMENTS, return_documents=True)


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
def test_documents_are_answered_as_cohere_and_jina_do(http, ranking, path):
    name, expected = ranking
    body = {"model": name, "query": QUERY, "documents": DOCUMENTS, "top_n": 2, "return_documents": True}
    answer = http.post(path, json=body).json()
    assert answer["results"] == [
        {"index": one["corpus_id"], "relevance_score": one["score"], "document": {"text": one["text"]}}
        for one in expected[:2]
    ]
    assert answer["model"] == name and answer["usage"]["total_tokens"] > 0 and answer["id"]


def test_documents_may_be_objects_and_their_texts_are_not_given_back_unasked(http, ranking):
    name, expected = ranking
    body = {"model": name, "query": QUERY, "documents": [{"text": text} for text in DOCUMENTS]}
    answer = http.post("/rerank", json=body).json()
    assert answer["results"] == [
        {"index": one["corpus_id"], "relevance_score": one["score"]} for one in expected
    ]


def test_texts_are_answered_as_tei_does(http, ranking):
    name, expected = ranking
    answer = http.post("/rerank", json={"model": name, "query": QUERY, "texts": DOCUMENTS}).json()
    assert answer == [{"index": one["corpus_id"], "score": one["score"]} for one in expected]
    body = {"model": name, "query": QUERY, "texts": DOCUMENTS, "return_text": True}
    assert [one["text"] for one in http.post("/rerank", json=body).json()] == [
        one["text"] for one in expected
    ]


def test_raw_scores_of_a_reranker_are_its_logits(http, reranker):
    body = {"model": "rank", "query": QUERY, "texts": DOCUMENTS, "raw_scores": True}
    with obert_edge.load(reranker, threads=1) as session:
        logits = [session.predict((QUERY, text)).logits["LABEL_0"] for text in DOCUMENTS]
    assert {one["index"]: one["score"] for one in http.post("/rerank", json=body).json()} == dict(
        enumerate(logits)
    )


def test_a_batch_size_of_nothing_is_refused_by_embedders_and_rerankers_alike(embedder, reranker):
    for bundle in (embedder, reranker):
        with obert_edge.load(bundle, threads=1) as session:
            for size in (0, -1, 1.5):
                with pytest.raises(UsageError, match="batch_size is"):
                    session.rank(QUERY, DOCUMENTS, batch_size=size)


def test_a_classifier_with_several_classes_does_not_rank(http):
    refused = http.post("/rerank", json={"model": "sort", "query": QUERY, "texts": DOCUMENTS})
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "unsupported_endpoint"
    assert "/predict" in refused.json()["error"]["message"]


@pytest.mark.parametrize("model", ["embed", "rank"])
@pytest.mark.parametrize("field", ["texts", "documents"])
def test_the_document_that_is_too_long_is_named_as_the_request_does(http, model, field):
    body = {"model": model, "query": "a", field: ["a", "the film is good " * 100], "truncate": False}
    error = http.post("/rerank", json=body).json()["error"]
    assert (error["code"], error["param"]) == ("text_too_long", f"{field}[1]")
