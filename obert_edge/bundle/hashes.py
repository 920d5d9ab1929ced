"""Hashes and checksums of members; those of large members are computed in chunks, on all CPUs."""

from __future__ import annotations

import hashlib
import os
import threading
import zlib
from functools import lru_cache
from typing import Callable, List, Sequence, TypeVar, Union

#: Large members are hashed in pieces of this many bytes; part of the bundle format.
CHUNK_BYTES = 1 << 20
_DIGEST_BYTES = 32
_MOST_THREADS = 8
#: The polynomial of CRC-32 over GF(2). Bit 31 - i of a number is the coefficient of x**i, here and below.
_POLYNOMIAL = 0xEDB88320

Data = Union[bytes, bytearray, memoryview]
#: A function that computes the CRC-32 of data, as ZIP and zlib define it.
Crc32 = Callable[[Data], int]
_T = TypeVar("_T")
_Chunk = TypeVar("_Chunk")


def sha256(data: Data) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def chunk_digests(data: Data) -> List[str]:
    """BLAKE2b-256 of every ``CHUNK_BYTES`` of the data, in hexadecimal.

    The chunks are hashed on as many threads as this process has CPUs; hashlib releases Python's lock
    meanwhile.

    Args:
        data: any number of bytes; no bytes give an empty list.
    """

    def digest(chunk: memoryview) -> str:
        return hashlib.blake2b(chunk, digest_size=_DIGEST_BYTES).hexdigest()

    return of_each(_chunks(data), digest)


def crc32(data: Data, of_chunk: Crc32 = zlib.crc32) -> int:
    """CRC-32 of the data, put together from those of its chunks.

    The chunks are read on as many threads as this process has CPUs.

    Args:
        data: any number of bytes.
        of_chunk: computes the CRC-32 of one chunk; it should release Python's lock meanwhile.
    """
    chunks = _chunks(data)
    if len(chunks) < 2:
        return of_chunk(data)
    whole = 0
    for chunk, checksum in zip(chunks, of_each(chunks, of_chunk)):
        whole = _product(whole, _power(len(chunk))) ^ checksum
    return whole


def _product(a: int, b: int) -> int:
    """The product of two polynomials over GF(2), modulo the polynomial of CRC-32."""
    product = 0
    for bit in range(31, -1, -1):
        if a >> bit & 1:
            product ^= b
        b = b >> 1 ^ (_POLYNOMIAL if b & 1 else 0)
    return product


@lru_cache(maxsize=16)
def _power(length: int) -> int:
    """The factor by which a CRC-32 is multiplied when ``length`` bytes follow: x**(8 length), by squaring."""
    result, square = 1 << 31, 1 << 23
    while length:
        if length & 1:
            result = _product(result, square)
        square = _product(square, square)
        length >>= 1
    return result


def _chunks(data: Data) -> List[memoryview]:
    view = memoryview(data)
    return [view[start : start + CHUNK_BYTES] for start in range(0, len(view), CHUNK_BYTES)]


def of_each(chunks: Sequence[_Chunk], function: Callable[[_Chunk], _T]) -> List[_T]:
    """The results of ``function`` for all chunks, in order, on all CPUs; its errors are raised here."""
    results: List[_T] = [None] * len(chunks)  # type: ignore[list-item]  # every one is filled in below
    errors: List[BaseException] = []
    left = iter(range(len(chunks)))  # shared by all threads: each takes the next chunk

    def work() -> None:
        try:
            for index in left:
                results[index] = function(chunks[index])
        except BaseException as error:
            errors.append(error)

    threads = min(_cpus(), _MOST_THREADS, len(chunks))
    others: List[threading.Thread] = []
    for _ in range(threads - 1):
        thread = threading.Thread(target=work)
        try:
            thread.start()
        except RuntimeError:  # no memory for its stack, or no more threads allowed: fewer will do
            break
        others.append(thread)
    work()
    for thread in others:
        thread.join()
    if errors:
        raise errors[0]
    return results


def _cpus() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # not Linux
        return os.cpu_count() or 1
