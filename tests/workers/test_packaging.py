from dataclasses import replace

import pytest
import torch

from tests.workers.conftest import DEVICES, make_problem, make_start
from workers.evaluator import Evaluator
from workers.job import load_job
from workers.packaging import paired
from workers.spec import DeviceTarget, JobSpec
from workers.start import DriverStart


def test_paired_counts_only_the_images_on_which_the_networks_differ() -> None:
    ours = torch.tensor([True] * 90 + [False] * 10)
    floats = torch.tensor([True] * 85 + [False] * 5 + [True] * 8 + [False] * 2)

    found = paired(ours, floats)

    # Ours alone is right on 5, the float network alone on 8: a drop of 3 in 100, give or take
    # 1.96 * sqrt((0.13 - 0.03²) / 100) = 0.0704.
    assert (found["only_packed_right"], found["only_float_right"]) == (5, 8)
    assert found["drop"] == pytest.approx(0.03)
    assert found["drop_interval"] == pytest.approx([0.03 - 0.0704, 0.03 + 0.0704], abs=1e-4)


@pytest.fixture(scope="module")
def evaluator() -> Evaluator:
    spec = JobSpec(name="digits", devices=tuple(DeviceTarget(name=name) for name in DEVICES))
    prepared = Evaluator(load_job(make_start(spec, images=100)))
    prepared.prepare()
    return prepared


def test_what_does_not_agree_with_the_trial_is_named_and_not_verified(evaluator: Evaluator, start: DriverStart) -> None:
    job = load_job(start)
    problem = make_problem(job.spec)
    plan = problem.baselines()[2].plan
    price = problem.pricing.price(plan)
    measured = evaluator.evaluate(plan.to_json())
    costs = {name: replace(row, latency_ms=row.latency_ms * 2) for name, row in price.costs.items()}

    package = evaluator.package(
        plan.to_json(),
        number=7,
        measured_correct=measured.correct - 3,
        price=replace(price, packed_bytes=price.packed_bytes + 1, costs=costs),
    )

    failures = package.verification["failures"]
    assert not package.verified
    assert len(failures) == 3 + len(costs)
    assert failures[0].startswith(f"the packed file gets {measured.correct} of 40 search images right, the trial got")
    assert failures[1].startswith(f"ONNX Runtime gets {measured.correct} of 40")
    assert failures[2] == f"model.safetensors has {price.packed_bytes} bytes, {price.packed_bytes + 1} were predicted"
    assert all(text.startswith("latency_ms on ") for text in failures[3:])


def test_divergence_is_zero_for_no_change_and_grows_as_bits_shrink(evaluator: Evaluator, start: DriverStart) -> None:
    problem = make_problem(load_job(start).spec)
    plans = [baseline.plan.to_json() for baseline in problem.baselines()]
    two_bits = problem.decode(problem.space.uniform([0.0])[0]).to_json()

    eight, six, four, two = (divergence for divergence, _ in evaluator.sensitivities([*plans, two_bits]))

    assert 0 <= eight <= six <= four <= two
    assert eight < 0.05
