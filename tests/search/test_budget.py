import pytest

from search.budget import BudgetMeter, Pace


def test_trials_run_out_when_so_many_were_started() -> None:
    meter = BudgetMeter(trials=10, minutes=None, now=0.0)

    assert not meter.exhausted(1e6, started=9)
    assert meter.exhausted(0.0, started=10)


def test_minutes_count_those_of_earlier_runs() -> None:
    meter = BudgetMeter(trials=None, minutes=2.0, now=1000.0, spent_s=90.0)

    assert not meter.exhausted(1029.0, started=5)
    assert meter.exhausted(1030.0, started=5)


def test_time_left_follows_the_rate_of_this_run() -> None:
    meter = BudgetMeter(trials=10, minutes=None, now=100.0, done=4)
    assert meter.pace(101.0) == Pace(done=4, total=10, seconds_left=None)

    meter.done = 6

    # Two trials in 8 s; four are left.
    assert meter.pace(108.0) == Pace(done=6, total=10, seconds_left=16.0)


def test_time_left_is_never_more_than_the_minutes_that_remain() -> None:
    meter = BudgetMeter(trials=100, minutes=0.5, now=0.0)
    meter.done = 1

    assert meter.pace(10.0).seconds_left == 20.0


def test_a_budget_without_an_end_is_refused() -> None:
    with pytest.raises(ValueError, match="trials or of minutes"):
        BudgetMeter(trials=None, minutes=None, now=0.0)
