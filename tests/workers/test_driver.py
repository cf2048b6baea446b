from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from tests.workers.conftest import make_problem, make_start
from workers.driver import FAILURES_IN_A_ROW, Driver
from workers.events import (
    CheckpointReady,
    Event,
    GroundworkDone,
    JobEnded,
    Origin,
    Prepared,
    Progress,
    SensitivityMeasured,
    StatusChanged,
    Trial,
    TrialEnded,
    TrialStarted,
    TrialStatus,
)
from workers.fit import reachable_ranges
from workers.job import JobData
from workers.pool import Finished, LocalPool
from workers.spec import Budget, DeviceTarget, JobSpec, Limits, SpaceSpec
from workers.start import DriverStart

MCU = "stm32h743"


def run(start: DriverStart, make_pool: Callable[[JobData], Any] = LocalPool, *, packaging: bool = False) -> list[Event]:
    """Run a job to its end, as its dispatcher would, or only until it would pack its checkpoints."""
    driver = Driver(start, make_pool)
    found: list[Event] = []
    acknowledged = 0
    for _ in range(2000):
        events = driver.advance(acknowledged)
        found += [event for _, event in events]
        if events:
            acknowledged = events[-1][0]
        if found and isinstance(found[-1], JobEnded):
            return found
        if not packaging and StatusChanged(status="packaging") in found:
            driver.close()
            return found
    raise AssertionError("the job did not end")


def ended(events: list[Event]) -> list[Trial]:
    return [event.trial for event in events if isinstance(event, TrialEnded)]


def outcome(trial: Trial) -> tuple[Any, ...]:
    """Return everything of a trial but how long it took."""
    evaluation = trial.evaluation
    assert evaluation is not None
    return trial.number, trial.origin, trial.candidate, trial.plan, trial.status, replace(evaluation, seconds={})


def searched(spec: JobSpec, *, trials: int) -> JobSpec:
    return replace(spec, budget=Budget(trials=trials), space=SpaceSpec(operators=("original", "skip")))


class FaultyPool(LocalPool):
    """A pool whose calls of one method, counted from 1, break in the given way; everything else is real."""

    def __init__(
        self,
        job: JobData,
        faults: Mapping[int, Finished],
        *,
        always: Finished | None = None,
        method: str = "evaluate",
    ) -> None:
        super().__init__(job)
        self._method = method
        self._faults = faults
        self._always = always
        self.calls = 0
        self._fault: Finished | None = None

    def submit(self, slot: int, method: str, **arguments: Any) -> None:
        if method == self._method:
            self.calls += 1
            self._fault = self._faults.get(self.calls, self._always)
        super().submit(slot, method, **arguments)

    def wait(self, timeout_s: float) -> list[Finished]:
        fault, self._fault = self._fault, None
        if fault is not None:
            self.abandon(0)
            return [fault]
        return super().wait(timeout_s)


class LatePool(LocalPool):
    """Two evaluators; the second one answers only when the first has answered so many calls."""

    size = 2

    def __init__(self, job: JobData, *, answers: int) -> None:
        super().__init__(job)
        self._late = LocalPool(job)
        self._missing = answers
        self.asked: list[str] = []  # of the second

    def submit(self, slot: int, method: str, **arguments: Any) -> None:
        if slot == 0:
            super().submit(slot, method, **arguments)
        else:
            self.asked.append(method)
            self._late.submit(slot, method, **arguments)

    def wait(self, timeout_s: float) -> list[Finished]:
        found = super().wait(timeout_s)
        self._missing -= len(found)
        if self._missing > 0:
            return found
        return found + [replace(row, slot=1) for row in self._late.wait(timeout_s)]


class LosingPool(LatePool):
    """Two evaluators; the first is lost with its first trial."""

    def __init__(self, job: JobData) -> None:
        super().__init__(job, answers=0)
        self._trials = 0
        self._losing = False

    def submit(self, slot: int, method: str, **arguments: Any) -> None:
        self._trials += slot == 0 and method == "evaluate"
        self._losing = self._losing or (slot == 0 and method == "evaluate" and self._trials == 1)
        if not self._losing or slot:
            super().submit(slot, method, **arguments)

    def wait(self, timeout_s: float) -> list[Finished]:
        if self._losing:
            self._losing = False
            return [Finished(slot=0, error="ActorDiedError: killed", lost=True)]
        return super().wait(timeout_s)


