"""The tokenizer of a model folder, as one ``tokenizer.json``."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, Dict, Optional

from obert_edge.errors import CheckpointError
from obert_edge.host.checkpoints.checkpoint import read_json

_log = logging.getLogger(__name__)

FILE = "tokenizer.json"
_OLDER_FILES = ("vocab.txt", "vocab.json", "sentencepiece.bpe.model", "spm.model")
_SPECIAL = ("cls_token", "sep_token", "mask_token", "pad_token", "unk_token", "bos_token", "eos_token")


def read_tokenizer(folder: Path) -> Optional[bytes]:
    """The ``tokenizer.json`` of a model folder, made by transformers from older files if need be.

    Returns:
        its bytes, or ``None`` when the folder has no tokenizer at all.

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
    try:
        from transformers import AutoTokenizer

        text: str = AutoTokenizer.from_pretrained(folder, use_fast=True).backend_tokenizer.to_str()
    except Exception as error:  # whatever transformers raises on a bad file, the user needs the same advice
        raise CheckpointError(
            f"the tokenizer of {folder} cannot be made a {FILE}: {error}",
            hint="save it with AutoTokenizer.from_pretrained(...).save_pretrained(folder)",
        ) from error
    return text.encode()


def tokenizer_facts(folder: Path) -> Dict[str, Any]:
    """The essentials of ``tokenizer_config.json`` for the manifest: class, longest input, special tokens."""
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
