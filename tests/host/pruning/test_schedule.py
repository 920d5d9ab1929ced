import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from obert_edge.errors import UsageError
from obert_edge.host.pruning import CubicSchedule, LinearSchedule, RewindingLearningRate


@pytest.mark.parametrize(
    ("initial", "final", "percent"),
    [
        (0.70, 0.90, [70.0, 78.4, 84.1, 87.5, 89.3, 89.9, 90.0]),
        (0.70, 0.97, [70.0, 81.4, 89.0, 93.6, 96.0, 96.9, 97.0]),
        (0.70, 0.80, [70.0, 74.2, 77.0, 78.8, 79.6, 80.0, 80.0]),
        (0.30, 0.80, [30.0, 51.1, 65.2, 73.8, 78.1, 79.8, 80.0]),
        (0.30, 0.90, [30.0, 55.3, 72.2, 82.5, 87.8, 89.7, 90.0]),
    ],
)
def test_the_papers_30_epoch_schedules(initial, final, percent):
    schedule = CubicSchedule(initial, final, start=2, end=26, frequency=4)
    assert schedule.times == [2, 6, 10, 14, 18, 22, 26]
    assert [100 * s for s in schedule.sparsities] == pytest.approx(percent, abs=0.0501)


def test_the_papers_10_epoch_schedule_prunes_twice_an_epoch():
    plan = CubicSchedule(0.7, 0.9, start=2, end=8, frequency=0.5).resolve(steps_per_epoch=100)
    assert list(plan) == list(range(200, 801, 50))
    assert plan[200] == pytest.approx(0.7)
    assert plan[800] == pytest.approx(0.9)


def test_a_linear_schedule_rises_in_equal_steps():
    schedule = LinearSchedule(0.2, 0.8, start=10, end=40, frequency=10, unit="steps")
    assert schedule.resolve(1) == pytest.approx({10: 0.2, 20: 0.4, 30: 0.6, 40: 0.8})


def test_a_single_step_goes_straight_to_the_final_sparsity():
    assert CubicSchedule(0.0, 0.8, start=5, end=5, frequency=1, unit="steps").resolve(1) == {5: 0.8}


@given(
    initial=st.floats(0, 0.9),
    rise=st.floats(0, 0.09),
    start=st.floats(0, 5),
    length=st.floats(0, 20),
    frequency=st.floats(0.1, 5),
    kind=st.sampled_from([CubicSchedule, LinearSchedule]),
)
def test_sparsity_never_falls_and_ends_at_the_final_one(initial, rise, start, length, frequency, kind):
    schedule = kind(initial, initial + rise, start, start + length, frequency)
    assert schedule.sparsities == sorted(schedule.sparsities)
    assert schedule.sparsities[-1] == pytest.approx(initial + rise)
    assert all(start <= time <= start + length + 1e-6 for time in schedule.times)


@pytest.mark.parametrize(
    "arguments",
    [
        (-0.1, 0.9, 0, 1, 1),
        (0.5, 1.0, 0, 1, 1),
        (0.9, 0.5, 0, 1, 1),
        (0.5, 0.9, 2, 1, 1),
        (0.5, 0.9, -1, 1, 1),
        (0.5, 0.9, 0, 1, 0),
        (0.5, 0.9, 0, 1, 1, "minutes"),
    ],
)
def test_schedules_out_of_range_are_refused(arguments):
    with pytest.raises(UsageError):
        CubicSchedule(*arguments)


def test_two_prunings_in_one_optimizer_step_are_refused():
    with pytest.raises(UsageError):
        CubicSchedule(0.5, 0.9, start=0, end=1, frequency=0.1).resolve(steps_per_epoch=5)


def test_the_papers_30_epoch_learning_rate_rewinds_at_every_pruning_step():
    rates = RewindingLearningRate(8e-5, 8e-6, rewinds=[2, 6, 10, 14, 18, 22, 26], end=30)
    assert rates.rate(0, 100) == pytest.approx(8e-5)
    assert rates.rate(100, 100) == pytest.approx((8e-5 + 8e-6) / 2)  # half of the first ramp, epochs 0 to 2
    assert rates.rate(199, 100) < 8.5e-6
    assert rates.rate(200, 100) == pytest.approx(8e-5)
    assert rates.rate(400, 100) == pytest.approx((8e-5 + 8e-6) / 2)
    assert rates.rate(2600, 100) == pytest.approx(8e-5)
    assert rates.rate(3000, 100) == pytest.approx(8e-6)


def test_the_papers_10_epoch_learning_rate_rewinds_once():
    rates = RewindingLearningRate(8e-5, 3e-5, rewinds=[8], end=10)
    assert rates.rate(799, 100) == pytest.approx(3e-5, rel=1e-2)
    assert rates.rate(800, 100) == pytest.approx(8e-5)


def test_warmup_rises_from_zero_at_the_very_start_only():
    rates = RewindingLearningRate(1.0, 0.0, rewinds=[50], end=100, unit="steps", warmup=10)
    assert [rates.rate(step, 1) for step in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])
    assert rates.rate(10, 1) == 1.0
    assert rates.rate(30, 1) == pytest.approx(0.5)
    assert rates.rate(50, 1) == 1.0


def test_the_scheduler_gives_the_optimizer_these_rates():
    rates = RewindingLearningRate(0.5, 0.1, rewinds=[3], end=6, unit="steps")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    scheduler = rates.scheduler(optimizer, steps_per_epoch=1)
    seen = []
    for _ in range(6):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert seen == pytest.approx([rates.rate(step, 1) for step in range(6)])
    assert seen[3] == pytest.approx(0.5)


@pytest.mark.parametrize(
    "arguments",
    [
        {"initial": 0.0, "final": 0.0},
        {"initial": 1e-5, "final": 2e-5},
        {"initial": 1e-5, "final": -1e-6},
        {"initial": 1e-5, "final": 0, "rewinds": [3, 2], "end": 5},
        {"initial": 1e-5, "final": 0, "rewinds": [2, 2], "end": 5},
        {"initial": 1e-5, "final": 0, "rewinds": [5], "end": 5},
        {"initial": 1e-5, "final": 0, "rewinds": [2], "end": 5, "warmup": 3},
        {"initial": 1e-5, "final": 0, "unit": "minutes"},
    ],
)
def test_learning_rates_out_of_range_are_refused(arguments):
    with pytest.raises(UsageError):
        RewindingLearningRate(**arguments)
