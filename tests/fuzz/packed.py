"""Damaged packed bundles: what is not refused must be the very bundle."""

from __future__ import annotations

import gzip
from pathlib import Path
from random import Random

from obert_edge.bundle.packed import pack_bundle, unpack_bundle
from tests.fuzz.bundles import GOLDEN
from tests.fuzz.loop import DifferenceError, Target
from tests.fuzz.mutations import change_bytes


class PackedBundles(Target):
    """The golden bundles in their packed form."""

    name = "packed"

    def prepare(self, folder: Path) -> None:
        self._path, self._output = folder / "damaged.oeb.gz", folder / "damaged.oeb"
        self._sources = [
            (path.read_bytes(), pack_bundle(path, folder / f"{path.stem}.gz").read_bytes())
            for path in sorted(GOLDEN.glob("v*.oeb"))
        ]

    def attempt(self, random: Random) -> None:
        plain, packed = random.choice(self._sources)
        action = random.random()
        if action < 0.05:  # as another gzip packs it
            damaged = gzip.compress(plain, random.randrange(1, 4))
        elif action < 0.6:
            damaged = change_bytes(packed, random)
        elif action < 0.9:  # a sound stream of a damaged bundle
            damaged = gzip.compress(change_bytes(plain, random), 1)
        else:
            damaged = gzip.compress(bytes(random.choice((0, 1, 1 << 16, 1 << 24))), 1)
        self._path.write_bytes(damaged)
        if unpack_bundle(self._path, self._output).read_bytes() != plain:
            raise DifferenceError("another bundle came of a packed one, and was not refused")
