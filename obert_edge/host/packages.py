"""Which optional packages are there, asked before the work that needs them."""

from __future__ import annotations

import importlib.util
from typing import Sequence

from obert_edge.errors import UsageError

#: What a package is called where it is installed from, if not as it is imported.
_DISTRIBUTIONS = {"yaml": "pyyaml", "ai_edge_litert": "ai-edge-litert"}
#: What training and measuring models need.
TORCH_PACKAGES = ("torch", "transformers", "safetensors")
TRAINING_PACKAGES = (*TORCH_PACKAGES, "accelerate")


def require_packages(what: str, names: Sequence[str], extra: str = "host") -> None:
    """Refuse work that needs packages which are not installed; none of them is imported.

    Args:
        what: the work, for the message.
        names: as they are imported.
        extra: the extra of obert-edge that installs them.

    Raises:
        UsageError: some are missing.
    """
    missing = [_DISTRIBUTIONS.get(name, name) for name in names if not _is_there(name)]
    if missing:
        are = "is" if len(missing) == 1 else "are"
        raise UsageError(
            f"{what} needs {' and '.join(missing)}, which {are} not installed",
            hint=f"pip install 'obert-edge[{extra}]'",
        )


def _is_there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False
