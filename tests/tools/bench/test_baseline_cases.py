"""Every case has what its goals speak of, and the texts have the lengths that the data set's texts have."""

from __future__ import annotations

from tools.bench import baseline_cases


def test_every_case_of_the_campaign_has_the_baseline_of_its_goal():
    cases = baseline_cases._cases()
    assert len({case.name for case in cases}) == len(cases)
    for case in cases:
        labels = {baseline.label for baseline in case.baselines}
        speedups = [goal for goal in case.goals if goal.metric == "speedup"]
        assert {goal.baseline for goal in speedups} <= labels
        assert all(goal.floor < goal.aim for goal in speedups)
        assert all(goal.row for goal in case.goals if goal.metric != "speedup")


def test_texts_have_the_lengths_that_were_asked_for():
    assert len(baseline_cases.SST2_LENGTHS) == 32
    assert all(8 <= length <= 128 for length in baseline_cases.SST2_LENGTHS)
