"""What follows from the declaration of an option: types, ranges, one message."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Optional, Tuple

import pytest

from obert_edge.errors import UsageError
from obert_edge.host.options import Settings, option, part, refusal, written


@dataclass(frozen=True)
class Inner(Settings):
    """Settings of a part."""

    heading: ClassVar[str] = "Inner"
    rate: float = option(5e-5, above=0, below=1, help="A rate.")


@dataclass(frozen=True)
class Base(Settings):
    """Settings with one option of each type."""

    heading: ClassVar[str] = "Base"
    count: int = option(4, minimum=1, help="A count.")
    share: Optional[float] = option(None, minimum=0, maximum=1, absent="all", example=0.5, help="A share.")
    kind: str = option("row", choices=("row", "flat"), help="A kind.")
    weight: float = option(0.5, minimum=0, help="A weight.")
    places: Tuple[int, ...] = option((0, 2), minimum=0, help="Places.")


@dataclass(frozen=True)
class Derived(Base):
    """The same with more."""

    heading: ClassVar[str] = "Derived"
    on: bool = option(False, help="A switch.")
    inner: Inner = part(Inner, help="A part.")


@pytest.mark.parametrize(
    ("values", "message", "hint"),
    [
        ({"count": 0}, "count is 0; expected a whole number of 1 or more", "use a value such as 4"),
        ({"count": 1.5}, "count is 1.5; expected a whole number of 1 or more", "use a value such as 4"),
        ({"count": True}, "count is True; expected a whole number", "use a value such as 4"),
        ({"share": 1.5}, "share is 1.5; expected a number in [0, 1]", "use a value such as 0.5"),
        ({"share": math.nan}, "share is nan; expected a number in [0, 1]", "use a value such as 0.5"),
        ({"kind": "column"}, "kind is 'column'; expected one of row, flat", "use a value such as row"),
        ({"kind": "flatt"}, "kind is 'flatt'; expected one of row, flat", "did you mean 'flat'?"),
        ({"places": (1, -1)}, "places is [1, -1]; expected a list of whole numbers of 0 or more", "0,2"),
        (
            {"count": 10**20},
            "a whole number of 1 or more, at most 9223372036854775807",
            "use a value such as 4",
        ),
        ({"weight": math.inf}, "weight is inf; expected a number of 0 or more, at most 1e300", "as 0.5"),
        ({"weight": 10**400}, "expected a number of 0 or more", "use a value such as 0.5"),
        ({"on": 1}, "on is 1; expected true or false", "use a value such as false"),
    ],
)
def test_a_value_that_is_not_accepted_is_named_with_what_is_expected_and_what_to_write(values, message, hint):
    with pytest.raises(UsageError) as error:
        Derived(**values)
    assert message in error.value.message
    assert hint in error.value.hint
    with pytest.raises(UsageError) as alone:
        Derived.check(**values)
    assert str(alone.value) == str(error.value)


def test_whole_numbers_stand_for_numbers_and_nothing_else_is_changed():
    settings = Derived(share=1, places=[3], inner=Inner(rate=0.5))
    assert settings.share == 1 and settings.places == [3]
    assert Derived(share=None).share is None


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("count", "8", 8),
        ("share", "5e-5", 5e-5),
        ("kind", "flat", "flat"),
        ("places", "0,2,4", (0, 2, 4)),
        ("places", "7", (7,)),
    ],
)
def test_a_text_of_the_command_line_becomes_a_value(name, text, value):
    (found,) = [one for one in Derived.options() if one.name == name]
    assert found.from_text(text) == value


def test_options_stand_below_the_heading_of_the_class_that_declares_them():
    found = [(heading, [one.name for one in options]) for heading, options in Derived.sections()]
    assert found == [("Derived", ["on"]), ("Base", ["count", "share", "kind", "weight", "places"])]
    assert Derived.parts() == {"inner": Inner}
    assert Derived().narrow(Base) == Base()


def test_values_are_written_as_one_would():
    values = (5e-5, 1e-7, 0.8, 8000000000, True, (0, 2), (), 3.0)
    assert [written(value) for value in values] == [
        "5e-5",
        "1e-7",
        "0.8",
        "8000000000",
        "true",
        "0,2",
        "none",
        "3",
    ]


def test_checks_of_several_options_give_the_same_message():
    error = refusal("a, b", (1, 0), "numbers that rise", hint="exchange them")
    assert str(error) == "a, b is [1, 0]; expected numbers that rise\n  fix: exchange them"
