"""Keys of whoever signs bundles: making them, and signing with them.

Signing needs the package ``cryptography``, whose time does not depend on the key; checking, which devices do,
needs nothing (:mod:`obert_edge.bundle.ed25519`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Tuple, Union

from obert_edge.bundle.signature import Signer, key_text
from obert_edge.errors import UsageError
from obert_edge.files import check_file, new_file
from obert_edge.packages import imports_for

#: What the name of a public key ends in.
PUBLIC_SUFFIX = ".pub"


def make_keys(path: Union[str, Path]) -> Tuple[Path, Path]:
    """Make a key pair: the private key, which only the user may read, and the public one beside it.

    Args:
        path: the private key to write, as PKCS #8 in PEM; the public one has the ending ``.pub`` instead.

    Returns:
        Both files.

    Raises:
        UsageError: one of the files exists, or ``cryptography`` is not installed.
        ObertEdgeError: they cannot be written.
    """
    private, public = Path(path), Path(path).with_suffix(PUBLIC_SUFFIX)
    if private == public:
        raise UsageError(
            f"the private key {private} ends in {PUBLIC_SUFFIX}, as the public one beside it will",
            hint=f"name it {private.with_suffix('.key')}",
        )
    for place in (private, public):
        check_file(place)
        if place.exists():
            raise UsageError(
                f"{place} exists, and a key is never overwritten",
                hint="name another file, or move that one away",
            )
    serialization, ed25519 = _cryptography()
    key = ed25519.Ed25519PrivateKey.generate()
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    with new_file(private, 0o600) as stream:
        stream.write(secret)
        with new_file(public, 0o644) as other:
            other.write(f"{key_text(key.public_key().public_bytes_raw())}\n".encode())
    return private, public


def read_signer(path: Union[str, Path]) -> Signer:
    """What signs with a private key.

    Args:
        path: of :func:`make_keys`, or any Ed25519 key as PKCS #8 in PEM without a passphrase.

    Raises:
        UsageError: it is no such key, cannot be read, or ``cryptography`` is not installed.
    """
    serialization, ed25519 = _cryptography()
    hint = "give the private key that `obert-edge keygen` wrote"
    try:
        key = serialization.load_pem_private_key(Path(path).read_bytes(), password=None)
    except OSError as error:
        raise UsageError(f"the private key {path} cannot be read: {error.strerror}", hint=hint) from error
    except TypeError as error:
        raise UsageError(
            f"the private key {path} has a passphrase; expected one without", hint=hint
        ) from error
    except Exception as error:  # cryptography has errors of its own for what it cannot parse
        raise UsageError(f"{path} is no private key in PEM; expected one of Ed25519", hint=hint) from error
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise UsageError(f"{path} is a {type(key).__name__}; expected a private key of Ed25519", hint=hint)
    return Signer(key_text(key.public_key().public_bytes_raw()), key.sign)


def _cryptography() -> Tuple[Any, Any]:
    with imports_for("signing"):
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    return serialization, ed25519
