"""A bundle as a scikit-learn transformer: texts in, embeddings out, in a pipeline or a grid search."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Union

import numpy as np

from obert_edge.adapters.opening import Opened, dimension
from obert_edge.bundle.signature import Key
from obert_edge.device.runtime.session import Session
from obert_edge.errors import InputError
from obert_edge.packages import imports_for

with imports_for("this adapter"):
    from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin


class BundleTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Texts to embeddings; ``fit`` learns nothing, and only opens the bundle.

    Args:
        bundle: the file of an encoder.
        prompt_name: name of the model's prompt to put before every text; ``None``: its default, if any.
        prompt: a text to put before every text, which counts more than ``prompt_name``.
        normalize_embeddings: divide by the Euclidean length; ``None``: as the model does.
        truncate_dim: how many numbers of an embedding to keep; ``None``: as the model says.
        batch_size: texts to run at once.
        threads: as for :func:`obert_edge.load`.
        trusted_keys: the same.
    """

    def __init__(
        self,
        bundle: Union[str, Path] = "model.oeb",
        *,
        prompt_name: Optional[str] = None,
        prompt: Optional[str] = None,
        normalize_embeddings: Optional[bool] = None,
        truncate_dim: Optional[int] = None,
        batch_size: int = 32,
        threads: Optional[int] = None,
        trusted_keys: Optional[Sequence[Key]] = None,
    ) -> None:
        # scikit-learn copies an estimator by these attributes: they are what was given, and nothing is done.
        self.bundle = bundle
        self.prompt_name = prompt_name
        self.prompt = prompt
        self.normalize_embeddings = normalize_embeddings
        self.truncate_dim = truncate_dim
        self.batch_size = batch_size
        self.threads = threads
        self.trusted_keys = trusted_keys

    def fit(self, X: Any, y: Any = None) -> BundleTransformer:  # noqa: N803  (scikit-learn's own name)
        """Open the bundle.

        Args:
            X: texts; only checked.
            y: not used.

        Raises:
            InputError: something is no text.
            UsageError: the bundle makes no embeddings.
            ObertEdgeError: as :func:`obert_edge.load`.
        """
        _texts(X)
        dimension(self.session, truncate_dim=self.truncate_dim)
        return self

    def transform(self, X: Any) -> np.ndarray:  # noqa: N803
        """The embeddings of texts, which need no ``fit``.

        Args:
            X: texts: a list, an array, a Series, or a table of one column.

        Returns:
            Float32 ``[texts, channels]``.

        Raises:
            InputError: something is no text.
            UsageError: the bundle has no such prompt.
            ObertEdgeError: as :func:`obert_edge.load`.
        """
        return self.session.encode(
            _texts(X),
            prompt_name=self.prompt_name,
            prompt=self.prompt,
            normalize_embeddings=self.normalize_embeddings,
            truncate_dim=self.truncate_dim,
            batch_size=self.batch_size,
        )

    @property
    def session(self) -> Session:
        """The session that computes, of the bundle that the parameters name now."""
        wanted = (str(self.bundle), self.threads, self.trusted_keys)
        found = vars(self).get("_opened")
        if found is None or found[0] != wanted:
            found = (wanted, Opened(self.bundle, self.threads, self.trusted_keys))
            # Not of the parameters, so it is left out of pickles and copies; see __getstate__.
            self._opened = found
        session: Session = found[1].session
        return session

    @property
    def _n_features_out(self) -> int:
        """How many numbers an embedding has, for ``get_feature_names_out``."""
        return dimension(self.session, truncate_dim=self.truncate_dim)

    def __getstate__(self) -> Dict[str, Any]:
        state: Dict[str, Any] = super().__getstate__()
        return {name: value for name, value in state.items() if name != "_opened"}

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = True
        tags.input_tags.string = True
        tags.requires_fit = False
        tags.transformer_tags.preserves_dtype = []
        return tags


def _texts(X: Any) -> List[str]:  # noqa: N803
    """The texts of a list, an array, a Series, or a table of one column."""
    if isinstance(X, (str, bytes)) or not hasattr(X, "__len__"):
        raise InputError(f"X is a {type(X).__name__}; expected a list of texts", hint="pass a list")
    shape = getattr(X, "shape", None)
    if shape is not None and len(shape) != 1:
        if len(shape) != 2 or shape[1] != 1:
            raise InputError(
                f"X has the shape {tuple(shape)}; expected one text a row",
                hint="choose the column of texts, with a ColumnTransformer or X['text']",
            )
        X = np.asarray(X, object)[:, 0]  # noqa: N806
    texts = list(X)
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(
                f"row {row} of X is a {type(text).__name__}; expected a text",
                hint="pass texts, and drop or fill missing values",
            )
    return [str(text) for text in texts]
