"""Packages that some work needs beside our own dependencies, and the extra of ours that installs each."""

from __future__ import annotations

import contextlib
import importlib.util
from typing import Dict, Iterator, Sequence

from obert_edge.errors import UsageError

#: By the name that is imported, the extra of ours that installs a package.
EXTRAS: Dict[str, str] = {
    **dict.fromkeys(
        ("torch", "scipy", "transformers", "huggingface_hub", "safetensors", "accelerate"), "host"
    ),
    "yaml": "host",
    **dict.fromkeys(("onnxruntime", "onnx", "ai_edge_litert"), "baselines"),
    "openvino": "openvino",
    "cryptography": "sign",
    **dict.fromkeys(("starlette", "uvicorn", "httptools", "uvloop", "orjson", "prometheus_client"), "serve"),
    "datasets": "datasets",
    "sentence_transformers": "sentence-transformers",
    "langchain_core": "langchain",
    "llama_index": "llama-index",
    "sklearn": "sklearn",
    "presidio_analyzer": "presidio",
    "spacy": "spacy",
}
#: What a package is called where it is installed from, if not as it is imported but for underscores.
DISTRIBUTIONS = {"yaml": "PyYAML", "sklearn": "scikit-learn", "llama_index": "llama-index-core"}
#: What training and measuring models need.
TORCH_PACKAGES = ("torch", "transformers", "safetensors")
TRAINING_PACKAGES = (*TORCH_PACKAGES, "accelerate")


def how_to_install(*names: str) -> str:
    """The command that installs packages, named as they are imported, for a hint."""
    extras = dict.fromkeys(EXTRAS[name] for name in names)
    return f"pip install 'obert-edge[{','.join(extras)}]'"


def require_packages(what: str, names: Sequence[str]) -> None:
    """Refuse work that needs packages which are not installed; none of them is imported.

    Args:
        what: the work, for the message.
        names: as they are imported.

    Raises:
        UsageError: some are missing.
    """
    missing = [name for name in names if not _is_there(name)]
    if missing:
        raise _missing(what, missing)


@contextlib.contextmanager
def imports_for(what: str) -> Iterator[None]:
    """Refuse work when the block imports a package that is not installed.

    Args:
        what: the work, for the message.

    Raises:
        UsageError: one of :data:`EXTRAS` is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        if name not in EXTRAS:
            raise
        raise _missing(what, [name]) from error


def _missing(what: str, names: Sequence[str]) -> UsageError:
    called = [DISTRIBUTIONS.get(name, name.replace("_", "-")) for name in names]
    are = "is" if len(names) == 1 else "are"
    return UsageError(
        f"{what} needs {' and '.join(called)}, which {are} not installed", hint=how_to_install(*names)
    )


def _is_there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False
