"""A few hundred damaged files of every kind: none ends in anything but an error of ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from obert_edge.errors import BundleError
from tests.fuzz.loop import LONGEST, Target, attempt, generator, run
from tests.fuzz.targets import TARGETS

#: Tries of each kind; together some 20 seconds.
COUNTS = {
    "bundle": 500,
    "packed": 100,
    "capsule": 300,
    "tokenizer": 700,
    "checkpoint": 250,
    "data": 800,
    "recipe": 60,
}
SEED = 20261130


def test_every_kind_is_tried() -> None:
    assert set(COUNTS) == set(TARGETS)


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_files_are_read_or_refused(name: str, tmp_path: Path) -> None:
    result = run(TARGETS[name](), COUNTS[name], SEED, tmp_path)
    assert not result.faults, "\n".join(
        f"{fault.number}: {fault.kind}\n{fault.details}" for fault in result.faults
    )
    assert result.tried == COUNTS[name]
    assert result.accepted > 0 < result.refused
    assert result.slowest < LONGEST


class Sick(Target):
    """Ends the process, raises what is none of ours, refuses or accepts, by turns."""

    name = "sick"

    def prepare(self, folder: Path) -> None:
        self.number = -1

    def attempt(self, random) -> None:
        self.number += 1
        if random.random() < 0.2:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGSEGV)
        if random.random() < 0.2:
            raise KeyError("none of ours")
        if random.random() < 0.5:
            raise BundleError("ours")


def test_crashes_and_foreign_errors_are_counted_and_the_rest_is_tried(tmp_path: Path) -> None:
    result = run(Sick(), 60, 1, tmp_path)
    assert result.tried == 60 == result.accepted + result.refused + sum(result.kinds.values())
    assert result.kinds["the process ended: SIGSEGV"] > 1
    assert any(kind.startswith("KeyError") for kind in result.kinds)
    assert result.accepted and result.refused
    for kind, numbers in result.numbers.items():
        assert len(numbers) == result.kinds[kind]
        assert run(Sick(), 1, 1, tmp_path, start=numbers[-1]).kinds == {kind: 1}


def test_a_try_is_the_same_whenever_it_is_repeated(tmp_path: Path) -> None:
    target = TARGETS["tokenizer"]()
    target.prepare(tmp_path)
    first, second = ([attempt(target, generator(3, number)) for number in range(20)] for _ in range(2))
    assert first == second


def test_a_long_error_message_is_a_fault(tmp_path: Path) -> None:
    class Talkative(Sick):
        def attempt(self, random) -> None:
            raise BundleError("x" * 30_000)

    assert run(Talkative(), 1, 0, tmp_path).kinds