@pytest.fixture(scope="module")
def whole() -> list[Event]:
    """All events of one job that ran through."""
    devices = tuple(DeviceTarget(name=name) for name in ("raspberry-pi-4", MCU))
    spec = JobSpec(name="digits", devices=devices, seed=5, strategy="nsga2")
    return run(make_start(searched(spec, trials=10)), packaging=True)


def test_a_job_reports_every_phase_and_ends_done(whole: list[Event]) -> None:
    phases = [event.status for event in whole if isinstance(event, StatusChanged | JobEnded)]

    assert phases == ["preparing", "searching", "packaging", "done"]


def test_the_float_network_is_measured_before_the_first_trial(whole: list[Event]) -> None:
    places = [place for place, event in enumerate(whole) if isinstance(event, Prepared)]
    first_trial = next(place for place, event in enumerate(whole) if isinstance(event, TrialStarted))

    prepared = whole[places[0]]
    assert isinstance(prepared, Prepared)
    assert len(places) == 1
    assert places[0] < first_trial
    # 200 images: 20 % calibration, 40 % search, the rest test.
    assert prepared.split == {"calibration": 40, "search": 80, "test": 80}
    assert prepared.baseline.accuracy is not None
    assert prepared.baseline.accuracy > 0.9


def test_uniform_and_single_dimension_baselines_are_the_first_trials(whole: list[Event]) -> None:
    labels = [(trial.number, trial.origin, trial.label) for trial in ended(whole)[:6]]

    # Bits alone make nothing smaller or faster on the first device: that baseline is the uniform 8 bit one.

    assert labels == [
        (0, Origin.BASELINE, "uniform 8 bit"),
        (1, Origin.BASELINE, "uniform 6 bit"),
        (2, Origin.BASELINE, "uniform 4 bit"),
        (3, Origin.BASELINE, "pruning only"),
        (4, Origin.BASELINE, "prune then quantize"),
        (5, Origin.SEARCH, ""),
    ]


def test_every_trial_starts_once_and_ends_once_in_its_budget(whole: list[Event]) -> None:
    started = [event.trial.number for event in whole if isinstance(event, TrialStarted)]

    assert started == [trial.number for trial in ended(whole)] == list(range(10))
    searching = whole[whole.index(StatusChanged(status="searching")) :]
    progress = [event for event in searching if isinstance(event, Progress)]
    assert [event.done for event in progress] == list(range(1, 11))
    assert progress[-1].seconds_left == 0.0


def test_no_plan_is_evaluated_twice(whole: list[Event]) -> None:
    plans = [repr(trial.plan) for trial in ended(whole)]

    assert len(set(plans)) == len(plans)


def test_checkpoints_of_the_front_are_verified_from_their_files(whole: list[Event]) -> None:
    checkpoints = [event for event in whole if isinstance(event, CheckpointReady)]

    assert checkpoints
    for checkpoint in checkpoints:
        assert checkpoint.verification["failures"] == []
        assert checkpoint.verified
        assert set(checkpoint.files) == {"packed.zip", "model.onnx"}
        assert checkpoint.verification["test"]["images"] == 80


@cache
def uninterrupted(strategy: str) -> tuple[DriverStart, list[Trial]]:
    devices = tuple(DeviceTarget(name=name) for name in ("raspberry-pi-4", MCU))
    space = SpaceSpec(weight_bits=(4, 8), activation_bits=(8,), keep_ratios=(0.5, 1.0), operators=("original",))
    spec = JobSpec(name="digits", devices=devices, space=space, budget=Budget(trials=14), seed=5, strategy=strategy)
    start = make_start(spec, images=100)
    return start, ended(run(start))


@pytest.mark.parametrize(
    ("strategy", "finished"), [("auto", 5), ("differentiable", 9), ("nsga2", 2), ("nsga2", 10), ("random", 5)]
)
def test_a_resumed_job_ends_with_the_trials_of_an_uninterrupted_one(strategy: str, finished: int) -> None:
    start, expected = uninterrupted(strategy)
    # The dispatcher has committed some ended trials and one that was in flight.
    in_flight = replace(expected[finished], status=TrialStatus.RUNNING, evaluation=None)

    resumed = run(replace(start, trials=(*expected[:finished], in_flight)))

    assert [outcome(trial) for trial in ended(resumed)] == [outcome(trial) for trial in expected[finished:]]


