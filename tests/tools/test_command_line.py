"""A program ends with 0, with its own status, or with that of the error it raised on purpose."""

from __future__ import annotations

import pytest

from obert_edge.errors import UnsupportedDeviceError, UsageError
from tools import command_line


@pytest.mark.parametrize(("returned", "status"), [(None, 0), (0, 0), (1, 1)])
def test_the_status_is_what_the_program_returns(returned, status):
    seen = []
    assert command_line.run(lambda arguments: seen.append(arguments) or returned, ["a"]) == status
    assert seen == [["a"]]


@pytest.mark.parametrize(("error", "status"), [(UsageError, 2), (UnsupportedDeviceError, 3)])
def test_an_error_made_on_purpose_is_printed_with_its_fix(error, status, capsys):
    def main(arguments):
        raise error("there is no such thing", hint="name another")

    assert command_line.run(main) == status
    assert capsys.readouterr().err == "error: there is no such thing\n  fix: name another\n"


def test_a_mistake_of_the_program_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        command_line.run(lambda arguments: 1 // 0)


def test_help_shows_the_docstring_line_by_line(capsys):
    with pytest.raises(SystemExit) as ended:
        command_line.parser("tools.some.program", "Do it.\n\n    an example\n").parse_args(["--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(
        "usage: python -m tools.some.program [-h]\n\nDo it.\n\n    an example\n"
    )
