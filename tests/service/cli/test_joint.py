from datetime import UTC, datetime

from compress.plan import LayerBits, OperatorChoice, Plan
from service.api.schemas import CostsRead, FrontRead, TrialRead
from service.cli.joint import joint_lines

DEVICE = "raspberry-pi-4"


def trial(number: int, accuracy: float, latency_ms: float, *, joint: bool) -> TrialRead:
    plan = Plan(
        operators={"block": OperatorChoice(operator="skip")} if joint else {},
        keep_ratios={"group": 0.5},
        layers={"conv": LayerBits(weight_bits=4, activation_bits=8)},
    )
    costs = CostsRead(latency_ms=latency_ms, energy_mj=1.0, model_bytes=100, peak_memory_bytes=100)
    return TrialRead(
        id=f"job-{number}",
        job_id="job",
        number=number,
        origin="search",
        label="",
        status="done",
        feasible={DEVICE: True},
        accuracy=accuracy,
        correct=None,
        images=None,
        packed_bytes=100,
        macs=1,
        bit_ops=1,
        costs={DEVICE: costs},
        plan=plan.to_json(),
        seconds={},
        error=None,
        checkpoint=None,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        ended_at=None,
    )


def front(*points: TrialRead) -> FrontRead:
    return FrontRead.model_validate(
        {
            "device": DEVICE,
            "x": "latency_ms",
            "y": "accuracy",
            "points": points,
            "baselines": [],
            "float": None,
            "hypervolume": 0.0,
            "reference": {},
            "feasible_count": len(points),
        }
    )


def test_joint_trials_of_the_front_are_counted_and_the_most_accurate_named_first() -> None:
    points = (trial(1, 0.90, 1.0, joint=True), trial(2, 0.95, 2.0, joint=False), trial(3, 0.97, 3.0, joint=True))

    (line,) = joint_lines(front(*points), points)

    assert "2 of the 3 on this front" in line
    assert line.index("trial 3") < line.index("trial 1")
    assert "trial 2" not in line


def test_a_joint_trial_beside_the_front_is_shown_with_what_beats_it() -> None:
    better = trial(1, 0.95, 1.0, joint=False)
    beaten = trial(2, 0.93, 1.5, joint=True)

    lines = joint_lines(front(better), [better, beaten])

    assert "none that uses bits, channels and operators together is on this front" in lines[0]
    assert "trial 2 (93.00 %, 1.50 ms" in lines[1]
    assert "beaten by trial 1 (95.00 %, 1.00 ms" in lines[1]


def test_without_any_joint_trial_within_the_limits_that_is_said() -> None:
    only = trial(1, 0.95, 1.0, joint=False)
    beyond = trial(2, 0.99, 9.0, joint=True).model_copy(update={"feasible": {DEVICE: False}})

    assert joint_lines(front(only), [only, beyond]) == [
        "Joint candidates: none that uses bits, channels and operators together keeps the limits."
    ]
