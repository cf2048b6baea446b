from dataclasses import replace
from typing import cast

import pytest

from hwmodels.profile import builtin_profiles
from search.space import Candidate, Space, Variable
from tests.workers.conftest import DEVICES, digits_network, make_problem
from workers.events import DeviceCosts
from workers.fit import contradictory_limits, feasible_floors, fit_ranges, impossible_limits, reachable_ranges
from workers.pricing import violations
from workers.problem import Problem
from workers.spec import COST_OBJECTIVES, DeviceTarget, JobSpec, Limits

MCU = "stm32h743"


def limited(spec: JobSpec, **limits: float) -> JobSpec:
    return replace(spec, devices=(DeviceTarget(name=MCU, limits=Limits(**limits)),))  # type: ignore[arg-type]


def test_ranges_span_what_corners_cost(spec: JobSpec) -> None:
    problem = make_problem(spec)

    ranges = reachable_ranges(problem)

    for device in DEVICES:
        for cost in COST_OBJECTIVES:
            row = ranges[device][cost]
            dearest = getattr(problem.costs(problem.space.uniform([1.0])[0], device), cost)
            assert row["smallest"] <= row["middle"] <= row["largest"]
            assert row["smallest"] <= dearest <= row["largest"]


def test_the_fit_check_needs_shapes_only_and_agrees_with_the_job(spec: JobSpec) -> None:
    network, _ = digits_network()
    shapes = {name: list(tensor.shape) for name, tensor in network.tensors.items()}
    profiles = {name: builtin_profiles()[name].to_json() for name in DEVICES}

    ranges = fit_ranges(network.graph.to_json(), shapes, spec.to_json(), profiles)

    assert ranges == reachable_ranges(make_problem(spec))


def test_a_limit_at_the_smallest_value_is_possible_and_one_below_is_not(spec: JobSpec) -> None:
    smallest = reachable_ranges(make_problem(limited(spec, model_bytes=1)))[MCU]["model_bytes"]["smallest"]

    at, below = limited(spec, model_bytes=smallest), limited(spec, model_bytes=smallest - 1)

    assert impossible_limits(at, reachable_ranges(make_problem(at))) == []
    (refused,) = impossible_limits(below, reachable_ranges(make_problem(below)))
    assert (refused.device, refused.limit, refused.value) == (MCU, "model_bytes", smallest - 1)
    assert refused.smallest == smallest


def test_the_smallest_size_is_not_above_what_a_mixture_of_choices_reaches(spec: JobSpec) -> None:
    # With a limit that cannot be kept the range is searched below the corners too.
    problem = make_problem(limited(spec, model_bytes=1))
    smallest = reachable_ranges(problem)[MCU]["model_bytes"]["smallest"]

    corners = min(problem.costs(corner, MCU).model_bytes for corner in problem.corners())

    assert smallest <= corners


@pytest.mark.parametrize("limits", [{}, {"model_bytes": 30000}, {"model_bytes": 20000, "latency_ms": 1.0}])
def test_every_floor_keeps_all_limits(spec: JobSpec, limits: dict[str, float]) -> None:
    problem = make_problem(limited(spec, **limits))

    floors = feasible_floors(problem, MCU)

    assert floors
    assert all(problem.costs(floor, MCU).feasible for floor in floors)


def test_no_floor_is_made_up_where_limits_exclude_each_other(spec: JobSpec) -> None:
    problem = make_problem(limited(spec, latency_ms=1e-6))

    assert feasible_floors(problem, MCU) == []


def test_corners_are_candidates_of_the_space(spec: JobSpec) -> None:
    problem = make_problem(spec)

    corners = problem.corners()

    assert len(set(corners)) == len(corners)
    assert Candidate(tuple(len(variable.choices) - 1 for variable in problem.space.variables)) in corners
    assert Candidate((0,) * len(problem.space.variables)) in corners


class Seesaw:
    """A device on which what saves bytes costs time: one variable, latency 4 - choice, bytes 100 * (1 + choice)."""

    def __init__(self, spec: JobSpec) -> None:
        self.spec = spec
        self.space = Space((Variable(name="weights a", choices=(2, 4, 6, 8)),))

    def corners(self) -> list[Candidate]:
        return [Candidate((0,)), Candidate((3,))]

    def costs(self, candidate: Candidate, device: str) -> DeviceCosts:
        (choice,) = candidate.indices
        costs = DeviceCosts(latency_ms=4.0 - choice, energy_mj=1.0, model_bytes=100 * (1 + choice), peak_memory_bytes=1)
        return replace(costs, violations=violations(costs, self.spec.devices[0].limits))


def test_limits_that_can_each_be_kept_but_not_together_are_told_with_what_comes_closest(spec: JobSpec) -> None:
    problem = cast(Problem, Seesaw(limited(spec, latency_ms=2.0, model_bytes=200)))

    (found,) = contradictory_limits(problem)

    # Choice 1 has 3 ms, half above 2 ms, and 200 bytes; choice 2 has 2 ms and 300 bytes, half above 200.
    assert (found.device, found.limit, found.value) == (MCU, "together", 0.5)
    assert found.closest in ({"latency_ms": 3.0, "model_bytes": 200.0}, {"latency_ms": 2.0, "model_bytes": 300.0})
    assert feasible_floors(problem, MCU) == []


def test_limits_between_the_corners_do_not_contradict_each_other(spec: JobSpec) -> None:
    problem = cast(Problem, Seesaw(limited(spec, latency_ms=3.0, model_bytes=200)))

    assert contradictory_limits(problem) == []
    assert feasible_floors(problem, MCU) == [Candidate((1,))]


def test_loose_limits_do_not_contradict_each_other(spec: JobSpec) -> None:
    assert contradictory_limits(make_problem(limited(spec, latency_ms=5.0, model_bytes=90_000))) == []
