from __future__ import annotations

import pytest

from obert_edge.errors import CheckpointError, UsageError, VerificationError
from obert_edge.host.stages.evaluation import agreement, evaluate, require_agreement
from obert_edge.host.stages.reports import Score


def test_agreement_is_the_share_of_equal_predictions():
    ours = [("1", "good"), ("2", "bad"), ("3", "bad"), ("4", "good")]
    theirs = [("4", "good"), ("3", "bad"), ("2", "good")]
    assert agreement(ours, theirs) == 50.0


def test_numbers_agree_within_a_thousandth():
    assert agreement([("1", 0.5), ("2", 0.5)], [("1", 0.5004), ("2", 0.52)]) == 50.0


def test_an_agreement_below_the_bound_fails_the_check():
    result = Score("a", "float", "text", "dev", 10, "accuracy", {}, against="b", agreement=99.0)
    require_agreement(result, 99.0)
    with pytest.raises(VerificationError, match=r"agree on 99.00 % of 10 .* 99.5 %") as error:
        require_agreement(result, 99.5)
    assert error.value.exit_code == 1
    with pytest.raises(UsageError, match="two models"):
        require_agreement(Score("a", "float", "text", "dev", 10, "accuracy", {}), 99.5)


def test_a_model_agrees_with_itself_and_the_first_rows_can_be_scored_alone(dense, task):
    result = evaluate(dense, task, limit=10, against=dense)
    assert (result.n, result.agreement, result.kind) == (10, 100.0, "float")


def test_a_path_that_is_nothing_is_refused(task, tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        evaluate(tmp_path / "nowhere", task)
