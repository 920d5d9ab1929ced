"""A bundle as LangChain's embeddings, behind its own vector store."""

from __future__ import annotations

import asyncio
import pickle
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("langchain_core")
from langchain_core.documents import Document  # noqa: E402
from langchain_core.embeddings import Embeddings  # noqa: E402
from langchain_core.vectorstores import InMemoryVectorStore  # noqa: E402

from obert_edge.adapters.langchain import BundleEmbeddings  # noqa: E402
from obert_edge.device.runtime.session import Session  # noqa: E402
from obert_edge.errors import UsageError  # noqa: E402

TEXTS = ["the film is good", "anna lives in new york", "bob and anna"]


def test_documents_and_queries(embedder: Path, session: Session) -> None:
    embeddings = BundleEmbeddings(embedder, threads=1)
    assert isinstance(embeddings, Embeddings)
    assert np.array_equal(embeddings.embed_documents(TEXTS), session.encode_document(TEXTS))
    assert np.array_equal(embeddings.embed_query(TEXTS[0]), session.encode_query(TEXTS[0]))
    assert isinstance(embeddings.embed_query("bob")[0], float)
    assert embeddings.embed_documents([]) == []


def test_asked_from_a_loop(session: Session) -> None:
    embeddings = BundleEmbeddings(session)
    assert asyncio.run(embeddings.aembed_documents(TEXTS)) == embeddings.embed_documents(TEXTS)
    assert asyncio.run(embeddings.aembed_query("bob")) == embeddings.embed_query("bob")


def test_options_of_encode(session: Session) -> None:
    embeddings = BundleEmbeddings(session, truncate_dim=5, normalize_embeddings=True, batch_size=1)
    expected = session.encode_document(TEXTS, truncate_dim=5, normalize_embeddings=True)
    assert np.array_equal(embeddings.embed_documents(TEXTS), expected)


def test_a_vector_store_finds_with_it(session: Session) -> None:
    store = InMemoryVectorStore(BundleEmbeddings(session))
    store.add_documents([Document(text, metadata={"row": row}) for row, text in enumerate(TEXTS)])
    found = store.similarity_search_with_score("anna lives", k=3)
    scores = session.similarity(session.encode_query("anna lives"), session.encode_document(TEXTS))[0]
    assert [document.metadata["row"] for document, _ in found] == list(np.argsort(-scores))


def test_a_pickle_opens_the_bundle_again(session: Session) -> None:
    embeddings = BundleEmbeddings(session)
    again = pickle.loads(pickle.dumps(embeddings))
    assert again.embed_query("bob") == embeddings.embed_query("bob")


def test_wrong_arguments_are_refused_at_once(embedder: Path, tagger: Path) -> None:
    with pytest.raises(UsageError, match="token-classification"):
        BundleEmbeddings(tagger)
    with pytest.raises(UsageError, match="truncate_dim"):
        BundleEmbeddings(embedder, truncate_dim=0)
    with pytest.raises(UsageError, match="batch_size"):
        BundleEmbeddings(embedder, batch_size=0)
