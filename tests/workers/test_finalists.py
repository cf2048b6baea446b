from dataclasses import replace

from workers.events import DeviceCosts, Evaluation, Origin, Trial, TrialStatus
from workers.finalists import CHECKPOINTS_PER_DEVICE, finalists, front
from workers.spec import DeviceTarget, JobSpec, Limits

OBJECTIVES = ("accuracy", "latency_ms", "model_bytes")


def trial(number: int, accuracy: float | None, *, pi: tuple[float, int], mcu: tuple[float, int] | None = None) -> Trial:
    """Return a trial with latency and size on each device; no size on the second one means that it does not fit."""
    latency, size = pi
    costs = {"pi": DeviceCosts(latency_ms=latency, energy_mj=1.0, model_bytes=size, peak_memory_bytes=1)}
    latency, size = mcu or (9.0, 9)
    costs["mcu"] = DeviceCosts(
        latency_ms=latency,
        energy_mj=1.0,
        model_bytes=size,
        peak_memory_bytes=1,
        violations={} if mcu else {"model_bytes": 0.5},
    )
    return Trial(
        number=number,
        origin=Origin.SEARCH,
        label="",
        candidate={},
        plan={},
        status=TrialStatus.INFEASIBLE if accuracy is None else TrialStatus.DONE,
        evaluation=Evaluation(costs=costs, packed_bytes=1, macs=1, bit_ops=1, accuracy=accuracy),
    )


def with_bound(row: Trial, drop_bound: float) -> Trial:
    assert row.evaluation is not None
    return replace(row, evaluation=replace(row.evaluation, drop_bound=drop_bound))


def spec(*devices: str, **limits: float) -> JobSpec:
    targets = tuple(DeviceTarget(name=name, limits=Limits(**limits)) for name in devices)  # type: ignore[arg-type]
    return JobSpec(name="job", devices=targets, objectives=OBJECTIVES)


def test_a_front_has_the_feasible_measured_trials_that_nothing_beats() -> None:
    trials = [
        trial(0, 0.9, pi=(2.0, 20)),
        trial(1, 0.9, pi=(2.0, 21)),  # larger than 0, else the same
        trial(2, 0.8, pi=(1.0, 30)),
        trial(3, None, pi=(0.1, 1)),
    ]

    assert [row.number for row in front(trials, OBJECTIVES, "pi")] == [0, 2]
    assert front(trials, OBJECTIVES, "mcu") == []


def test_the_cheapest_within_the_allowed_drop_comes_first_and_what_drops_more_by_accuracy() -> None:
    trials = [
        trial(0, 0.950, pi=(3.0, 30)),
        trial(1, 0.945, pi=(2.0, 25)),
        trial(2, 0.500, pi=(0.5, 5)),
        trial(3, 0.900, pi=(1.0, 10)),
    ]

    chosen = finalists(trials, spec("pi"), float_accuracy=0.95)

    # 1 and 0 drop by at most a point; the faster of them is best.
    assert [row.number for row in chosen] == [1, 0, 3, 2]


def test_a_drop_that_the_job_allows_decides_what_is_best() -> None:
    trials = [trial(0, 0.95, pi=(3.0, 30)), trial(1, 0.90, pi=(1.0, 10))]

    chosen = finalists(trials, spec("pi", accuracy_drop=0.1), float_accuracy=0.95)

    assert [row.number for row in chosen] == [1, 0]


def test_devices_take_turns_and_share_what_is_best_for_both() -> None:
    trials = [
        trial(0, 0.95, pi=(1.0, 10), mcu=(3.0, 30)),
        trial(1, 0.94, pi=(2.0, 9), mcu=(1.0, 20)),
    ]

    chosen = finalists(trials, spec("pi", "mcu"), float_accuracy=0.95)

    assert [row.number for row in chosen] == [0, 1]


def test_no_device_gets_more_than_its_share_of_checkpoints() -> None:
    trials = [trial(number, 0.9 - number / 100, pi=(9.0 - number / 10, 10)) for number in range(20)]

    assert len(finalists(trials, spec("pi"), float_accuracy=0.9)) == CHECKPOINTS_PER_DEVICE


def test_what_the_images_clear_of_a_drop_comes_before_what_is_within_by_chance() -> None:
    trials = [
        with_bound(trial(0, 0.950, pi=(3.0, 30)), 0.009),
        with_bound(trial(1, 0.949, pi=(2.0, 25)), 0.012),
        with_bound(trial(2, 0.948, pi=(1.5, 20)), 0.010),
        with_bound(trial(3, 0.900, pi=(1.0, 10)), 0.060),
    ]

    chosen = finalists(trials, spec("pi"), float_accuracy=0.95)

    assert [row.number for row in chosen] == [2, 0, 1, 3]
