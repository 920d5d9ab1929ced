"""The tokenizer of a model folder: its ``tokenizer.json``, or an object of the `tokenizers` library.

A bundle runs its ``tokenizer.json`` on the device in plain Python (``device/tokenizers``); training and
evaluation on the host use the `tokenizers` library.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Optional

from obert_edge.errors import CheckpointError
from obert_edge.host.checkpoints.checkpoint import read_json

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_log = logging.getLogger(__name__)

FILE = "tokenizer.json"
#: Vocabularies that transformers can make a ``tokenizer.json`` of.
_OLDER_FILES = ("vocab.txt", "vocab.json", "sentencepiece.bpe.model", "spm.model")
#: What ``special_tokens_map.json`` and ``tokenizer_config.json`` call the special tokens.
_SPECIAL = ("cls_token", "sep_token", "mask_token", "pad_token", "unk_token", "bos_token", "eos_token")


def read_tokenizer(folder: Path) -> Optional[bytes]:
    """The ``tokenizer.json`` of a model folder, made by transformers from older files if need be.

    Returns:
        Its bytes; ``None`` when the folder has no tokenizer at all.

    Raises:
        CheckpointError: there is one that cannot be read.
    """
    path = Path(folder) / FILE
    if path.is_file():
        read_json(path)
        return path.read_bytes()
    if not any((Path(folder) / name).is_file() for name in _OLDER_FILES):
        _log.warning("%s has no tokenizer: the bundle will take token ids, not texts", folder)
        return None
    return str(_convert(Path(folder)).to_str()).encode()


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a model folder, from its ``tokenizer.json`` or an older vocabulary.

    Truncation and padding are switched off; tasks set what they need.

    Raises:
        CheckpointError: there is no tokenizer, or it cannot be read.
    """
    from tokenizers import Tokenizer

    path = Path(folder) / FILE
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
    """Let transformers make a tokenizer of an older vocabulary."""
    try:
        from transformers import AutoTokenizer

        tokenizer: Tokenizer = AutoTokenizer.from_pretrained(str(folder), use_fast=True).backend_tokenizer
    except Exception as error:  # whatever transformers raises on a bad file, the user needs the same advice
        raise CheckpointError(
            f"{folder} holds no {FILE}, and transformers cannot make one of its other files: {error}",
            hint="copy the tokenizer files of the checkpoint into the folder, or save them with "
            "AutoTokenizer.from_pretrained(...).save_pretrained(folder)",
        ) from error
    return tokenizer


def tokenizer_facts(folder: Path) -> Dict[str, Any]:
    """What the manifest says of the tokenizer: ``class``, ``model_max_length`` (tokens), ``special_tokens``.

    It is read from ``tokenizer_config.json`` and ``special_tokens_map.json``; what they lack is left out.
    """
    config = read_json(Path(folder) / "tokenizer_config.json") or {}
    facts: Dict[str, Any] = {}
    if isinstance(config.get("tokenizer_class"), str):
        facts["class"] = config["tokenizer_class"]
    longest = config.get("model_max_length")
    if isinstance(longest, int) and 0 < longest < 1 << 20:  # transformers writes 10**30 for "no limit"
        facts["model_max_length"] = longest
    special = {**(read_json(Path(folder) / "special_tokens_map.json") or {}), **config}
    tokens = {name: _content(special.get(name)) for name in _SPECIAL}
    facts["special_tokens"] = {name: token for name, token in tokens.items() if token}
    return facts


def _content(token: Any) -> Optional[str]:
    """A special token is a string, or an object with its ``content``."""
    value = token.get("content") if isinstance(token, dict) else token
    return value if isinstance(value, str) else None


def check_vocabulary(tokenizer: Optional[bytes], vocabulary: int, folder: Path) -> None:
    """Refuse a tokenizer that makes ids the model has no embedding for.

    Args:
        tokenizer: a ``tokenizer.json``; None: there is nothing to check.
        vocabulary: rows of the model's word-embedding table.
        folder: what to call the model in errors.

    Raises:
        CheckpointError: it does.
    """
    if tokenizer is None:
        return
    model = json.loads(tokenizer).get("model", {})
    ids = model.get("vocab") if isinstance(model, dict) else None
    largest = max(ids.values(), default=-1) if isinstance(ids, dict) else -1
    if isinstance(largest, int) and largest >= vocabulary:
        raise CheckpointError(
            f"the tokenizer of {folder} makes ids up to {largest}; the model has {vocabulary} word "
            "embeddings",
            hint="copy the tokenizer files that belong to this model",
        )
