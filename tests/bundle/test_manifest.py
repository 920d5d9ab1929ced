"""The manifest says only what it may, and says it clearly when it may not."""

from __future__ import annotations

import json
from typing import Any, Dict

import pytest

from obert_edge.bundle.manifest import FORMAT_VERSION, BoardFacts, Manifest
from obert_edge.errors import BundleError
from tests.bundle.samples import sample_manifest


def changed(**changes: Any) -> bytes:
    fields: Dict[str, Any] = json.loads(sample_manifest().to_json())
    fields.update(changes)
    return json.dumps(fields).encode()


def test_json_gives_the_same_manifest_back() -> None:
    manifest = sample_manifest()
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_boards_come_back_and_may_be_absent() -> None:
    boards = [BoardFacts("Raspberry Pi 4", 4, 1 << 18)]
    assert Manifest.from_json(sample_manifest(boards=boards).to_json()).boards == boards
    fields = json.loads(sample_manifest(boards=boards).to_json())
    del fields["boards"]
    assert Manifest.from_json(json.dumps(fields).encode()).boards == []


def test_facts_a_later_writer_adds_are_ignored() -> None:
    assert Manifest.from_json(changed(color="green", format_version=7)).target == "x86"


def test_a_newer_format_says_which_reader_it_needs() -> None:
    needed = FORMAT_VERSION + 1
    with pytest.raises(
        BundleError, match=f"needs a reader of version {needed}.*up to {FORMAT_VERSION}"
    ) as caught:
        Manifest.from_json(changed(minimum_reader=needed, format_version=needed))
    assert "upgrade" in caught.value.hint


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"target": 3}, "manifest.target = 3, expected str"),
        ({"model": []}, "manifest.model that is not a JSON object"),
        ({"model": {"hidden": 8}}, "lacks manifest.model.architecture"),
        ({"outputs": {}}, "manifest.outputs that is not a list"),
        ({"outputs": [{"name": "x", "domain": "pixels", "channels": 1}]}, "domain 'pixels'"),
        ({"outputs": [{"name": "x", "domain": "tokens", "channels": True}]}, "channels = True, expected int"),
        ({"task": {"type": "poetry"}}, "task 'poetry'"),
        ({"members": {"a": {"sha256": "00", "bytes": "9"}}}, "expected int"),
        ({"boards": [{"model": "Pi", "threads": 0, "cache": 0}]}, "the board 'Pi' 0 threads"),
        ({"boards": [{"model": "", "threads": 1, "cache": 0}]}, "the board ''"),
        ({"boards": [{"model": "Pi", "threads": 1, "cache": -1}]}, "-1 bytes of cache"),
        ({"format_version": "1"}, "lacks format_version or minimum_reader"),
        ({"minimum_reader": None}, "lacks format_version or minimum_reader"),
    ],
)
def test_wrong_fields_are_named(changes: Dict[str, Any], complaint: str) -> None:
    with pytest.raises(BundleError, match=complaint.replace("[", r"\[")):
        Manifest.from_json(changed(**changes))


@pytest.mark.parametrize("text", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_manifest_is_refused(text: bytes) -> None:
    with pytest.raises(BundleError, match="manifest"):
        Manifest.from_json(text)