def test_a_relaxed_loss_that_was_lost_is_found_again_and_the_trials_stay_the_same() -> None:
    start, expected = uninterrupted("differentiable")
    lost = Finished(slot=0, error="ActorDiedError: killed", lost=True)

    trials = ended(run(start, lambda job: FaultyPool(job, {5: lost}, method="relax")))

    assert [outcome(trial) for trial in trials] == [outcome(trial) for trial in expected]
    # What it takes is written down with the trials that it was for.
    images = {trial.origin: trial.evaluation.relaxed_images for trial in trials if trial.evaluation}
    assert images[Origin.SEARCH] > images[Origin.BASELINE] == 0


def test_a_relaxed_loss_that_fails_once_is_asked_for_again() -> None:
    start, expected = uninterrupted("differentiable")
    fault = Finished(slot=0, error="MemoryError: too much")

    trials = ended(run(start, lambda job: FaultyPool(job, {5: fault}, method="relax")))

    assert [outcome(trial) for trial in trials] == [outcome(trial) for trial in expected]


def test_a_network_that_cannot_be_differentiated_ends_the_job_with_the_reason() -> None:
    start, _ = uninterrupted("differentiable")
    fault = Finished(slot=0, error="RuntimeError: derivative for round is not implemented")

    end = run(start, lambda job: FaultyPool(job, {}, always=fault, method="relax"))[-1]

    assert isinstance(end, JobEnded)
    assert end.status == "failed"
    assert "differentiating: RuntimeError: derivative for round" in (end.reason or "")


def test_stored_sensitivities_are_not_measured_again_and_lead_to_the_same_trials() -> None:
    start, expected = uninterrupted("auto")
    pools: list[FaultyPool] = []

    def make_pool(job: JobData) -> FaultyPool:
        pools.append(FaultyPool(job, {}, method="sensitivities"))
        return pools[0]

    rows = [row for event in run(start) if isinstance(event, SensitivityMeasured) for row in event.rows]
    known = {row.plan_digest: (row.divergence, row.loss) for row in rows}
    events = run(replace(start, sensitivities=known), make_pool)

    assert pools[0].calls == 0
    assert [outcome(trial) for trial in ended(events)] == [outcome(trial) for trial in expected]
    # They are said again, for those who look at this job alone.
    assert [event.rows for event in events if isinstance(event, SensitivityMeasured)] == [tuple(rows)]


def stopping(start: DriverStart) -> DriverStart:
    """Ask for all images that there are, which leaves enough to stop early."""
    return replace(start, spec={**start.spec, "split": {"calibration": 0.05, "search": 0.85}})


@cache
def with_early_stopping() -> tuple[DriverStart, list[Trial]]:
    space = SpaceSpec(weight_bits=(2, 8), activation_bits=(2, 8), keep_ratios=(0.5, 1.0), operators=("original",))
    devices = tuple(DeviceTarget(name=name) for name in ("raspberry-pi-4", MCU))
    spec = JobSpec(name="digits", devices=devices, space=space, budget=Budget(trials=24), seed=5, strategy="random")
    start = stopping(make_start(spec, images=797))  # 677 to search on
    return start, ended(run(start))


def test_hopeless_candidates_are_stopped_and_never_on_a_front() -> None:
    _, trials = with_early_stopping()

    stopped = [trial for trial in trials if trial.status is TrialStatus.STOPPED]
    done = [trial for trial in trials if trial.status is TrialStatus.DONE]
    assert stopped
    assert all(trial.origin is Origin.SEARCH for trial in stopped)
    assert {trial.evaluation.images for trial in done if trial.evaluation} == {677}
    for trial in stopped:
        assert trial.evaluation is not None
        assert trial.evaluation.images in (84, 169, 338)
        assert trial.evaluation.right is None
        rivals = [other.evaluation for other in done if other.number < trial.number and other.evaluation]
        for device, costs in trial.evaluation.costs.items():
            assert any(
                rival.costs[device].latency_ms <= costs.latency_ms
                and rival.costs[device].model_bytes <= costs.model_bytes
                and (rival.accuracy or 0) > (trial.evaluation.accuracy or 0)
                for rival in rivals
            )


def test_a_resumed_job_stops_the_same_candidates_after_the_same_images() -> None:
    start, expected = with_early_stopping()
    number = next(trial.number for trial in expected if trial.status is TrialStatus.STOPPED)
    in_flight = replace(expected[number], status=TrialStatus.RUNNING, evaluation=None)

    resumed = run(replace(start, trials=(*expected[:number], in_flight)))

    assert [outcome(trial) for trial in ended(resumed)] == [outcome(trial) for trial in expected[number:]]


