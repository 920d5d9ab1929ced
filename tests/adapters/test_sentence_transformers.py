"""A bundle inside `SentenceTransformer` gives the bundle's own embeddings."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sentence_transformers")
from sentence_transformers import SentenceTransformer  # noqa: E402
from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator  # noqa: E402

from obert_edge.adapters.sentence_transformers import BundleModule  # noqa: E402
from obert_edge.device.runtime.session import Session  # noqa: E402
from obert_edge.errors import BundleError, UsageError  # noqa: E402

TEXTS = ["the film is good", "anna lives in new york", "", "is paris fun? " * 40, "bob"]


@pytest.fixture
def model(embedder: Path) -> SentenceTransformer:
    return SentenceTransformer(modules=[BundleModule(embedder, threads=1)], device="cpu")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"prompt_name": "query"},
        {"prompt": "good "},
        {"prompt": ""},
        {"truncate_dim": 8},
        {"truncate_dim": 8, "normalize_embeddings": True},
        {"batch_size": 2},
    ],
)
def test_the_embeddings_are_the_bundles(
    model: SentenceTransformer, session: Session, options: dict[str, Any]
) -> None:
    found, expected = model.encode(TEXTS, **options), session.encode(TEXTS, **options)
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    # Torch divides by the length in another order than numpy: the last bit may differ.
    tolerance = 1e-6 if options.get("normalize_embeddings") else 0
    assert np.allclose(found, expected, rtol=0, atol=tolerance)


def test_queries_and_documents_have_their_own_prompts(model: SentenceTransformer, session: Session) -> None:
    queries, documents = model.encode_query(TEXTS), model.encode_document(TEXTS)
    assert np.array_equal(queries, session.encode_query(TEXTS))
    assert np.array_equal(documents, session.encode_document(TEXTS))
    assert not np.array_equal(queries, documents)


def test_the_model_has_what_the_bundle_says(model: SentenceTransformer, session: Session) -> None:
    assert model.prompts == {"query": "hello : ", "document": "the film : "}
    assert model.default_prompt_name == "document"
    assert model.similarity_fn_name == "dot"
    assert model.get_embedding_dimension() == 32
    assert model.max_seq_length == session.manifest.model.max_length
    found = model.similarity(model.encode(TEXTS), model.encode(TEXTS)).numpy()
    vectors = session.encode(TEXTS)
    assert np.allclose(found, session.similarity(vectors, vectors), atol=1e-6)


def test_what_the_model_is_told_counts_more(embedder: Path, session: Session) -> None:
    model = SentenceTransformer(
        modules=[BundleModule(embedder)],
        device="cpu",
        prompts={"query": "is ", "ask": "fun "},
        default_prompt_name="ask",
        similarity_fn_name="euclidean",
        truncate_dim=4,
    )
    assert (model.prompts["query"], model.prompts["document"]) == ("is ", "the film : ")
    assert (model.similarity_fn_name, model.get_embedding_dimension()) == ("euclidean", 4)
    expected = session.encode(TEXTS, prompt="fun ", truncate_dim=4)
    assert np.array_equal(model.encode(TEXTS), expected)


def test_a_saved_model_carries_its_bundle(model: SentenceTransformer, tmp_path: Path) -> None:
    expected = model.encode(TEXTS)
    model.save_pretrained(str(tmp_path / "saved"))
    assert (tmp_path / "saved" / "model.oeb").is_file()
    # The library asks for this trust wherever a module is not its own.
    again = SentenceTransformer(
        str(tmp_path / "saved"), device="cpu", trust_remote_code=True, model_kwargs={"threads": 1}
    )
    assert np.array_equal(again.encode(TEXTS), expected)
    assert again.prompts == model.prompts
    again.save_pretrained(str(tmp_path / "saved"))  # over itself
    assert np.array_equal(again.encode(TEXTS), expected)


def test_a_copy_answers_alike(model: SentenceTransformer) -> None:
    assert np.array_equal(copy.deepcopy(model).encode(TEXTS), model.encode(TEXTS))


def test_a_pickle_opens_the_bundle_again(model: SentenceTransformer) -> None:
    """Which is how the library's pools of processes get their models."""
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(again.encode(TEXTS), model.encode(TEXTS))


def test_the_librarys_evaluators_run(model: SentenceTransformer) -> None:
    evaluate = EmbeddingSimilarityEvaluator(TEXTS, TEXTS[::-1], [0.1, 0.4, 0.2, 0.9, 0.3], write_csv=False)
    assert "spearman_dot" in evaluate(model) or "spearman_cosine" in evaluate(model)


def test_another_task_is_refused(tagger: Path) -> None:
    with pytest.raises(UsageError, match="token-classification"):
        BundleModule(tagger)


def test_a_missing_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError):
        BundleModule(tmp_path / "none.oeb")


def test_the_longest_sequence_is_fixed(model: SentenceTransformer) -> None:
    with pytest.raises(UsageError, match="--max-length"):
        model.max_seq_length = 8
