"""A bundle as LlamaIndex's embedding model, for its indices and pipelines."""

from __future__ import annotations

import asyncio
from typing import Any, List, Optional

from obert_edge.adapters.opening import BundleLike, Opened, dimension
from obert_edge.device.runtime.session import Session
from obert_edge.packages import imports_for

with imports_for("this adapter"):
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.bridge.pydantic import PrivateAttr

# LlamaIndex takes apart annotations as they stand, so those of fields are typing's own.


class BundleEmbedding(BaseEmbedding):
    """Embeddings of nodes and of queries, each with the model's own prompt for it.

    Args:
        bundle: the file of an encoder, or a session that has it open.
        **fields: the fields below, and those of LlamaIndex's own, such as ``embed_batch_size``.

    Attributes:
        bundle: the file.
        normalize_embeddings: divide by the Euclidean length; ``None``: as the model does.
        truncate_dim: how many numbers of an embedding to keep; ``None``: as the model says.
        threads: as for :func:`obert_edge.load`.
        trusted_keys: the same.

    Raises:
        UsageError: the bundle makes no embeddings.
        ObertEdgeError: as :func:`obert_edge.load`.
    """

    bundle: str
    normalize_embeddings: Optional[bool] = None
    truncate_dim: Optional[int] = None
    threads: Optional[int] = None
    trusted_keys: Optional[List[str]] = None

    _opened: Opened = PrivateAttr()

    def __init__(self, bundle: BundleLike, **fields: Any) -> None:
        opened = Opened(bundle, fields.get("threads"), fields.get("trusted_keys"))
        fields.setdefault("model_name", opened.path.stem)
        super().__init__(bundle=str(opened.path), **fields)
        self._opened = opened
        dimension(self.session, truncate_dim=self.truncate_dim)  # what cannot work is refused here

    @classmethod
    def class_name(cls) -> str:
        """What LlamaIndex calls this class where it writes one down."""
        return "BundleEmbedding"

    @property
    def session(self) -> Session:
        """The session that computes."""
        return self._opened.session

    def _get_query_embedding(self, query: str) -> List[float]:
        found: List[float] = self.session.encode_query(query, **self._options()).tolist()
        return found

    async def _aget_query_embedding(self, query: str) -> List[float]:
        return await asyncio.to_thread(self._get_query_embedding, query)

    def _get_text_embedding(self, text: str) -> List[float]:
        return self._get_text_embeddings([text])[0]

    async def _aget_text_embedding(self, text: str) -> List[float]:
        return await asyncio.to_thread(self._get_text_embedding, text)

    def _get_text_embeddings(self, texts: List[str]) -> List[List[float]]:
        found: List[List[float]] = self.session.encode_document(list(texts), **self._options()).tolist()
        return found

    async def _aget_text_embeddings(self, texts: List[str]) -> List[List[float]]:
        return await asyncio.to_thread(self._get_text_embeddings, texts)

    def _options(self) -> dict:  # type: ignore[type-arg]
        return {
            "normalize_embeddings": self.normalize_embeddings,
            "truncate_dim": self.truncate_dim,
            "batch_size": self.embed_batch_size,
        }
