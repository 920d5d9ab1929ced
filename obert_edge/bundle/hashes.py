"""Hashes of members: of a whole one, and of a large one in chunks, on all CPUs."""

from __future__ import annotations

import hashlib
import os
import threading
from typing import List, Union

#: Large members are hashed in pieces of this many bytes; part of the bundle format.
CHUNK_BYTES = 1 << 20
_DIGEST_BYTES = 32
_MOST_THREADS = 8

Data = Union[bytes, bytearray, memoryview]


def sha256(data: Data) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def chunk_digests(data: Data) -> List[str]:
    """BLAKE2b-256 of every ``CHUNK_BYTES`` of the data, in hexadecimal.

    On as many threads as this process has CPUs (hashlib lets go of the interpreter meanwhile).

    Args:
        data: any number of bytes; none give an empty list.
    """
    view = memoryview(data)
    starts = range(0, len(view), CHUNK_BYTES)
    digests = [""] * len(starts)
    left = iter(range(len(starts)))  # of all threads: each takes the next chunk

    def hash_chunks() -> None:
        for index in left:
            chunk = view[starts[index] : starts[index] + CHUNK_BYTES]
            digests[index] = hashlib.blake2b(chunk, digest_size=_DIGEST_BYTES).hexdigest()

    threads = min(_cpus(), _MOST_THREADS, len(starts))
    others = [threading.Thread(target=hash_chunks) for _ in range(threads - 1)]
    for thread in others:
        thread.start()
    hash_chunks()
    for thread in others:
        thread.join()
    return digests


def _cpus() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # not Linux
        return os.cpu_count() or 1
