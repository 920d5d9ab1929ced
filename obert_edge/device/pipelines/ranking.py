"""Documents in the order in which they answer a query, by a cross-encoder or by their embeddings."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Sequence

import numpy as np

from obert_edge.bundle.manifest import TaskFacts
from obert_edge.device.pipelines.modules import normalized
from obert_edge.errors import InputError

#: Names of prompts for documents, the first that there is; those of sentence-transformers' encode_document.
DOCUMENT_PROMPTS = ("document", "passage", "corpus")
QUERY_PROMPTS = ("query",)


def prompt_for(task: TaskFacts, names: Sequence[str]) -> Optional[str]:
    """The first of some names that the model has a prompt of; ``None``: it has none of them."""
    return next((name for name in names if name in task.prompts), None)


def _cosine(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return _dot(normalized(left), normalized(right))


def _dot(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    products: np.ndarray = left.astype(np.float64) @ right.astype(np.float64).T
    return products


def _distances(left: np.ndarray, right: np.ndarray, order: int) -> np.ndarray:
    """Negative distances, row by row so that memory stays that of one row of differences."""
    rows = [-np.linalg.norm(right.astype(np.float64) - row, ord=order, axis=1) for row in left]
    return np.stack(rows) if rows else np.zeros((0, len(right)))


_SIMILARITIES: Dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "": _cosine,
    "cosine": _cosine,
    "dot": _dot,
    "euclidean": lambda left, right: _distances(left, right, 2),
    "manhattan": lambda left, right: _distances(left, right, 1),
}


def similarities(name: str, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """How alike two lots of embeddings are; more is more alike.

    Args:
        name: ``cosine``, ``dot``, ``euclidean`` or ``manhattan`` (the latter two: the distance, negative); ""
            is the cosine.
        left: float ``[n, channels]``, or ``[channels]``: one embedding.
        right: float ``[m, channels]`` or ``[channels]``.

    Returns:
        Float32 ``[n, m]``.

    Raises:
        InputError: they are no numbers, have more than two dimensions, or different channels.
    """
    for side, vectors in (("left", left), ("right", right)):
        if vectors.dtype.kind not in "fiub" or not 1 <= vectors.ndim <= 2:
            raise InputError(
                f"the {side} embeddings are {vectors.dtype} of shape {list(vectors.shape)}; expected numbers "
                "[n, channels] or [channels]",
                hint="give what `encode` returns",
            )
    if left.shape[-1] != right.shape[-1]:
        raise InputError(
            f"the embeddings have {left.shape[-1]} and {right.shape[-1]} channels; expected the same number",
            hint="embed both with one model and one truncate_dim",
        )
    return _SIMILARITIES[name](np.atleast_2d(left), np.atleast_2d(right)).astype(np.float32)


def ranked(
    scores: Sequence[float], documents: Sequence[str], top_k: Optional[int], return_documents: bool
) -> List[Dict[str, Any]]:
    """The best documents first; of those with the same score the earlier.

    Args:
        scores: one per document.
        documents: the texts.
        top_k: how many to give; ``None``: all.
        return_documents: whether to give their texts, too.
    """
    order = sorted(range(len(scores)), key=lambda index: -scores[index])
    results: List[Dict[str, Any]] = []
    for index in order[:top_k]:
        results.append({"corpus_id": index, "score": float(scores[index])})
        if return_documents:
            results[-1]["text"] = documents[index]
    return results
