"""Ed25519 as RFC 8032 has it, and as the `cryptography` package answers."""

from __future__ import annotations

import random

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from obert_edge.bundle.ed25519 import _L, _P, is_public_key, verify

#: RFC 8032, section 7.1: public key, message, signature.
VECTORS = {
    "TEST 1": (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    "TEST 2": (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    "TEST 3": (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
    "TEST SHA(abc)": (
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
        "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b589"
        "09351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
    ),
}

#: Encodings of points of order 1, 2, 4 and 8, under which anybody can sign.
SMALL_ORDER = (
    "01" + "00" * 31,
    "ec" + "ff" * 30 + "7f",
    "00" * 32,
    "00" * 31 + "80",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
)


def theirs(key: bytes, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


@pytest.mark.parametrize("name", VECTORS)
def test_the_vectors_of_rfc_8032(name: str) -> None:
    key, message, signature = map(bytes.fromhex, VECTORS[name])
    assert verify(key, message, signature)
    assert not verify(key, message + b"x", signature)


def test_the_answers_of_cryptography_for_right_and_changed_signatures() -> None:
    source = random.Random(8032)
    answers = []
    for _ in range(40):
        private = Ed25519PrivateKey.from_private_bytes(source.randbytes(32))
        key = private.public_key().public_bytes_raw()
        message = source.randbytes(source.randrange(200))
        signature = private.sign(message)
        assert verify(key, message, signature)
        for part in range(3):
            changed = [bytearray(key), bytearray(message or b"m"), bytearray(signature)]
            at = source.randrange(len(changed[part]))
            changed[part][at] ^= 1 << source.randrange(8)
            given = tuple(map(bytes, changed))
            answers.append(verify(*given))
            assert answers[-1] == theirs(*given)
    assert not any(answers)


def test_a_second_form_of_a_signature_is_refused() -> None:
    private = Ed25519PrivateKey.from_private_bytes(bytes(32))
    key, signature = private.public_key().public_bytes_raw(), private.sign(b"m")
    scalar = int.from_bytes(signature[32:], "little") + _L
    other = signature[:32] + scalar.to_bytes(32, "little")
    assert verify(key, b"m", signature) and not verify(key, b"m", other)
    assert not theirs(key, b"m", other)


@pytest.mark.parametrize("length", [0, 31, 63, 65, 128])
def test_lengths_that_no_key_or_signature_has(length: int) -> None:
    key, message, signature = map(bytes.fromhex, VECTORS["TEST 2"])
    assert not verify(key, message, signature.ljust(length, b"\0")[:length])
    assert not is_public_key(bytes(length))


@pytest.mark.parametrize("encoding", SMALL_ORDER)
def test_a_point_of_small_order_is_no_key(encoding: str) -> None:
    key = bytes.fromhex(encoding)
    assert not is_public_key(key)
    # R = the identity and S = 0 is a signature of some messages by such a key.
    forged = bytes.fromhex("01" + "00" * 63)
    assert not any(verify(key, bytes([number]), forged) for number in range(16))


def test_an_encoding_that_is_not_the_canonical_one_is_no_key() -> None:
    for y in range(2, 19):
        high = (y + _P).to_bytes(32, "little")
        assert not is_public_key(high)
    assert not is_public_key((_P + 3).to_bytes(32, "little"))
    points = [is_public_key(y.to_bytes(32, "little")) for y in range(2, 60)]
    assert any(points) and not all(points)  # about half of all numbers are the y of a point
