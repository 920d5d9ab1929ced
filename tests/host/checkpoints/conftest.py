"""A checkpoint of SparseML's quantization-aware training."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Tuple

import pytest

from tests.host.checkpoints.published_checkpoints import make_published_folder


@pytest.fixture(scope="module")
def qat(tmp_path_factory: pytest.TempPathFactory) -> Tuple[Path, Any]:
    """A folder as SparseML's quantization-aware training left it, and the model as torch runs it."""
    folder = tmp_path_factory.mktemp("qat") / "oBERT-3-QAT"
    return folder, make_published_folder("oBERT-3-downstream-pruned-block4-80-QAT-squadv1", folder)
