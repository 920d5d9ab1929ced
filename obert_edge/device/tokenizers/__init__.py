"""Tokenizers in plain Python that give the ids and offsets of the ``tokenizers`` library.

To add a tokenizer model, write a file beside this one with a
:class:`~obert_edge.device.tokenizers.pieces.PythonTokenizer`, and give it a row in :data:`MODELS`.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional, Type

from obert_edge.device.tokenizers.pieces import PythonTokenizer, part_type
from obert_edge.errors import UnsupportedDeviceError


@dataclass(frozen=True)
class TokenizerModel:
    """One tokenizer model that runs in plain Python.

    Args:
        title: what people call it.
        module: the file beside this one.
        name: its class there.
    """

    title: str
    module: str
    name: str

    def load(self) -> Type[PythonTokenizer]:
        """The class, imported now."""
        found: Type[PythonTokenizer] = getattr(
            importlib.import_module(f"{__name__}.{self.module}"), self.name
        )
        return found


#: ``model.type`` of a ``tokenizer.json`` -> what runs it.
MODELS: Dict[str, TokenizerModel] = {
    "WordPiece": TokenizerModel("BERT's WordPiece", "wordpiece", "WordPieceTokenizer"),
    "BPE": TokenizerModel("RoBERTa's byte-level BPE", "bpe", "BytePairTokenizer"),
}


def titles() -> str:
    """The models that run in plain Python, for people."""
    return " and ".join(model.title for model in MODELS.values())


def python_class(description: Mapping[str, Any]) -> Optional[Type[PythonTokenizer]]:
    """The class for a parsed ``tokenizer.json``; ``None`` when none runs a model of that type."""
    model = MODELS.get(part_type(description, "model"))
    return None if model is None else model.load()


def create_python_tokenizer(description: Mapping[str, Any]) -> PythonTokenizer:
    """The plain Python tokenizer for a parsed ``tokenizer.json``.

    Raises:
        UnsupportedDeviceError: it has a part that only the ``tokenizers`` library can run.
    """
    found = python_class(description)
    if found is None or not found.fits(description):
        parts = [part_type(description, part) for part in ("normalizer", "pre_tokenizer", "model")]
        raise UnsupportedDeviceError(
            f"this bundle's tokenizer ({', '.join(parts)}) needs the tokenizers library; without it run only "
            f"{titles()}",
            hint="run `pip install tokenizers` on this device, or give token ids to `Session.run`",
        )
    return found.from_json(description)
