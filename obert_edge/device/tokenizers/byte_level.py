"""Bytes as printable characters, as GPT-2 and RoBERTa write them into their vocabularies.

Source: Radford et al. 2019 (GPT-2), ``encoder.py``.
"""

from __future__ import annotations

from typing import Dict

from obert_edge.device.tokenizers.unicode_classes import WHITESPACE


def byte_characters() -> Dict[int, str]:
    """The printable character that stands for each byte (``bytes_to_unicode`` of GPT-2)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {byte: chr(byte) for byte in printable}
    for byte in range(256):
        if byte not in table:
            table[byte] = chr(256 + len(table) - len(printable))
    return table


class _ByteSpelling(Dict[str, str]):
    """A character spelled in byte characters; a dictionary that fills itself."""

    def __missing__(self, character: str) -> str:
        spelled = "".join(BYTE_CHARACTERS[byte] for byte in character.encode())
        self[character] = spelled
        return spelled


#: Byte -> character.
BYTE_CHARACTERS = byte_characters()
#: Any character -> the characters of its UTF-8 bytes.
BYTE_SPELLING = _ByteSpelling()
#: What counts as a space at the ends of a token.
SPACES = BYTE_CHARACTERS[0x20] + "".join(sorted(WHITESPACE))
_BYTES = {character: byte for byte, character in BYTE_CHARACTERS.items()}


def text_of_bytes(token: str) -> str:
    """The text that the byte characters of a token stand for."""
    found = bytes(_BYTES[character] for character in token if character in _BYTES)
    return found.decode("utf-8", "replace")
