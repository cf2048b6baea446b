from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from compress.plan import Numerics, Plan
from hwmodels.alternatives import Alternatives
from hwmodels.errors import InputError
from hwmodels.many import Many
from hwmodels.profile import builtin_profiles, load_profile
from search.space import Candidate
from tests.workers.conftest import digits_network, make_problem
from workers.families import FamilyOfPlans
from workers.ingest.prices import FEW, prices_of
from workers.pricing import Pricing
from workers.problem import Problem
from workers.spec import COST_OBJECTIVES, DeviceTarget, JobSpec

# One of each family, each rule of memory and each way to merge kernels.
PLAIN = ("raspberry-pi-4", "stm32h743", "bitfusion-16nm", "eyeriss-v1", "zynq-7020", "x86-avx2", "edge-tpu-usb")
MERGES_ACROSS_BLOCKS = "myriad-x"
PRICES_TOGETHER = "finn-zc706"


@pytest.fixture(scope="module")
def problem() -> Problem:
    return make_problem(JobSpec(name="many", devices=(DeviceTarget(name=PLAIN[0]),)))


def some_plans(problem: Problem, count: int, *, seed: int = 0) -> list[Mapping[str, Any]]:
    rng = np.random.default_rng(seed)
    sizes = [len(variable.choices) for variable in problem.space.variables]
    drawn = [Candidate(tuple(int(rng.integers(size)) for size in sizes)) for _ in range(count)]
    return [problem.decode(candidate).to_json() for candidate in drawn]


def laid_out(plans: list[Mapping[str, Any]]) -> Alternatives:
    network, structure = digits_network()
    made = FamilyOfPlans(network, structure, plans)
    family = made.family()
    return Alternatives(family, made.plans(sorted(family.layers)))


def full(plans: list[Mapping[str, Any]], device: str) -> list[tuple[Any, ...]]:
    network, structure = digits_network()
    pricing = Pricing(network, structure, [DeviceTarget(name=device)], builtin_profiles())
    rows = [pricing.costs(Plan.from_json(plan), device) for plan in plans]
    return [(*(getattr(row, name) for name in COST_OBJECTIVES), row.deployable, row.reason) for row in rows]


@pytest.mark.parametrize("device", PLAIN)
def test_plans_priced_together_cost_what_each_costs_alone(problem: Problem, device: str) -> None:
    plans = some_plans(problem, 20)

    found = Many(laid_out(plans), builtin_profiles()[device]).prices()

    for number, (latency, energy, size, peak, _, reason) in enumerate(full(plans, device)):
        assert found.latency_ms[number] == pytest.approx(latency, rel=1e-9)
        assert found.energy_mj[number] == pytest.approx(energy, rel=1e-9)
        assert (found.model_bytes[number], found.peak_memory_bytes[number]) == (size, peak)
        assert found.reasons[number] == reason


def test_a_plan_that_a_device_refuses_says_why(problem: Problem) -> None:
    plans = some_plans(problem, 8)
    small = builtin_profiles()["stm32h743"].to_json()
    small["memory"]["ram_kib"] = {**small["memory"]["ram_kib"], "value": 1}
    found = Many(laid_out(plans), load_profile(small)).prices()

    assert all(reason is not None and "RAM has 1024" in reason for reason in found.reasons)


@pytest.mark.parametrize("device", [MERGES_ACROSS_BLOCKS, PRICES_TOGETHER])
def test_where_plans_cannot_be_priced_together_each_is_estimated(problem: Problem, device: str) -> None:
    plans = some_plans(problem, FEW + 1)
    network, structure = digits_network()
    profiles = {device: builtin_profiles()[device]}

    with pytest.raises(InputError):
        Many(laid_out(plans), profiles[device])
    found = prices_of(network, structure, plans, profiles)[device]

    assert found == full(plans, device)


def test_plans_that_differ_in_more_than_choices_are_no_family(problem: Problem) -> None:
    plan = problem.decode(Candidate(tuple(0 for _ in problem.space.variables)))
    other = replace(plan, numerics=Numerics(other_bits=4))
    network, structure = digits_network()

    with pytest.raises(InputError, match="must share"):
        FamilyOfPlans(network, structure, [plan.to_json(), other.to_json()]).plans([])


def test_layers_without_bits_are_left_to_the_full_estimate(problem: Problem) -> None:
    plans = some_plans(problem, FEW + 1)
    plans[3] = Plan().to_json()
    network, structure = digits_network()

    found = prices_of(network, structure, plans, {PLAIN[0]: builtin_profiles()[PLAIN[0]]})[PLAIN[0]]

    assert found == full(plans, PLAIN[0])
