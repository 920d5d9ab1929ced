"""What a tokenizer.json and transformers do not say alike, in words."""

from __future__ import annotations

from typing import Any, Dict

import pytest

from obert_edge.host.checkpoints.tokenizer_differences import differences

TOKEN = {"id": 7, "content": "<x>", "lstrip": False}


def of(one: Dict[str, Any], other: Dict[str, Any]) -> str:
    (line,) = differences(one, other)
    return line


def test_what_is_alike_is_not_told() -> None:
    parts = {"normalizer": {"type": "BertNormalizer", "lowercase": True}, "added tokens": [TOKEN]}
    assert differences(parts, dict(parts)) == []


@pytest.mark.parametrize(
    ("ours", "theirs", "told"),
    [
        ({"type": "B", "x": True}, {"type": "B", "x": False}, "part x is true in the file and false in"),
        ({"type": "B"}, {"type": "B", "x": [1]}, "part x is nothing in the file and [1] in transformers"),
        ({"type": "B"}, {"type": "C"}, "part is a B in the file and a C in transformers"),
        (None, {"type": "C"}, "part is nothing in the file and a C in transformers"),
        (["a" * 99], [], 'part is ["' + 55 * "a" + "... in the file and [] in transformers"),
        (
            {"type": "B", "vocab": {"a": 0, "b": 1}},
            {"type": "B", "vocab": {"a": 0, "c": 1, "d": 2}},
            'part vocab has 2 entries in the file and 3 in transformers, and ["b", 1] of the file is not',
        ),
    ],
)
def test_the_innermost_field_is_told_with_both_values(ours: Any, theirs: Any, told: str) -> None:
    assert of({"part": ours}, {"part": theirs}).startswith(told)


@pytest.mark.parametrize(
    ("ours", "theirs", "told"),
    [
        ([], [TOKEN], "transformers finds <x> in a text as one token, and the file cuts it like words"),
        ([TOKEN], [], "the file finds <x> in a text as one token, and transformers cuts it like words"),
        ([TOKEN], [{**TOKEN, "lstrip": True}], "added token 7 lstrip is false in the file and true in"),
        ([TOKEN, {**TOKEN, "id": 8}], [{**TOKEN, "id": 8}, TOKEN], "the added tokens stand in another order"),
        (
            [],
            [{**TOKEN, "id": id_} for id_ in range(9)],
            "transformers finds <x>, <x>, <x>, <x>, <x> and 4 more",
        ),
    ],
)
def test_added_tokens_are_told_by_their_text(ours: Any, theirs: Any, told: str) -> None:
    assert of({"added tokens": ours}, {"added tokens": theirs}).startswith(told)
