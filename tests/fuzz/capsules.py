"""Damaged ``.tflite`` files with our op: our reader gets any bytes, LiteRT whole tables of its own."""

from __future__ import annotations

import io
from pathlib import Path
from random import Random
from typing import Dict

import numpy as np

from obert_edge.bundle.container import PROGRAM, WEIGHTS, Bundle
from obert_edge.bundle.hashes import chunk_digests
from obert_edge.device.export.litert_models import write_encoder_tflite
from obert_edge.device.export.litert_runtime import CASE, DIGESTS, ENCODER_OP, load_tflite, read_case
from obert_edge.device.export.tflite_reader import TfliteReader
from tests.fuzz.bundles import GOLDEN, change_program, change_weights
from tests.fuzz.loop import Target
from tests.fuzz.mutations import change_bytes


class Capsules(Target):
    """The golden bundles as files of LiteRT."""

    name = "capsule"

    def prepare(self, folder: Path) -> None:
        self._path = folder / "damaged.obert-edge.tflite"
        self._sources = []
        for bundle in sorted(GOLDEN.glob("v*.oeb")):
            path = write_encoder_tflite(bundle, folder / f"{bundle.stem}.tflite", 8)
            with Bundle.open(bundle) as opened:
                parts = {name: bytes(opened.member(name)) for name in (PROGRAM, WEIGHTS)}
            self._sources.append((path.read_bytes(), TfliteReader(path), parts))

    def attempt(self, random: Random) -> None:
        data, reader, parts = random.choice(self._sources)
        if random.random() < 0.4:
            self._path.write_bytes(change_bytes(data, random))
            read_case(self._path)
            return
        changed = bytearray(data)
        capsule = bytes(reader.custom_ops[ENCODER_OP])
        damaged = self._damaged(capsule, parts, random)
        _put(changed, capsule, damaged)
        _put(changed, bytes(reader.metadata[DIGESTS]), "\n".join(chunk_digests(damaged)).encode())
        if random.random() < 0.2:
            case = bytes(reader.metadata[f"{CASE}.0"])
            _put(changed, case, _damaged_case(case, random))
        self._path.write_bytes(changed)
        load_tflite(self._path, threads=random.choice((1, 2)))

    def _damaged(self, capsule: bytes, parts: Dict[str, bytes], random: Random) -> bytes:
        """A capsule of the same size with its header, program or weights changed."""
        action = random.random()
        if action < 0.2:
            return change_bytes(capsule[:64], random)[:64].ljust(64, b"\0") + capsule[64:]
        name, change = (PROGRAM, change_program) if action < 0.7 else (WEIGHTS, change_weights)
        changed = bytearray(capsule)
        new = change(parts[name], random)
        _put(changed, parts[name], new[: len(parts[name])].ljust(len(parts[name]), b"\0"))
        return bytes(changed)


def _put(data: bytearray, old: bytes, new: bytes) -> None:
    """Put bytes in place of others of the same length."""
    at = data.find(old)
    assert at >= 0 and len(old) == len(new)
    data[at : at + len(old)] = new


def _damaged_case(case: bytes, random: Random) -> bytes:
    """An archive of arrays with one left out or of another type, or any bytes, padded to its old length."""
    if random.random() < 0.4:
        return change_bytes(case, random)[: len(case)].ljust(len(case), b"\0")
    with np.load(io.BytesIO(case)) as opened:
        arrays = {name: opened[name] for name in opened.files}
    name = random.choice(sorted(arrays))
    array = arrays.pop(name)
    if random.random() < 0.6:
        arrays[name] = random.choice(
            (array[:1, :1], array.astype(np.uint8), array.reshape(-1), array * 0 - 1)
        )
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    content = stream.getvalue()
    # What follows an archive is its comment, to a reader that looks for the end.
    return content.ljust(len(case), b"\0") if len(content) <= len(case) else case
