"""Tokenizers in plain Python that give the ids and offsets of the ``tokenizers`` library.

To add a tokenizer model, write a file beside this one with a
:class:`~obert_edge.device.tokenizers.pieces.PieceModel`, and give it a row in :data:`MODELS`.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, Dict, Mapping, Type

from obert_edge.device.tokenizers.fields import numbered_words, scored_pieces
from obert_edge.device.tokenizers.pieces import PieceModel, part_type, unknown_part


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

    def load(self) -> Type[PieceModel]:
        """The class, imported now."""
        found: Type[PieceModel] = getattr(importlib.import_module(f"{__name__}.{self.module}"), self.name)
        return found


#: ``model.type`` of a ``tokenizer.json`` -> what runs it.
MODELS: Dict[str, TokenizerModel] = {
    "WordPiece": TokenizerModel("BERT's WordPiece", "wordpiece", "WordPiece"),
    "BPE": TokenizerModel("RoBERTa's and Gemma's BPE", "bpe", "BytePair"),
    "Unigram": TokenizerModel("SentencePiece's Unigram", "unigram", "Unigram"),
    "WordLevel": TokenizerModel("WordLevel", "wordlevel", "WordLevel"),
}


def titles() -> str:
    """The models that run in plain Python, for people."""
    *first, last = (model.title for model in MODELS.values())
    return f"{', '.join(first)} and {last}"


def create_model(description: Mapping[str, Any]) -> PieceModel:
    """The model of a parsed ``tokenizer.json``, in plain Python.

    Raises:
        UnsupportedDeviceError: it is one that plain Python does not run, or has such an option.
        BundleError: it names tokens that it does not have.
    """
    model = MODELS.get(part_type(description, "model"))
    if model is None:
        raise unknown_part("model", description["model"])
    return model.load().from_json(description["model"])


def vocabulary_of(description: Mapping[str, Any]) -> Dict[str, int]:
    """Token to id of the model of a parsed ``tokenizer.json``, without added tokens.

    Raises:
        ValueError: it is no vocabulary.
    """
    vocabulary = description["model"]["vocab"]
    if isinstance(vocabulary, list):
        return {piece: id_ for id_, (piece, _) in enumerate(scored_pieces(vocabulary))}
    return numbered_words(vocabulary)