def test_without_early_stopping_every_candidate_sees_all_images() -> None:
    start, _ = with_early_stopping()

    trials = ended(run(replace(start, spec={**start.spec, "early_stopping": False, "budget": {"trials": 14}})))

    assert {trial.evaluation.images for trial in trials if trial.evaluation} == {677}


def test_proposals_beyond_every_limit_are_listed_and_never_measured(spec: JobSpec) -> None:
    device = DeviceTarget(name=MCU, limits=Limits(model_bytes=1))  # nothing is that small: no repair can help
    pools: list[FaultyPool] = []

    def make_pool(job: JobData) -> FaultyPool:
        pools.append(FaultyPool(job, {}))
        return pools[0]

    trials = ended(run(make_start(replace(searched(spec, trials=9), devices=(device,)), images=100), make_pool))

    trials.sort(key=lambda trial: trial.number)  # what is never measured does not wait for what is
    # Bits only is uniform 4 bits here, the least that this device stores.
    assert [trial.status for trial in trials] == [TrialStatus.DONE] * 5 + [TrialStatus.INFEASIBLE] * 4
    assert [trial.origin for trial in trials] == [Origin.BASELINE] * 5 + [Origin.SEARCH] * 4
    assert pools[0].calls == 5


def test_baselines_are_measured_even_beyond_the_limits(spec: JobSpec) -> None:
    free = reachable_ranges(make_problem(spec))[MCU]["model_bytes"]
    # Uniform 8 and 6 bits take the same on this device, which stores 4 or 8 bits; 4 bits about half of it.
    device = DeviceTarget(name=MCU, limits=Limits(model_bytes=int(free["largest"] * 0.7)))
    pools: list[FaultyPool] = []

    def make_pool(job: JobData) -> FaultyPool:
        pools.append(FaultyPool(job, {}))
        return pools[0]

    trials = ended(run(make_start(replace(searched(spec, trials=8), devices=(device,)), images=100), make_pool))

    statuses = [trial.status for trial in trials]
    assert statuses[:6] == [TrialStatus.DONE] * 6
    assert [trial.evaluation and trial.evaluation.costs[MCU].feasible for trial in trials[:3]] == [False, False, True]
    assert pools[0].calls == sum(status is TrialStatus.DONE for status in statuses)
    for trial in trials:
        assert trial.evaluation is not None
        assert (trial.evaluation.accuracy is None) == (trial.status is TrialStatus.INFEASIBLE)
    # What the search proposes is repaired until it fits.
    assert {trial.status for trial in trials[6:]} == {TrialStatus.DONE}


def test_a_trial_that_fails_says_why_and_the_search_goes_on(spec: JobSpec) -> None:
    start = make_start(searched(spec, trials=9), images=100)
    fault = Finished(slot=0, error="RuntimeError: out of luck")

    events = run(start, lambda job: FaultyPool(job, {7: fault}))

    trials = ended(events)
    assert [trial.status for trial in trials] == [TrialStatus.DONE] * 6 + [TrialStatus.FAILED] + [TrialStatus.DONE] * 2
    assert trials[6].evaluation is not None
    assert trials[6].evaluation.error == "RuntimeError: out of luck"
    assert events[-1] == StatusChanged(status="packaging")


def test_a_trial_whose_evaluator_is_lost_is_run_again_under_its_number(spec: JobSpec) -> None:
    start = make_start(searched(spec, trials=6), images=100)
    lost = Finished(slot=0, error="ActorDiedError: killed", lost=True)

    trials = ended(run(start, lambda job: FaultyPool(job, {4: lost})))

    assert [trial.number for trial in trials] == list(range(6))
    assert {trial.status for trial in trials} == {TrialStatus.DONE}


def test_a_trial_that_loses_two_evaluators_has_failed(spec: JobSpec) -> None:
    start = make_start(searched(spec, trials=6), images=100)
    lost = Finished(slot=0, error="ActorDiedError: killed", lost=True)

    trials = ended(run(start, lambda job: FaultyPool(job, {4: lost, 5: lost})))

    assert [trial.status for trial in trials].count(TrialStatus.FAILED) == 1
    assert trials[3].evaluation is not None
    assert trials[3].evaluation.error == "ActorDiedError: killed"


