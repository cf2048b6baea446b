from dataclasses import replace
from typing import Any

import pytest

from service.api.presenters import job_read, trials_read
from service.api.schemas import JobRead
from service.fronts import front_of
from service.pages.fronts import FrontView, chart, front_view
from service.pages.views import trial_rows
from service.store.database import Database
from service.store.jobs import Jobs
from service.store.records import JobRecord, TrialRecord
from service.store.trials import Trials
from tests.service.pages.rows import DESCRIPTION, MCU, PI, stored_job
from workers.events import Origin


@pytest.fixture
def stored(database: Database) -> tuple[JobRecord, list[TrialRecord]]:
    with database.write() as connection:
        job = stored_job(connection)
        record = Jobs(connection).get(job.id)
        assert record is not None
        return record, Trials(connection).page(job.id)


def view_of(
    stored: tuple[JobRecord, list[TrialRecord]], *, device: str = PI, x: str = "latency_ms", y: str = "accuracy"
) -> tuple[JobRead, FrontView]:
    job = job_read(stored[0], {})
    rows = trial_rows(job, trials_read(stored[1]), device=device, description=DESCRIPTION)
    return job, front_view(job, rows, device=device, x=x, y=y)


def numbers(view: FrontView) -> list[int]:
    return [row.read.number for row in view.front]


def test_the_front_has_the_trials_that_no_other_one_beats(stored: tuple[JobRecord, list[TrialRecord]]) -> None:
    _, view = view_of(stored)

    assert numbers(view) == [1, 4, 3]
    assert view.feasible_count == 5  # 0, 1, 3, 4 and 6: 2 was never measured, 5 is too slow, 7 runs


def test_the_front_of_the_page_is_the_one_of_the_api(stored: tuple[JobRecord, list[TrialRecord]]) -> None:
    _, view = view_of(stored, x="model_bytes")

    expected = front_of(*stored, device=PI, x="model_bytes")

    assert numbers(view) == [row.record.number for row in expected.points]
    assert view.growth[-1][1] == pytest.approx(expected.hypervolume)


def test_any_two_figures_make_a_front(stored: tuple[JobRecord, list[TrialRecord]]) -> None:
    _, view = view_of(stored, x="accuracy", y="packed_bytes")

    # trial 1 is the smallest, 4 and 3 are larger and more accurate: nothing between beats them
    assert numbers(view) == [1, 4, 3]


def test_the_hypervolume_grows_with_the_trials(stored: tuple[JobRecord, list[TrialRecord]]) -> None:
    _, view = view_of(stored)

    # The corner is at 5.0 ms (trial 5, beyond its limit but measured) times 1.1 = 5.5 ms and at accuracy 0.
    # 0: (5.5 - 3) * 0.90; 1 beats it: (5.5 - 1) * 0.91; 3 adds (5.5 - 3.5) * (0.97 - 0.91); 4 adds
    # (5.5 - 2) * (0.95 - 0.91) less what 3 had of that, (5.5 - 3.5) * (0.95 - 0.91).
    first, second = 2.5 * 0.90, 4.5 * 0.91
    third = second + 2.0 * 0.06
    fourth = third + 1.5 * 0.04
    assert [number for number, _ in view.growth] == [0, 1, 3, 4, 6]
    assert [value for _, value in view.growth] == pytest.approx([first, second, third, fourth, fourth])


def test_the_chart_has_every_trial_whose_figures_are_known(stored: tuple[JobRecord, list[TrialRecord]]) -> None:
    job, view = view_of(stored)

    data: dict[str, Any] = chart(job, view)

    by_number = {point["id"].rpartition("-")[2]: point for point in data["points"]}
    assert sorted(by_number) == ["0", "1", "3", "4", "5", "6"]
    assert [number for number, point in by_number.items() if point["front"]] == ["1", "4", "3"]
    assert by_number["5"]["feasible"] is False
    assert by_number["0"]["baseline"] is True
    assert by_number["0"]["label"] == "uniform 8 bit"
    assert by_number["1"]["dimensions"] == ["bits", "channels", "operator"]
    assert (data["float"]["x"], data["float"]["y"]) == (8.0, 0.99)


def test_the_limits_of_the_axes_bound_the_feasible_region(stored: tuple[JobRecord, list[TrialRecord]]) -> None:
    job, view = view_of(stored)

    data = chart(job, view)

    assert (data["x"]["limit"], data["x"]["best"]) == (4.0, "low")
    assert data["y"]["limit"] == pytest.approx(0.99 - 0.05)
    assert data["y"]["best"] == "high"


def test_each_device_has_its_own_costs_and_limits(stored: tuple[JobRecord, list[TrialRecord]]) -> None:
    job, view = view_of(stored, device=MCU)

    data = chart(job, view)

    assert data["x"]["limit"] == 40.0
    assert data["y"]["limit"] is None
    assert [point["x"] for point in data["points"] if point["front"]] == [10.0, 20.0, 35.0]


def test_without_a_measured_trial_there_is_no_front(stored: tuple[JobRecord, list[TrialRecord]]) -> None:
    record, trials = stored

    job, view = view_of((record, trials[2:3]))

    assert list(view.front) == []
    assert chart(job, view)["growth"] == []


def test_baselines_on_one_spot_share_a_label(stored: tuple[JobRecord, list[TrialRecord]]) -> None:
    record, trials = stored
    twin = replace(trials[0], number=9, label="uniform 6 bit")

    job, view = view_of((record, [*trials, twin]))

    assert chart(job, view)["marks"] == [{"x": 3.0, "y": 0.90, "text": "uniform 8/6 bit"}]


def test_the_gain_over_the_baselines_is_that_of_the_hypervolume(stored: tuple[JobRecord, list[TrialRecord]]) -> None:
    _, view = view_of(stored)

    whole, baselines = view.growth[-1][1], [row for row in view.baselines if row.feasible]
    reference = 1.1 * max(row.value("latency_ms") or 0.0 for row in view.rows if row.read.accuracy is not None)
    assert len(baselines) == 1  # whose volume is that of one rectangle
    alone = (reference - (baselines[0].value("latency_ms") or 0.0)) * (baselines[0].read.accuracy or 0.0)
    assert view.joint_gain == pytest.approx(whole / alone - 1)


def test_without_a_feasible_baseline_no_gain_is_told(stored: tuple[JobRecord, list[TrialRecord]]) -> None:
    job, trials = stored

    _, view = view_of((job, [row for row in trials if row.origin != Origin.BASELINE]))

    assert view.joint_gain is None
