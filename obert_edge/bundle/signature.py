"""Who signed a bundle: an Ed25519 signature of its manifest, which has the hashes of all other members.

The signature stands in the manifest itself, as its field ``signature``, which older readers ignore. What is
signed is a line that names this purpose, then the bytes of ``manifest.json`` with zeros for the digits of the
signature. So every byte of the manifest counts, the name of the key included, whatever fields it has.

A public key is a text such as ``ed25519:`` and 64 hexadecimal digits; a file of one holds that text.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Callable, List, NamedTuple, Optional, Sequence, Union

from obert_edge.bundle import ed25519
from obert_edge.bundle.manifest import SignatureFacts
from obert_edge.errors import UsageError, VerificationError

#: A public key: a file of one, or the key itself as a text.
Key = Union[str, Path]

_ALGORITHM = "ed25519:"
_KEY = re.compile(_ALGORITHM + "[0-9a-f]{64}")
_DIGITS = re.compile(f"[0-9a-f]{{{2 * ed25519.SIGNATURE_BYTES}}}")
_UNSIGNED = "0" * (2 * ed25519.SIGNATURE_BYTES)
_PURPOSE = b"obert-edge signature of manifest.json, version 1\n"
#: A file of a public key is a line; one that is longer is something else, and is not read whole.
_MOST_KEY_BYTES = 4096


class Signer(NamedTuple):
    """What signs a bundle.

    Args:
        key: its public key, as a text.
        sign: gives the 64 bytes of the signature of a message.
    """

    key: str
    sign: Callable[[bytes], bytes]


def key_text(key: bytes) -> str:
    """The text of a public key of 32 bytes."""
    return _ALGORITHM + key.hex()


def read_key(key: Key) -> str:
    """The text of a public key.

    Args:
        key: the text itself, or a file that holds it.

    Raises:
        UsageError: it is no public key, or there is no such file.
    """
    if not isinstance(key, (str, os.PathLike)):
        raise UsageError(
            f"a public key is {repr(key)[:60]}; expected a text or a pathlib.Path",
            hint="give a .pub file that `obert-edge keygen` wrote, or the key itself: ed25519:...",
        )
    given = str(key)
    text = given if isinstance(key, str) and key.startswith(_ALGORITHM) else _text_of(Path(given))
    if "PRIVATE KEY" in text:
        raise UsageError(
            f"{given} holds a private key; expected the public one",
            hint="give the .pub file beside it, and keep the private key where bundles are signed",
        )
    if not _KEY.fullmatch(text) or not ed25519.is_public_key(bytes.fromhex(text[len(_ALGORITHM) :])):
        raise UsageError(
            f"{given} is no public key; expected {_ALGORITHM} and the 64 hexadecimal digits of one, or a "
            "file of that",
            hint="give the .pub file that `obert-edge keygen` wrote",
        )
    return text


def read_keys(keys: Sequence[Key]) -> List[str]:
    """The texts of the keys that are trusted.

    Raises:
        UsageError: none are given, or one is no public key.
    """
    listed = [] if isinstance(keys, (str, bytes, Path)) or not hasattr(keys, "__iter__") else list(keys)
    if not listed:
        found = (
            "empty" if hasattr(keys, "__iter__") and not isinstance(keys, (str, bytes)) else repr(keys)[:80]
        )
        raise UsageError(
            f"trusted_keys is {found}; expected a list of one or more public keys",
            hint="give a list of .pub files, or leave trusted_keys out where no signature is asked for",
        )
    return [read_key(key) for key in listed]


def sign_manifest(text: bytes, signer: Signer) -> bytes:
    """A manifest with a signature, in place of the one it may have.

    Args:
        text: ``manifest.json`` as it is written.
        signer: signs it.

    Raises:
        UsageError: it holds the same digits as a signature that is not there yet.
    """
    fields = json.loads(text)
    fields["signature"] = {"key": signer.key, "value": _UNSIGNED}
    unsigned = (json.dumps(fields, indent=1, sort_keys=True) + "\n").encode()
    message = _message(unsigned, _UNSIGNED)
    if message is None:
        raise UsageError(
            "the manifest has a field `value` of 128 zeros, as a signature has before it is made",
            hint="rename that field of the tokenizer's special tokens",
        )
    return unsigned.replace(_field(_UNSIGNED), _field(signer.sign(message).hex()))


def check_signature(text: bytes, facts: SignatureFacts, trusted: Sequence[str], source: str) -> None:
    """Refuse a manifest that none of the trusted keys signed.

    Args:
        text: ``manifest.json``.
        facts: its field ``signature``.
        trusted: public keys as texts.
        source: what to call the bundle in errors.

    Raises:
        VerificationError: it is not signed, by another key, or was altered since.
    """
    wanted = " or ".join(trusted)
    if not facts.key and not facts.value:
        raise VerificationError(
            f"{source} is not signed; expected a signature by {wanted}",
            hint="sign it with `obert-edge sign`, or get it from whoever holds that key",
        )
    if facts.key not in trusted:
        raise VerificationError(
            f"{source} says it is signed by {facts.key[:80]!r}; expected {wanted}",
            hint="get it from whoever holds the key you trust; trust the other key only if you know whose it "
            "is",
        )
    message = _message(text, facts.value) if _DIGITS.fullmatch(facts.value) else None
    key = bytes.fromhex(facts.key[len(_ALGORITHM) :])
    if message is None or not ed25519.verify(key, message, bytes.fromhex(facts.value)):
        raise VerificationError(
            f"the signature of {source} is not one of its manifest by {facts.key}: the manifest was altered "
            "after it was signed, or somebody else signed it",
            hint="do not use it: get the bundle again from whoever signed it",
        )


def _field(value: str) -> bytes:
    """How the digits of a signature stand in the manifest; in a text of it the quotes would be escaped."""
    return f'"value": "{value}"'.encode()


def _message(text: bytes, value: str) -> Optional[bytes]:
    """What is signed; ``None`` where the manifest does not have these digits exactly once."""
    if text.count(_field(value)) != 1:
        return None
    return _PURPOSE + text.replace(_field(value), _field(_UNSIGNED))


def _text_of(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return stream.read(_MOST_KEY_BYTES).decode("utf-8", "replace").strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            f"the public key {path} cannot be read: {reason}",
            hint=f"give a .pub file that `obert-edge keygen` wrote, or the key itself: {_ALGORITHM}...",
        ) from error
