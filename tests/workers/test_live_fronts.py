import base64
from dataclasses import replace

from workers.events import DeviceCosts, Evaluation, Origin, Trial, TrialStatus
from workers.live_fronts import LiveFronts
from workers.spec import DeviceTarget, JobSpec

A, B = "a", "b"
SPEC = JobSpec(name="job", devices=(DeviceTarget(name=A), DeviceTarget(name=B)), objectives=("accuracy", "latency_ms"))


def costs(latency_ms: float, *, feasible: bool = True) -> DeviceCosts:
    broken = {} if feasible else {"latency_ms": 0.1}
    return DeviceCosts(latency_ms=latency_ms, energy_mj=1.0, model_bytes=1, peak_memory_bytes=1, violations=broken)


def evaluation(a: DeviceCosts, b: DeviceCosts) -> Evaluation:
    return Evaluation(costs={A: a, B: b}, packed_bytes=1, macs=1, bit_ops=1)


def trial(number: int, a: DeviceCosts, b: DeviceCosts, accuracy: float) -> Trial:
    found = replace(evaluation(a, b), accuracy=accuracy, right=base64.b64encode(bytes([number])).decode())
    return Trial(
        number=number, origin=Origin.SEARCH, label="", candidate={}, plan={}, status=TrialStatus.DONE, evaluation=found
    )


def test_the_rival_is_the_most_accurate_trial_that_costs_no_more() -> None:
    fronts = LiveFronts(SPEC)
    for row in (
        trial(1, costs(1), costs(1), 0.5),
        trial(2, costs(2), costs(2), 0.7),
        trial(3, costs(3), costs(3), 0.9),
    ):
        assert fronts.add(row)

    assert fronts.rivals(evaluation(costs(2.5), costs(2.5))) == [bytes([2])]
    assert fronts.rivals(evaluation(costs(2.5), costs(9))) == [bytes([2]), bytes([3])]


def test_a_candidate_that_is_cheaper_than_all_on_one_device_has_no_rivals() -> None:
    fronts = LiveFronts(SPEC)
    fronts.add(trial(1, costs(1), costs(1), 0.9))

    assert fronts.rivals(evaluation(costs(5), costs(0.5))) == []
    assert fronts.rivals(evaluation(costs(5), costs(0.5, feasible=False))) == [bytes([1])]


def test_trials_that_were_stopped_or_break_a_limit_are_on_no_front() -> None:
    fronts = LiveFronts(SPEC)
    stopped = replace(trial(1, costs(1), costs(1), 0.9), status=TrialStatus.STOPPED)

    assert not fronts.add(stopped)
    assert not fronts.add(trial(2, costs(1, feasible=False), costs(1, feasible=False), 0.9))
    assert fronts.rivals(evaluation(costs(5), costs(5))) == []


def test_volumes_lie_between_the_front_and_a_tenth_beyond_the_dearest() -> None:
    fronts = LiveFronts(SPEC)
    fronts.add(trial(1, costs(1), costs(2), 0.5))

    volumes = fronts.volumes({A: {"latency_ms": 10.0}, B: {"latency_ms": 10.0}})

    assert volumes == {A: 0.5 * (11 - 1), B: 0.5 * (11 - 2)}
