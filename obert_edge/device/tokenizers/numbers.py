"""Numbers of a ``tokenizer.json`` as the ``tokenizers`` library reads them, to the last bit.

That library reads a decimal fraction as an integer divided by a power of ten, which now and then is not the
nearest number. Two ways to cut a long word can differ by so little, so the same has to be read here.
"""

from __future__ import annotations

import json
import re
from typing import Any, Tuple, Union

#: Digits are read as long as the integer that they make fits 64 bits; those behind count as zeros.
_LARGEST = (1 << 64) - 1
#: The largest power of ten that is divided by at once.
_LARGEST_POWER = 308
_FLOAT = re.compile(r"(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?")


def parse_json(text: Union[str, bytes]) -> Any:
    """The content of a ``tokenizer.json``.

    Raises:
        ValueError: it is no JSON, or a number in it is too large.
    """
    return json.loads(text, parse_float=parse_float, parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def parse_float(literal: str) -> float:
    """A number with a fraction or an exponent."""
    match = _FLOAT.fullmatch(literal)
    if match is None:
        raise ValueError(f"{literal!r} is no number")
    sign, whole, fraction, power = match.groups()
    significand, exponent = _digits(whole, fraction or "", int(power or 0))
    value = float(significand)
    while exponent < -_LARGEST_POWER and value:
        value /= 1e308
        exponent += _LARGEST_POWER
    value = value * float(f"1e{exponent}") if exponent >= 0 else value / float(f"1e{-exponent}")
    if value == float("inf"):
        raise ValueError(f"{literal} is too large")
    return -value if sign else value


def _digits(whole: str, fraction: str, exponent: int) -> Tuple[int, int]:
    """The integer that the digits make, and the power of ten that it is multiplied by."""
    digits = whole + fraction
    significand = int(digits)
    exponent -= len(fraction)
    while significand > _LARGEST:
        significand //= 10
        exponent += 1
    return significand, exponent
