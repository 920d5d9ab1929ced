"""Damaged ``tokenizer.json``: plain Python and the `tokenizers` library read it, or refuse it."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import List

from obert_edge.device.tokenizers.tokenizer import Tokenizer
from obert_edge.errors import InputError
from tests.device.tokenizers.families import FAMILIES, description_of
from tests.fuzz.loop import Target
from tests.fuzz.mutations import change_json

_TEXTS = (
    "",
    " ",
    "the film is good.",
    "Ünit newtok 🫠 the\tfilm\r\n",
    "中文 e\u0301 \u200d",
    "a" * 200,
    "\ufeff x",
)


class Tokenizers(Target):
    """A ``tokenizer.json`` of each family."""

    name = "tokenizer"

    def prepare(self, folder: Path) -> None:
        self._texts: List[bytes] = [description_of(family).encode() for family in FAMILIES]

    def attempt(self, random: Random) -> None:
        text = change_json(random.choice(self._texts), random)
        use_tokenizer(text, random.choice(("python", "python", "auto")))


def use_tokenizer(text: bytes, backend: str) -> None:
    """Read a tokenizer and do everything with it that a session does."""
    tokenizer = Tokenizer(text, backend)
    ids = tokenizer.ids
    [tokenizer.token(id_) for id_ in list(ids)[:5]]
    tokenizer.token(-1)
    tokenizer.unknown_id, tokenizer.special_ids, tokenizer.marks_continuations  # noqa: B018
    for one in _TEXTS:
        tokenizer.encode(one)
    for pair in (None, _TEXTS[3]):
        try:
            tokenizer.encode(_TEXTS[2], pair, 6)
            tokenizer.encode_windows(_TEXTS[2], pair, 8, 2)
        except InputError:
            pass  # more special tokens than that
