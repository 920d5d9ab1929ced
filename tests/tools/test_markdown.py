"""A table has a rule below its headers and a line for every row."""

from __future__ import annotations

from tools.markdown import table


def test_a_table_has_its_headers_a_rule_and_its_rows():
    assert table(["a", "b"], [["1", "2"], ["3", ""]]) == [
        "| a | b |",
        "| --- | --- |",
        "| 1 | 2 |",
        "| 3 |  |",
    ]
