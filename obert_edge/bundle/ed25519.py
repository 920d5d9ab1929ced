"""Checking Ed25519 signatures with whole numbers alone, for devices that have nothing but Python.

Source: RFC 8032, section 5.1, whose names are used here. The rule is the strict one without cofactor: the
point ``[S]B - [k]A`` must have exactly the bytes ``R`` of the signature; ``S`` is below the order ``L`` of
the group; ``A`` is encoded in the only allowed way, and is no point of small order, under which anybody could
sign. What is checked is public, so the time it takes may depend on it. Nothing here signs: that needs code
whose time does not.
"""

from __future__ import annotations

import hashlib
from typing import Optional, Tuple

KEY_BYTES = 32
SIGNATURE_BYTES = 64

#: The prime of the field.
_P = 2**255 - 19
#: The order of the group that ``B`` generates.
_L = 2**252 + 27742317777372353535851937790883648493
#: The curve is -x^2 + y^2 = 1 + D x^2 y^2.
_D = -121665 * pow(121666, _P - 2, _P) % _P
_SQRT_MINUS_1 = pow(2, (_P - 1) // 4, _P)

#: A point as (X, Y, Z, T) with x = X / Z, y = Y / Z and x y = T / Z.
_Point = Tuple[int, int, int, int]
_IDENTITY: _Point = (0, 1, 1, 0)


def verify(key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether a signature is of this message by this key.

    Args:
        key: the public key, 32 bytes.
        message: any number of bytes.
        signature: 64 bytes.
    """
    if len(signature) != SIGNATURE_BYTES:
        return False
    point = _public_point(key)
    r, s = signature[:32], int.from_bytes(signature[32:], "little")
    if point is None or s >= _L:
        return False
    k = int.from_bytes(hashlib.sha512(r + key + message).digest(), "little") % _L
    x, y, z, t = point
    return _encoded(_sum_of_products(s, _BASE, k, (-x % _P, y, z, -t % _P))) == r


def is_public_key(key: bytes) -> bool:
    """Whether 32 bytes are the encoding of a point that can be a public key."""
    return _public_point(key) is not None


def _public_point(key: bytes) -> Optional[_Point]:
    """The point of a public key; ``None`` for what is no encoding of one, or of small order."""
    point = _decoded(key)
    if point is None:
        return None
    multiple = point
    for _ in range(3):  # the cofactor is 8
        multiple = _double(multiple)
    is_small = multiple[0] == 0 and multiple[1] == multiple[2]
    return None if is_small else point


def _decoded(data: bytes) -> Optional[_Point]:
    """Section 5.1.3; ``None`` where the data are no encoding, or not the canonical one."""
    if len(data) != KEY_BYTES:
        return None
    number = int.from_bytes(data, "little")
    sign, y = number >> 255, number & ((1 << 255) - 1)
    if y >= _P:
        return None
    x = _x_of(y, sign)
    return None if x is None else (x, y, 1, x * y % _P)


def _x_of(y: int, sign: int) -> Optional[int]:
    """The x of the two with this y whose lowest bit is ``sign``; ``None`` where no point has this y."""
    u, v = (y * y - 1) % _P, (_D * y * y + 1) % _P
    x = u * pow(v, 3, _P) * pow(u * pow(v, 7, _P), (_P - 5) // 8, _P) % _P
    if v * x * x % _P != u:
        x = x * _SQRT_MINUS_1 % _P
    if v * x * x % _P != u or (x == 0 and sign):
        return None
    return x if x & 1 == sign else _P - x


def _encoded(point: _Point) -> bytes:
    """Section 5.1.2."""
    inverse = pow(point[2], _P - 2, _P)
    x, y = point[0] * inverse % _P, point[1] * inverse % _P
    return (y | (x & 1) << 255).to_bytes(KEY_BYTES, "little")


def _add(one: _Point, other: _Point) -> _Point:
    """Section 5.1.4; right for equal points too."""
    a = (one[1] - one[0]) * (other[1] - other[0]) % _P
    b = (one[1] + one[0]) * (other[1] + other[0]) % _P
    c = 2 * one[3] * other[3] * _D % _P
    d = 2 * one[2] * other[2] % _P
    return _completed(b - a, d - c, d + c, b + a)


def _double(point: _Point) -> _Point:
    """Section 5.1.4, the faster form for one point."""
    a, b = point[0] * point[0] % _P, point[1] * point[1] % _P
    c = 2 * point[2] * point[2] % _P
    h = a + b
    e = h - (point[0] + point[1]) * (point[0] + point[1]) % _P
    g = a - b
    return _completed(e, c + g, g, h)


def _completed(e: int, f: int, g: int, h: int) -> _Point:
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _sum_of_products(s: int, one: _Point, k: int, other: _Point) -> _Point:
    """``[s] one + [k] other``, with the doublings of both done once."""
    addends = (None, one, other, _add(one, other))
    result = _IDENTITY
    for bit in range(max(s.bit_length(), k.bit_length()) - 1, -1, -1):
        result = _double(result)
        addend = addends[(s >> bit & 1) | (k >> bit & 1) << 1]
        if addend is not None:
            result = _add(result, addend)
    return result


def _base_point() -> _Point:
    point = _decoded((4 * pow(5, _P - 2, _P) % _P).to_bytes(KEY_BYTES, "little"))
    assert point is not None
    return point


_BASE = _base_point()
