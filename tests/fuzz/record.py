"""What long runs have tried so far, in a file: a run that was interrupted goes on from there."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List

from obert_edge.device.runtime import library as libraries
from obert_edge.files import atomic_file
from tests.fuzz.loop import KEPT, Result

ROOT = Path(__file__).parents[2]


@dataclass
class Entry:
    """The tries of one kind, with one seed, of one state of the code.

    Args:
        kind: name of the target.
        seed: of the tries.
        commit: of the code, with a ``+`` where files of the library or the tests were changed.
        library: the first digits of the engine library's SHA-256, and whether it is sanitized.
        first: number of the first try.
        following: number of the try that comes next.
        faults: how often each kind came.
        numbers: of the first tries of each kind, with which one can be repeated alone.
    """

    kind: str
    seed: int
    commit: str
    library: str
    first: int
    following: int
    accepted: int = 0
    refused: int = 0
    slowest: float = 0.0
    seconds: float = 0.0
    faults: Dict[str, int] = field(default_factory=dict)
    numbers: Dict[str, List[int]] = field(default_factory=dict)

    @property
    def tried(self) -> int:
        """How many tries that were."""
        return self.following - self.first

    def add(self, result: Result) -> None:
        """Count further tries, which follow the last one."""
        self.following += result.tried
        self.accepted += result.accepted
        self.refused += result.refused
        self.slowest = max(self.slowest, round(result.slowest, 3))
        self.seconds = round(self.seconds + result.seconds, 1)
        for kind, times in result.kinds.items():
            self.faults[kind] = self.faults.get(kind, 0) + times
            kept = [*self.numbers.get(kind, []), *result.numbers.get(kind, [])]
            self.numbers[kind] = kept[:KEPT]


class Record:
    """The entries of a file, which is written whole after every few tries."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.entries: List[Entry] = []
        if path.exists():
            self.entries = [Entry(**one) for one in json.loads(path.read_text("utf-8"))]

    def entry(self, kind: str, seed: int, commit: str, library: str) -> Entry:
        """The entry to add to; tries of other states of the code are not repeated, theirs come before."""
        same = [one for one in self.entries if (one.kind, one.seed) == (kind, seed)]
        if same and (same[-1].commit, same[-1].library) == (commit, library):
            return same[-1]
        first = max((one.following for one in same), default=0)
        new = Entry(kind, seed, commit, library, first, first)
        self.entries.append(new)
        return new

    def tried(self, kind: str, seed: int, library: str) -> int:
        """The tries of a kind with one library, of every state of the rest of the code."""
        wanted = (kind, seed, library)
        return sum(one.tried for one in self.entries if (one.kind, one.seed, one.library) == wanted)

    def write(self) -> None:
        """Write the file, whole or not at all."""
        with atomic_file(self._path) as path:
            path.write_text(json.dumps([dataclasses.asdict(one) for one in self.entries], indent=1) + "\n")


def commit() -> str:
    """The state of the code that is tried."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--", "obert_edge", "targets", "calibration", "tests/fuzz")
    return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")


def library() -> str:
    """Which engine library is tried."""
    found = libraries.installed_library()
    if found is None:
        return "none"
    content = Path(found.path).read_bytes()
    return hashlib.sha256(content).hexdigest()[:8] + (" sanitized" if b"__asan_init" in content else "")
