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
    with pytest.raises(ValueError, match="trials, of minutes, or of trials without growth"):
        BudgetMeter(trials=None, minutes=None, now=0.0)


def test_a_search_ends_when_no_front_has_grown_for_its_patience() -> None:
    meter = BudgetMeter(trials=None, minutes=None, patience=3, now=0.0)

    ends = []
    for small, large in [
        (1.0, 5.0),
        (1.0, 5.1),
        (1.0005, 5.1),
        (1.0, 5.1),
        (1.2, 5.1),
        (1.2, 5.1),
        (1.2, 5.1),
        (1.2, 5.1),
    ]:
        meter.watch({"small": small, "large": large})
        ends.append(meter.exhausted(0.0, started=0))

    # 1.0005 is less than a thousandth above 1.0; then 1.2 is growth of one of the two fronts, the last in this search.
    assert ends == [False] * 7 + [True]


def test_growth_is_counted_from_where_a_front_last_grew_not_from_the_last_trial() -> None:
    meter = BudgetMeter(trials=None, minutes=None, patience=2, now=0.0)

    for volume in (1.0, 1.0006, 1.0012):  # 0.12 % above the first, in two steps that are each too small
        meter.watch({"front": volume})

    assert not meter.exhausted(0.0, started=0)
