"""The load of a bundle, read and mapped, is measured in processes of its own."""

from __future__ import annotations

from pathlib import Path

from tools.bench import load

GOLDEN = Path(__file__).parents[2] / "golden" / "v2.oeb"


def test_both_ways_are_measured(capsys):
    load.main([str(GOLDEN), "--compare", "mapped", "--rounds", "1", "--threads", "1"])
    title, header, _, *rows = capsys.readouterr().out.splitlines()
    assert title.startswith("v2.oeb, ")
    assert header == "| file | load ms | peak MB | private MB |"
    assert [row.split(" | ")[0] for row in rows] == ["| read", "| mapped"]
    for row in rows:
        milliseconds, peak, private = (float(cell) for cell in row.strip("| ").split(" | ")[1:])
        assert milliseconds >= 0 and peak > private > 0
