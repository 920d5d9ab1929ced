"""A ``tokenizer.json`` that is damaged is refused where it is read, and in words; found by ``tests/fuzz``."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable
from typing import Any

import pytest

from obert_edge.device.tokenizers.precompiled import Precompiled
from obert_edge.device.tokenizers.stretch import Stretch
from obert_edge.device.tokenizers.tokenizer import Tokenizer
from obert_edge.errors import BundleError, ObertEdgeError
from tests.device.tokenizers.families import description_of

DELETED = object()


def changed(family: str, value: Any, *path: Any) -> bytes:
    """A family's file with the value at a place replaced, or deleted."""
    description = json.loads(description_of(family))
    inner = description
    for key in path[:-1]:
        inner = inner[key]
    if value is DELETED:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return json.dumps(description).encode()


FIELDS: dict[str, tuple[str, Any, tuple[Any, ...]]] = {
    "no model": ("bert-uncased", DELETED, ("model",)),
    "a list vocabulary": ("bert-uncased", ["a", "b"], ("model", "vocab")),
    "an id that is a text": ("bert-uncased", "7", ("model", "vocab", "[CLS]")),
    "a negative id": ("roberta", -1, ("model", "vocab", "<mask>")),
    "a prefix that is a number": ("bert-uncased", 7, ("model", "continuing_subword_prefix")),
    "a length that is a list": ("bert-uncased", [1], ("model", "max_input_chars_per_word")),
    "an affix that is an object": ("clip", {}, ("model", "end_of_word_suffix")),
    "merges that are numbers": ("roberta", [1, 2], ("model", "merges")),
    "a piece without a score": ("albert", ["a"], ("model", "vocab", 5)),
    "a piece that is a list": ("albert", [["a"], 1.0], ("model", "vocab", 5)),
    "a score that is NaN": ("albert", ["a", float("nan")], ("model", "vocab", 5)),
    "an unknown id that is a text": ("albert", "1", ("model", "unk_id")),
    "a flag that is a number": ("bert-uncased", 1, ("normalizer", "lowercase")),
    "a replacement that is an object": ("gemma", {}, ("normalizer", "content")),
    "a pattern that is a list": ("gemma", [], ("normalizer", "pattern")),
    "a normalizer that is a text": ("bert-uncased", "NFC", ("normalizer",)),
    "a mark of two characters": ("xlm-roberta", "ab", ("pre_tokenizer", "pretokenizers", 1, "replacement")),
    "no space before texts": ("roberta", DELETED, ("pre_tokenizer", "add_prefix_space")),
    "an added token without content": ("bert-uncased", DELETED, ("added_tokens", 0, "content")),
    "an added token that is a list": ("bert-uncased", [], ("added_tokens", 0)),
    "a template that is an object": ("bert-uncased", {}, ("post_processor", "single")),
    "ids that are texts": ("bert-uncased", ["2"], ("post_processor", "special_tokens", "[CLS]", "ids")),
    "a third text": ("bert-uncased", {"Sequence": {"id": "C", "type_id": 0}}, ("post_processor", "pair", 1)),
    "a processor that is a list": ("bert-uncased", [1], ("post_processor",)),
}


@pytest.mark.parametrize(("family", "value", "path"), FIELDS.values(), ids=FIELDS)
def test_a_field_of_another_type_is_refused_before_any_text(family: str, value: Any, path: Any) -> None:
    with pytest.raises(BundleError, match=r"tokenizer\.json"):
        Tokenizer(changed(family, value, *path), "python")


@pytest.mark.parametrize(
    "text", [b"", b"{}", b"[]", b"[" * 100_000, b'{"model": ' * 100_000, b'{"model": {}}']
)
@pytest.mark.parametrize("backend", ["python", "tokenizers"])
def test_what_is_no_tokenizer_is_refused(text: bytes, backend: str) -> None:
    with pytest.raises(BundleError, match=r"tokenizer\.json"):
        Tokenizer(text, backend)


def test_a_panic_of_the_library_is_an_error_of_ours() -> None:
    """It is no Exception, so that no program that reads many bundles could go on after it."""
    halves = base64.b64encode(struct.pack("<2I", 4, 0) + b"\xc3").decode()
    text = changed("albert", {"type": "Precompiled", "precompiled_charsmap": halves}, "normalizer")
    with pytest.raises(BundleError, match="not one the tokenizers library reads"):
        Tokenizer(text, "tokenizers")


@pytest.mark.parametrize("backend", ["python", "tokenizers"])
def test_a_table_that_claims_gigabytes_is_refused_before_anybody_takes_them(backend: str) -> None:
    """The library ends the process where there are not as many."""
    table = base64.b64encode(struct.pack("<2I", 2**32 - 4, 0)).decode()
    text = changed("albert", {"type": "Precompiled", "precompiled_charsmap": table}, "normalizer")
    with pytest.raises(BundleError, match="a trie of 4294967292 bytes in 8 bytes"):
        Tokenizer(text, backend)


def test_a_text_that_the_library_cannot_cut_is_an_error_of_ours() -> None:
    tokenizer = Tokenizer(changed("bert-uncased", "gone", "model", "unk_token"), "tokenizers")
    with pytest.raises(BundleError, match="cannot cut a text"):
        tokenizer.encode("\U000104a0")


def test_half_a_character_in_a_table_of_replacements_is_refused() -> None:
    halves = base64.b64encode(struct.pack("<2I", 4, 0) + b"\xc3").decode()
    with pytest.raises(ValueError, match="utf-8"):
        Precompiled(halves)
    # A trie that finds "a" and points into the middle of "é".
    units = [0] * 256
    units[0] = 0  # the children of the root are at 0
    units[ord("a")] = ord("a") | 1 << 8 | 128 << 10
    units[ord("a") ^ 128] = 1
    table = struct.pack(f"<I{len(units)}I", 4 * len(units), *units) + "é\0".encode()
    with pytest.raises(BundleError, match="half a character"):
        Precompiled(base64.b64encode(table).decode())(Stretch.of("a"))


@pytest.mark.parametrize("use", [lambda t: t.ids, lambda t: t.token(5), lambda t: t.unknown_id])
def test_parts_of_parts_that_are_no_sequence_are_no_parts(use: Callable[[Tokenizer], Any]) -> None:
    """The library ignores fields that it does not know."""
    try:
        tokenizer = Tokenizer(changed("bert-uncased", [[]], "normalizer", "normalizers"), "tokenizers")
    except ObertEdgeError:
        pytest.fail("an unknown field is no reason to refuse a tokenizer")
    use(tokenizer)


@pytest.mark.parametrize("part", ["normalizer", "pre_tokenizer", "post_processor", "decoder", "model"])
def test_a_message_does_not_repeat_what_is_long(part: str) -> None:
    """A type may be anything that JSON has, such as a table of 300 kB that another program put there."""
    for value in ("x" * 300_000, ["x" * 300_000], {"String": "x" * 300_000}):
        try:
            Tokenizer(changed("bert-uncased", {"type": value}, part), "python")
        except ObertEdgeError as error:
            assert len(str(error)) < 2000


def test_a_regular_expression_is_not_repeated_when_it_is_long() -> None:
    pattern = {"type": "Split", "pattern": {"Regex": "(?" + "x" * 300_000}, "behavior": "Isolated"}
    with pytest.raises(ObertEdgeError) as caught:
        Tokenizer(changed("bert-uncased", {**pattern, "invert": False}, "pre_tokenizer"), "python")
    assert len(str(caught.value)) < 2000
