"""The names of tests are the same in every process that shares them."""

from __future__ import annotations

import gzip
from typing import FrozenSet

import pytest


@pytest.mark.parametrize("content", [gzip.compress(b"now"), b"[" * 100_000])
def test_no_bytes_are_in_a_name(request: pytest.FixtureRequest, content: bytes) -> None:
    assert request.node.name in (f"{request.node.originalname}[content{place}]" for place in "01")


@pytest.mark.parametrize("names", [frozenset(("one", "other"))])
def test_no_set_is_in_a_name(request: pytest.FixtureRequest, names: FrozenSet[str]) -> None:
    assert request.node.name == f"{request.node.originalname}[names]"
