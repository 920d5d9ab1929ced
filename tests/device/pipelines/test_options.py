"""The options of tasks come from the fields of the pipelines."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import List, Literal, Optional, Tuple

import pytest

import obert_edge
from obert_edge.device.pipelines import PIPELINES, Pipeline, task_options
from obert_edge.device.pipelines.options import options_of
from obert_edge.errors import UsageError


@dataclass(frozen=True)
class Speller(Pipeline):
    """Texts to letters.

    Args:
        case: how letters come out; ``None``: as they are.
        most: the largest number of letters,
            counted from the left.
        alphabets: where letters are looked up.

    Raises:
        Nothing: ever.
    """

    case: Optional[Literal["upper", "lower"]] = None
    most: int = field(default=10, metadata={"minimum": 1})
    alphabets: Tuple[str, ...] = ()
    weights: List[float] = field(default_factory=list)


def test_a_field_says_type_default_and_help_once():
    found = options_of(Speller)
    assert list(found) == ["case", "most", "alphabets", "weights"]
    assert (found["case"].kind, found["case"].choices) == (str, ("upper", "lower"))
    assert found["case"].help == "how letters come out; None: as they are."
    assert found["most"].help == "the largest number of letters, counted from the left."
    assert (found["most"].default, found["most"].minimum) == (10, 1)
    assert found["alphabets"].several
    assert (found["weights"].kind, found["weights"].default) == (float, [])


@pytest.mark.parametrize("task", PIPELINES)
def test_every_option_of_a_task_says_what_it_does(task):
    assert all(option.help for option in task_options(task).values())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("case", "title"),
        ("case", 1),
        ("most", 0),
        ("most", 1.5),
        ("most", True),
        ("most", None),
        ("alphabets", "greek"),
        ("weights", [float("nan")]),
    ],
)
def test_a_value_of_another_type_or_out_of_range_is_refused(name, value):
    with pytest.raises(UsageError, match=f"{name} is"):
        options_of(Speller)[name].check(value)


def test_numbers_of_numpy_are_numbers():
    numpy = pytest.importorskip("numpy")
    options_of(Speller)["most"].check(numpy.int64(3))
    options_of(Speller)["weights"].check([numpy.float32(0.5), 1])


def test_predict_refuses_what_would_do_nothing(classifier, answerer):
    refused = pytest.raises(UsageError, match=r"single_label has no option 'threshold'")
    with obert_edge.load(classifier) as session, refused:
        session.predict("the film is good", threshold=0.9)
    with obert_edge.load(answerer) as session, pytest.raises(UsageError, match="top_k is 0"):
        session.predict(("bob ?", "anna lives in paris"), top_k=0)
