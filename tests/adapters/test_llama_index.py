"""A bundle as LlamaIndex's embedding model, behind its own index."""

from __future__ import annotations

import asyncio
import pickle
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("llama_index.core")
from llama_index.core import VectorStoreIndex  # noqa: E402
from llama_index.core.schema import TextNode  # noqa: E402

from obert_edge.adapters.llama_index import BundleEmbedding  # noqa: E402
from obert_edge.device.runtime.session import Session  # noqa: E402
from obert_edge.errors import UsageError  # noqa: E402

TEXTS = ["the film is good", "anna lives in new york", "bob and anna"]


def test_texts_and_queries(embedder: Path, session: Session) -> None:
    model = BundleEmbedding(embedder, threads=1, embed_batch_size=2)
    assert np.array_equal(model.get_text_embedding_batch(TEXTS), session.encode_document(TEXTS))
    assert np.array_equal(model.get_text_embedding(TEXTS[1]), session.encode_document(TEXTS[1]))
    assert np.array_equal(model.get_query_embedding("bob"), session.encode_query("bob"))


def test_asked_from_a_loop(session: Session) -> None:
    model = BundleEmbedding(session)
    assert asyncio.run(model.aget_text_embedding_batch(TEXTS)) == model.get_text_embedding_batch(TEXTS)
    assert asyncio.run(model.aget_query_embedding("bob")) == model.get_query_embedding("bob")


def test_an_index_finds_with_it(session: Session) -> None:
    nodes = [TextNode(id_=str(row), text=text) for row, text in enumerate(TEXTS)]
    index = VectorStoreIndex(nodes, embed_model=BundleEmbedding(session))
    found = index.as_retriever(similarity_top_k=3).retrieve("anna lives")
    scores = session.similarity(session.encode_query("anna lives"), session.encode_document(TEXTS))[0]
    assert [node.node_id for node in found] == [str(row) for row in np.argsort(-scores)]


def test_it_is_written_down_and_read_again(session: Session) -> None:
    model = BundleEmbedding(session, truncate_dim=8)
    expected = model.get_query_embedding("bob")
    assert len(expected) == 8
    assert BundleEmbedding.from_dict(model.to_dict()).get_query_embedding("bob") == expected
    assert pickle.loads(pickle.dumps(model)).get_query_embedding("bob") == expected
    assert model.model_name == "model"


def test_another_task_is_refused(tagger: Path) -> None:
    with pytest.raises(UsageError, match="token-classification"):
        BundleEmbedding(tagger)
