"""Every kernel of an implementation is in the table, with its rate and the part of its bound."""

from __future__ import annotations

import pytest

from obert_edge.bundle.program import OP_TYPES, Linear, Output, WeightFormat
from tools.bench import kernels


def test_every_op_and_every_format_is_measured():
    ops = [case.program.ops[0] for case in kernels.cases(16, 0.8)]
    assert {type(op) for op in ops} == set(OP_TYPES.values()) - {Output}
    assert {op.format for op in ops if isinstance(op, Linear)} == set(WeightFormat)


def test_titles_are_distinct():
    titles = [case.title for tokens in (16, 32) for case in kernels.cases(tokens, 0.8)]
    assert len(set(titles)) == len(titles)


def test_the_page_has_a_row_for_every_kernel_measured(tmp_path, capsys):
    page = tmp_path / "kernels.md"
    arguments = ["--tokens", "16", "32", "--seconds", "0.001", "--only", "768x768 row_gather"]
    kernels.main([*arguments, "--implementation", "avx2", "--output", str(page)])
    rows = [line for line in page.read_text().splitlines() if line.startswith("| linear")]
    assert len(rows) == 6  # three formats at two lengths
    assert all("GMAC/s" in row and "% of" in row for row in rows)
    assert capsys.readouterr().out.count("GMAC/s") == 6


@pytest.mark.parametrize("tokens", [16, 40])
def test_work_is_what_is_not_zero(tokens):
    case = next(case for case in kernels.linear_cases(tokens, 0.75))
    assert case.work == pytest.approx(0.25 * 768 * 768 * tokens, rel=0.02)


def test_kernels_that_do_not_run_here_are_named(capsys):
    with pytest.raises(SystemExit):
        kernels.main(["--implementation", "abacus"])
    assert "abacus does not run here; there are" in capsys.readouterr().err
