"""The quickstart's search: every query has one right passage, of other modules than the texts."""

from __future__ import annotations

import json

import pytest

from tools.dev import docstring_results, docstring_search


@pytest.fixture(scope="module")
def collected():
    return docstring_search.collect(texts=240, count=60)


def test_there_are_as_many_as_were_asked_for(collected):
    texts, pairs = collected
    assert (len(texts), len(pairs)) == (240, 60)


def test_no_text_is_there_twice(collected):
    texts, pairs = collected
    every = [*texts, *(text for pair in pairs for text in pair)]
    assert len(set(every)) == len(every)


def test_the_choice_is_the_same_every_time(collected):
    assert docstring_search.collect(texts=240, count=60) == collected


def test_a_query_says_it_in_words_of_its_own(collected):
    for pair in collected[1]:
        assert docstring_search.is_query(pair.query, pair.passage)
    assert not docstring_search.is_query(
        "Return the sum of all rows.", "Return the sum of all rows and of nothing else."
    )
    assert not docstring_search.is_query("Short one.", "A passage about anything.")


def test_what_is_found_is_the_passage_with_the_largest_cosine(tmp_path, capsys):
    pairs = [{"query": f"query {row}", "passage": f"passage {row}"} for row in range(2)]
    (tmp_path / "dev.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))

    def vectors(name, *rows):
        lines = [json.dumps({"id": key, "prediction": vector}) for key, vector in rows]
        (tmp_path / name).write_text("\n".join(lines))
        return str(tmp_path / name)

    # The second vector is longer, and its cosine smaller: lengths must not count.
    queries = ("1.1", [1.0, 0.0]), ("2.1", [0.0, 1.0])
    dense = vectors("dense.jsonl", *queries, ("1.2", [2.0, 0.1]), ("2.2", [9.0, 9.0]))
    ours = vectors("ours.jsonl", *queries, ("1.2", [0.1, 1.0]), ("2.2", [1.0, 0.1]))
    docstring_results.main([str(tmp_path), dense, ours, "--queries", "2"])
    shown = [line.strip() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert shown == [
        "query 0",
        "dense  right: passage 0",
        "bundle wrong: passage 1",
        "query 1",
        "dense  right: passage 1",
        "bundle wrong: passage 0",
    ]
