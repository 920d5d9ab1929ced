"""What is looked at in a SentencePiece model before other libraries read it.

Source: ``sentencepiece_model.proto`` (Kudo and Richardson 2018) for the fields, and the encoding of Protocol
Buffers for how they lie in the file.
"""

from __future__ import annotations

from typing import Iterator, Tuple

from obert_edge.device.tokenizers.precompiled import check_table

#: ``ModelProto.normalizer_spec`` and ``NormalizerSpec.precompiled_charsmap``.
_NORMALIZER, _CHARSMAP = 3, 2
#: Wire types: a number, bytes behind their length, and how many bytes the others take.
_VARINT, _DELIMITED = 0, 2
_FIXED = {1: 8, 3: 0, 4: 0, 5: 4}


def check_sentencepiece(content: bytes) -> None:
    """Look at a model's table of replacements, as :func:`check_charsmaps` does in a ``tokenizer.json``.

    What is no message of Protocol Buffers is left to the libraries that read it, which say so.

    Args:
        content: a ``.model`` file.

    Raises:
        ValueError: its table claims more than there is.
    """
    for number, normalizer in _messages(content):
        if number == _NORMALIZER:
            for field, charsmap in _messages(normalizer):
                if field == _CHARSMAP and charsmap:
                    check_table(charsmap)


def _messages(content: bytes) -> Iterator[Tuple[int, bytes]]:
    """Numbers and contents of the fields that have a length, up to where the message is torn."""
    at = 0
    while at < len(content):
        key, at = _varint(content, at)
        kind = key & 7
        if kind == _VARINT:
            _, at = _varint(content, at)
        elif kind == _DELIMITED:
            size, at = _varint(content, at)
            if at + size > len(content):
                return
            yield key >> 3, content[at : at + size]
            at += size
        elif kind in _FIXED:
            at += _FIXED[kind]
        else:
            return


def _varint(content: bytes, at: int) -> Tuple[int, int]:
    """A number of seven bits a byte, the lowest first, and the place after it."""
    value = shift = 0
    while at < len(content):
        byte = content[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80 or shift >= 70:
            break
    return value, at
