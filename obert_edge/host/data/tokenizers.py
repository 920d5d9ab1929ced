"""The tokenizer of a model folder, as the `tokenizers` library's object."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from tokenizers import Tokenizer

from obert_edge.errors import CheckpointError


def load_tokenizer(folder: Path) -> Tokenizer:
    """Load ``tokenizer.json``, or let transformers convert an older vocabulary.

    Truncation and padding are switched off; tasks set what they need.

    Raises:
        CheckpointError: there is no tokenizer, or it cannot be read.
    """
    path = Path(folder) / "tokenizer.json"
    if path.is_file():
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:
            raise CheckpointError(
                f"{path} is not a tokenizer: {error}", hint="download the checkpoint again"
            ) from error
    else:
        tokenizer = _convert(Path(folder))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _convert(folder: Path) -> Tokenizer:
    from transformers import AutoTokenizer

    try:
        return cast(Tokenizer, AutoTokenizer.from_pretrained(str(folder), use_fast=True).backend_tokenizer)
    except Exception as error:
        raise CheckpointError(
            f"{folder} holds no tokenizer.json and no vocabulary transformers can convert: {error}",
            hint="copy the tokenizer files of the checkpoint into the folder",
        ) from error
