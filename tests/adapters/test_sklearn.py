"""A bundle as a scikit-learn transformer: the rules of estimators, pipelines and searches."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")
from sklearn.base import clone  # noqa: E402
from sklearn.compose import ColumnTransformer  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.model_selection import GridSearchCV  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.utils import estimator_checks  # noqa: E402

from obert_edge.adapters.sklearn import BundleTransformer  # noqa: E402
from obert_edge.device.runtime.session import Session  # noqa: E402
from obert_edge.errors import InputError, UsageError  # noqa: E402

TEXTS = ["the film is good", "anna lives in new york", "bob and anna", "the film is bad"] * 3
CLASSES = [1, 0, 0, 1] * 3
CHECKS = [
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_estimator_tags_renamed",
    "check_get_params_invariance",
    "check_mixin_order",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_set_params",
    "check_valid_tag_types",
]


@pytest.fixture
def transformer(embedder: Path) -> BundleTransformer:
    return BundleTransformer(embedder, threads=1)


@pytest.mark.parametrize("check", CHECKS)
def test_sklearns_own_checks(transformer: BundleTransformer, check: str) -> None:
    """Those that need no table of numbers, which this estimator does not take."""
    getattr(estimator_checks, check)("BundleTransformer", transformer)


def test_the_embeddings_are_the_bundles(transformer: BundleTransformer, session: Session) -> None:
    found = transformer.fit_transform(TEXTS)
    assert found.dtype == np.float32
    assert np.array_equal(found, session.encode(TEXTS))
    assert np.array_equal(transformer.transform(np.array(TEXTS)), found)
    assert np.array_equal(transformer.transform(np.array(TEXTS, object)[:, None]), found)


def test_options_of_encode(embedder: Path, session: Session) -> None:
    options: dict[str, Any] = {"prompt_name": "query", "truncate_dim": 6, "normalize_embeddings": True}
    found = BundleTransformer(embedder, batch_size=2, **options).transform(TEXTS)
    assert np.array_equal(found, session.encode(TEXTS, **options))


def test_names_of_features(embedder: Path) -> None:
    names = BundleTransformer(embedder, truncate_dim=3).fit(TEXTS).get_feature_names_out()
    assert list(names) == ["bundletransformer0", "bundletransformer1", "bundletransformer2"]


def test_copies(transformer: BundleTransformer) -> None:
    expected = transformer.fit_transform(TEXTS)
    assert clone(transformer).get_params() == transformer.get_params()
    for again in (clone(transformer), pickle.loads(pickle.dumps(transformer))):
        assert np.array_equal(again.transform(TEXTS), expected)


def test_other_parameters_count_at_once(transformer: BundleTransformer, embedder: Path) -> None:
    transformer.fit(TEXTS)
    assert transformer.set_params(truncate_dim=4).transform(TEXTS).shape == (len(TEXTS), 4)
    transformer.set_params(bundle=embedder.parent / "none.oeb")
    with pytest.raises(Exception, match="none.oeb"):
        transformer.transform(TEXTS)


def test_a_pipeline_and_a_search(transformer: BundleTransformer) -> None:
    pipeline = make_pipeline(transformer, LogisticRegression())
    search = GridSearchCV(pipeline, {"bundletransformer__truncate_dim": [4, None]}, cv=2)
    search.fit(TEXTS, CLASSES)
    assert search.predict(TEXTS[:4]).tolist() == CLASSES[:4]


def test_a_column_of_a_table(transformer: BundleTransformer) -> None:
    table = np.array([[text, "other"] for text in TEXTS], object)
    found = ColumnTransformer([("texts", transformer, 0)]).fit_transform(table)
    assert np.array_equal(found, transformer.transform(TEXTS))


@pytest.mark.parametrize("wrong", ["one text", [1, 2], ["a", None], np.zeros((2, 2)), 7])
def test_what_is_no_list_of_texts_is_refused(transformer: BundleTransformer, wrong: Any) -> None:
    for ask in (transformer.fit, transformer.transform):
        with pytest.raises(InputError):
            ask(wrong)


def test_another_task_is_refused(tagger: Path) -> None:
    with pytest.raises(UsageError, match="token-classification"):
        BundleTransformer(tagger).fit(TEXTS)
