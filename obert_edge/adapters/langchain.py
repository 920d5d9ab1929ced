"""A bundle as LangChain's ``Embeddings``, for its vector stores and retrievers."""

from __future__ import annotations

from typing import List, Optional, Sequence

from obert_edge.adapters.opening import BundleLike, Opened, dimension
from obert_edge.bundle.signature import Key
from obert_edge.packages import imports_for

with imports_for("this adapter"):
    from langchain_core.embeddings import Embeddings


class BundleEmbeddings(Embeddings):
    """Embeddings of documents and of queries, each with the model's own prompt for it.

    Args:
        bundle: the file of an encoder, or a session that has it open.
        normalize_embeddings: divide by the Euclidean length; ``None``: as the model does.
        truncate_dim: how many numbers of an embedding to keep; ``None``: as the model says.
        batch_size: texts to run at once.
        threads: as for :func:`obert_edge.load`.
        trusted_keys: the same.

    Raises:
        UsageError: the bundle makes no embeddings, or an argument is out of range.
        ObertEdgeError: as :func:`obert_edge.load`.
    """

    def __init__(
        self,
        bundle: BundleLike,
        *,
        normalize_embeddings: Optional[bool] = None,
        truncate_dim: Optional[int] = None,
        batch_size: int = 32,
        threads: Optional[int] = None,
        trusted_keys: Optional[Sequence[Key]] = None,
    ) -> None:
        self._opened = Opened(bundle, threads, trusted_keys)
        self._options = {
            "normalize_embeddings": normalize_embeddings,
            "truncate_dim": truncate_dim,
            "batch_size": batch_size,
        }
        dimension(self._opened.session, **self._options)  # what cannot work is refused here

    def embed_documents(self, texts: List[str]) -> List[List[float]]:
        """The embedding of each text, with the prompt for documents where the model has one."""
        vectors = self._opened.session.encode_document(list(texts), **self._options)
        found: List[List[float]] = vectors.tolist()
        return found

    def embed_query(self, text: str) -> List[float]:
        """The embedding of a text, with the prompt for queries where the model has one."""
        found: List[float] = self._opened.session.encode_query(text, **self._options).tolist()
        return found
