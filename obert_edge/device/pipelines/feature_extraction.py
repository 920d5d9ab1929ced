"""Plain encoders: a text to one vector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Optional, Sequence, Tuple

import numpy as np

from obert_edge.device.pipelines.base import Pipeline, Prediction, batches
from obert_edge.errors import BundleError


@dataclass(frozen=True)
class Embedding(Prediction):
    """A vector that stands for a text.

    Args:
        vector: float32 ``[channels]``.
    """

    vector: np.ndarray


@dataclass(frozen=True)
class Embedder(Pipeline):
    """Texts or pairs to embeddings, pooled as the manifest says; longer texts are cut.

    Args:
        normalize: divide by the Euclidean length; ``None``: as the manifest says.
    """

    normalize: Optional[bool] = None

    def predict(self, texts: Sequence[Tuple[str, Optional[str]]]) -> List[Prediction]:
        """One vector per text."""
        pooled = [output.name for output in self.manifest.outputs if output.domain == "sequences"]
        if not pooled:
            raise BundleError(
                "this bundle gives one vector per token, not one per text",
                hint="build it with pooling, or use `Session.run`",
            )
        normalize = self.manifest.task.normalize if self.normalize is None else self.normalize
        results: List[Prediction] = []
        for batch in batches(self.encode(texts)):
            for vector in self.model.run_encodings(batch)[pooled[0]]:
                length = float(np.linalg.norm(vector))
                scaled = vector / np.float32(length) if normalize and length > 0 else vector
                results.append(Embedding(np.asarray(scaled, np.float32)))
        return results
