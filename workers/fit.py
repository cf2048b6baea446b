"""What can be reached at all: the fit check, from prices alone and before anything is run."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch

from compress.network.graph import Graph, Network
from compress.structure import analyse
from hwmodels.profile import load_profile
from search.space import Candidate, Space
from workers.problem import Problem
from workers.spec import COST_OBJECTIVES, JobSpec

Ranges = Mapping[str, Mapping[str, Mapping[str, float]]]
"""By device and cost: ``smallest``, ``middle``, ``largest``."""

DEPLOYABLE = "deployable"
TOGETHER = "together"

STARTS = 4  # corners from which a candidate within all limits is looked for
PASSES = 3  # of changing every variable


@dataclass(frozen=True, slots=True, kw_only=True)
class ImpossibleLimit:
    """A limit below everything that can be reached.

    ``limit`` is ``deployable`` if nothing runs on the device, and ``together`` if each can be kept but nothing was
    found that keeps all of them: ``closest`` then has the limited costs of what comes closest, and ``value`` is by what
    share it exceeds the limits, added up.
    """

    device: str
    limit: str
    value: float
    smallest: float | None = None
    middle: float | None = None
    largest: float | None = None
    closest: Mapping[str, float] | None = None


def fit_ranges(
    graph: Mapping[str, Any],
    shapes: Mapping[str, Sequence[int]],
    spec: Mapping[str, Any],
    profiles: Mapping[str, Mapping[str, Any]],
) -> dict[str, dict[str, dict[str, float]]]:
    """Return the reachable range of every cost on every device; see ``fit_problem``."""
    return reachable_ranges(fit_problem(graph, shapes, spec, profiles))


def fit_problem(
    graph: Mapping[str, Any],
    shapes: Mapping[str, Sequence[int]],
    spec: Mapping[str, Any],
    profiles: Mapping[str, Mapping[str, Any]],
) -> Problem:
    """Return a job as a search problem, without the network's values and without Ray.

    Args:
        graph: ``Graph`` as JSON.
        shapes: Shape of every tensor, as in the header of the weights' file.
        spec: ``JobSpec`` as JSON.
        profiles: Device profiles as JSON, by name.
    """
    tensors = {name: torch.empty(tuple(shape), device="meta") for name, shape in shapes.items()}
    network = Network(graph=Graph.from_json(graph), tensors=tensors)
    return Problem(
        JobSpec.from_json(spec),
        network,
        analyse(network),
        {name: load_profile(profile) for name, profile in profiles.items()},
    )


def reachable_ranges(problem: Problem) -> dict[str, dict[str, dict[str, float]]]:
    """Return the range of every cost on every device over candidates that can run there.

    Prices the corners of the space; where a limit lies below all of them, descends from the best one, one variable at
    a time, before calling it the smallest. A device on which no corner can run has no ranges.
    """
    corners = problem.corners()
    ranges: dict[str, dict[str, dict[str, float]]] = {}
    for device in problem.spec.devices:
        runs = [corner for corner in corners if problem.costs(corner, device.name).deployable]
        if not runs:
            ranges[device.name] = {}
            continue
        ranges[device.name] = {}
        for cost in COST_OBJECTIVES:
            values = [_cost(problem, corner, device.name, cost) for corner in runs]
            smallest, limit = min(values), getattr(device.limits, cost)
            if limit is not None and limit < smallest:
                smallest = _smallest_near(problem, runs[values.index(smallest)], device.name, cost)
            ranges[device.name][cost] = {"smallest": smallest, "middle": median(values), "largest": max(values)}
    return ranges


def impossible_limits(spec: JobSpec, ranges: Ranges) -> list[ImpossibleLimit]:
    """Return the limits that nothing in the job's space can keep."""
    found: list[ImpossibleLimit] = []
    for device in spec.devices:
        if not ranges[device.name]:
            found.append(ImpossibleLimit(device=device.name, limit=DEPLOYABLE, value=1.0))
        for cost, row in ranges[device.name].items():
            value = getattr(device.limits, cost)
            if value is not None and value < row["smallest"]:
                found.append(
                    ImpossibleLimit(
                        device=device.name,
                        limit=cost,
                        value=value,
                        smallest=row["smallest"],
                        middle=row["middle"],
                        largest=row["largest"],
                    )
                )
    return found


def contradictory_limits(problem: Problem) -> list[ImpossibleLimit]:
    """Return the devices on which nothing keeps all limits though something keeps each; by search, not by proof."""
    found: list[ImpossibleLimit] = []
    for device in problem.spec.devices:
        bounds = {name: getattr(device.limits, name) for name in COST_OBJECTIVES}
        limited = [name for name, bound in bounds.items() if bound is not None]
        if len(limited) < 2:
            continue
        closest = _closest(problem, device.name)
        if closest is not None and (excess := _excess(problem, closest, device.name)) > 0:
            values = {name: _cost(problem, closest, device.name, name) for name in limited}
            found.append(ImpossibleLimit(device=device.name, limit=TOGETHER, value=excess, closest=values))
    return found


def feasible_floors(problem: Problem, device: str) -> list[Candidate]:
    """Return corners that keep all limits of a device, or one candidate found below the corners, or nothing."""
    corners = problem.corners()
    feasible = [corner for corner in corners if problem.costs(corner, device).feasible]
    if feasible:
        return feasible
    closest = _closest(problem, device)
    return [closest] if closest is not None and _excess(problem, closest, device) == 0 else []


def _closest(problem: Problem, device: str) -> Candidate | None:
    """Return what comes closest to all limits of a device, or keeps them; ``None`` if nothing runs there."""

    def excess(candidate: Candidate) -> float:
        return _excess(problem, candidate, device)

    runs = [corner for corner in problem.corners() if problem.costs(corner, device).deployable]
    best: Candidate | None = None
    for start in sorted(runs, key=excess)[:STARTS]:
        found = start
        for _ in range(PASSES):
            before, found = found, _descended(problem.space, found, excess)
            if excess(found) == 0:
                return found
            if found == before:
                break
        if best is None or excess(found) < excess(best):
            best = found
    return best


def _excess(problem: Problem, candidate: Candidate, device: str) -> float:
    costs = problem.costs(candidate, device)
    return sum(costs.violations.values()) if costs.deployable else math.inf


def _cost(problem: Problem, candidate: Candidate, device: str, cost: str) -> float:
    return float(getattr(problem.costs(candidate, device), cost))


def _smallest_near(problem: Problem, start: Candidate, device: str, cost: str) -> float:
    def cost_where_it_runs(candidate: Candidate) -> float:
        runs = problem.costs(candidate, device).deployable
        return _cost(problem, candidate, device, cost) if runs else math.inf

    return cost_where_it_runs(_descended(problem.space, start, cost_where_it_runs))


def _descended(space: Space, start: Candidate, cost: Callable[[Candidate], float]) -> Candidate:
    """Return what one pass of changing each variable to its best choice, the others fixed, leads to."""
    best, lowest = start, cost(start)
    for place, variable in enumerate(space.variables):
        for choice in range(len(variable.choices)):
            tried = Candidate((*best.indices[:place], choice, *best.indices[place + 1 :]))
            if (found := cost(tried)) < lowest:
                best, lowest = tried, found
    return best