def test_packaging_goes_on_after_the_only_evaluator_was_lost(spec: JobSpec) -> None:
    start = make_start(searched(replace(spec, strategy="nsga2"), trials=3), images=100)
    lost = Finished(slot=0, error="ActorDiedError: killed", lost=True)

    # The first finalist loses its evaluator twice: none is ready then, and no trial is in flight.
    events = run(start, lambda job: FaultyPool(job, {1: lost, 2: lost}, method="package"), packaging=True)

    checkpoints = [event for event in events if isinstance(event, CheckpointReady)]
    assert len(checkpoints) > 1
    assert [event.verified for event in checkpoints] == [False] + [True] * (len(checkpoints) - 1)
    assert checkpoints[0].verification == {"failures": ["ActorDiedError: killed"]}
    assert events[-1] == JobEnded(status="done", reason=None)


def test_an_evaluator_for_which_there_is_no_room_keeps_no_other_waiting(spec: JobSpec) -> None:
    pool: list[LatePool] = []

    def make_pool(job: JobData) -> LatePool:
        pool.append(LatePool(job, answers=10_000))
        return pool[0]

    events = run(make_start(searched(replace(spec, strategy="nsga2"), trials=6), images=100), make_pool)

    assert pool[0].asked == ["prepare"]
    assert [trial.number for trial in ended(events)] == list(range(6))


def test_an_evaluator_that_comes_late_is_told_what_all_share_before_it_measures(spec: JobSpec) -> None:
    pool: list[LatePool] = []

    def make_pool(job: JobData) -> LatePool:
        pool.append(LatePool(job, answers=8))
        return pool[0]

    events = run(make_start(searched(replace(spec, strategy="nsga2"), trials=12), images=100), make_pool)

    assert pool[0].asked[:3] == ["prepare", "adopt", "evaluate"]
    assert sorted(trial.number for trial in ended(events)) == list(range(12))
    assert TrialStatus.FAILED not in {trial.status for trial in ended(events)}


def going_on(spec: JobSpec) -> DriverStart:
    """A job whose channels were ranked before it crashed."""
    start = make_start(searched(replace(spec, strategy="nsga2"), trials=8), images=100)
    pieces = {event.key: event.content for event in run(start) if isinstance(event, GroundworkDone)}
    return replace(start, groundwork=pieces)


@pytest.mark.parametrize(("alone_s", "asked"), [(0.0, ["prepare", "adopt", "evaluate"]), (3600.0, ["prepare"])])
def test_a_search_that_goes_on_begins_with_one_evaluator(
    spec: JobSpec, monkeypatch: pytest.MonkeyPatch, alone_s: float, asked: list[str]
) -> None:
    monkeypatch.setattr("workers.driver.ALONE_S", alone_s)
    pool: list[LatePool] = []

    def make_pool(job: JobData) -> LatePool:
        pool.append(LatePool(job, answers=0))
        return pool[0]

    events = run(going_on(spec), make_pool)

    assert pool[0].asked[:3] == asked  # the second one; packaging is for several in any case
    assert sorted(trial.number for trial in ended(events)) == list(range(8))


def test_the_others_start_when_the_one_that_is_alone_is_lost(spec: JobSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.driver.ALONE_S", 3600.0)
    pool: list[LosingPool] = []

    def make_pool(job: JobData) -> LosingPool:
        pool.append(LosingPool(job))
        return pool[0]

    events = run(going_on(spec), make_pool)

    assert pool[0].asked[:3] == ["prepare", "adopt", "evaluate"]
    assert sorted(trial.number for trial in ended(events)) == list(range(8))
    assert TrialStatus.FAILED not in {trial.status for trial in ended(events)}


def test_a_job_in_which_everything_fails_is_given_up_with_the_reasons(spec: JobSpec) -> None:
    start = make_start(searched(spec, trials=50), images=100)

    events = run(start, lambda job: FaultyPool(job, {}, always=Finished(slot=0, error="ValueError: no such thing")))

    assert len(ended(events)) == FAILURES_IN_A_ROW
    end = events[-1]
    assert isinstance(end, JobEnded)
    assert end.status == "failed"
    assert "5 failures in a row" in (end.reason or "")
    assert "ValueError: no such thing" in (end.reason or "")


def test_events_come_again_until_they_are_acknowledged(spec: JobSpec) -> None:
    driver = Driver(make_start(searched(spec, trials=4)), LocalPool)

    first, again = driver.advance(0), driver.advance(0)

    assert first == again == [(1, StatusChanged(status="preparing"))]
    driver.close()


def test_a_data_set_that_is_too_small_ends_the_job_with_the_reason(spec: JobSpec) -> None:
    (_, end) = run(make_start(spec, images=79))

    assert isinstance(end, JobEnded)
    assert end.status == "failed"
    assert "at least 80 images" in (end.reason or "")
