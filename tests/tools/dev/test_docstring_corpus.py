"""The quickstart's embedded data: balanced, without leaks."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from tools.dev import docstring_corpus


@pytest.fixture(scope="module")
def rows():
    return docstring_corpus.collect(per_class=40)


def test_every_class_has_its_share_of_both_splits(rows):
    assert set(Counter(row["label"] for row in rows["train"]).values()) == {32}
    assert set(Counter(row["label"] for row in rows["test"]).values()) == {8}
    assert len({row["label"] for row in rows["train"]}) == 6


def test_no_passage_is_used_twice(rows):
    texts = [row["text"].lower() for split in rows.values() for row in split]
    assert len(set(texts)) == len(texts)


def test_no_passage_names_its_package(rows):
    names = re.compile(r"\b(numpy|np|torch|pytorch|transformers|sympy|networkx|nx|python)\b", re.IGNORECASE)
    assert not [row for split in rows.values() for row in split if names.search(row["text"])]


def test_a_module_is_in_one_split_only_and_always_the_same():
    files = list(docstring_corpus.source_files("networkx"))
    held_out = [docstring_corpus.is_test_module("networkx", path) for path in files]
    assert held_out == [docstring_corpus.is_test_module("networkx", path) for path in files]
    assert 0.1 < sum(held_out) / len(held_out) < 0.3


def test_the_same_installation_gives_the_same_corpus(rows):
    assert docstring_corpus.collect(per_class=40) == rows
