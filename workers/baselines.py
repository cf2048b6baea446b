"""The best that one dimension alone can do: plans that every job measures, to say what searching jointly gains.

Each is the solution of the integer programme over the choices of its own dimension, with the same budget: a limit of
the first device that eight bits everywhere break, else a share of the bytes that these take. Where a dimension cannot
come so low it goes as low as it can.
"""

import math
from collections.abc import Callable
from dataclasses import replace

from search.space import Candidate, Space
from search.strategies.integer_programme import IntegerProgramme
from search.table import ChoiceTable
from workers.problem import Baseline, Problem
from workers.spec import COST_OBJECTIVES

BITS_ONLY = "bits only"
PRUNING_ONLY = "pruning only"
PRUNE_THEN_QUANTIZE = "prune then quantize"

SHARE_WITHOUT_LIMIT = 0.6  # a runtime that stores 4 and 8 bits cannot halve by bits alone
HALVINGS = 6  # towards the programme's largest budget whose solution really keeps the goal


def single_dimension_baselines(problem: Problem, table: ChoiceTable) -> list[Baseline]:
    """Return the plans that change bits only, channels only, and first channels and then bits.

    Args:
        problem: Space and prices.
        table: What single choices do on the job's first device.
    """
    device, cost, budget = _target(problem)
    place = _cost_names(problem).index(cost)

    def solved(start: Candidate, kinds: tuple[str, ...], goal: float) -> Candidate:
        return _solved(problem, table, start, kinds, place, goal, lambda tried: _cost(problem, tried, device, cost))

    bits, channels = ("weights", "activations"), ("channels",)
    halfway = math.sqrt(budget * table.base_costs[place])  # each of the two steps saves the same share
    pruned = solved(table.base, channels, halfway)
    found = {
        BITS_ONLY: solved(table.base, bits, budget),
        PRUNING_ONLY: solved(table.base, channels, budget),
        PRUNE_THEN_QUANTIZE: solved(pruned, bits, budget),
    }
    known = {baseline.plan.digest() for baseline in problem.baselines()}
    rows = [Baseline(label=label, plan=problem.decode(tried), candidate=tried) for label, tried in found.items()]
    different = {row.plan.digest(): row for row in reversed(rows)}
    return [row for row in rows if row.plan.digest() not in known and different[row.plan.digest()] is row]


def _target(problem: Problem) -> tuple[str, str, float]:
    """Return the device, the cost and the most of it that the plans may cost."""
    device = problem.spec.devices[0]
    costs = _cost_names(problem)
    eight = problem.pricing.costs(problem.baselines()[0].plan, device.name)
    for name in costs:
        limit = getattr(device.limits, name)
        if limit is not None and limit < getattr(eight, name):
            return device.name, name, float(limit)
    # Every dimension makes the network smaller, not every one makes it faster.
    cost = "model_bytes" if "model_bytes" in costs else costs[0]
    return device.name, cost, SHARE_WITHOUT_LIMIT * float(getattr(eight, cost))


def _cost_names(problem: Problem) -> tuple[str, ...]:
    """Return the costs in a table of the first device: objectives, then limits."""
    objectives = problem.spec.objectives[1:]
    limits = problem.spec.devices[0].limits
    others = (name for name in COST_OBJECTIVES if name not in objectives and getattr(limits, name) is not None)
    return (*objectives, *others)


def _cost(problem: Problem, candidate: Candidate, device: str, cost: str) -> float:
    return float(getattr(problem.costs(candidate, device), cost))


def _solved(
    problem: Problem,
    table: ChoiceTable,
    start: Candidate,
    kinds: tuple[str, ...],
    cost: int,
    goal: float,
    price: Callable[[Candidate], float],
) -> Candidate:
    """Return ``start`` with the variables of ``kinds`` chosen anew: least loss at a price of at most ``goal``.

    Changes do not quite add up, so the programme's budget is not the price: it is halved in on the goal.
    """
    variables = problem.space.variables
    free = [place for place, variable in enumerate(variables) if variable.name.split(" ")[0] in kinds]
    floor = _changed(start, free, Candidate((0,) * len(free)))
    if not free:
        return start
    part = _part(table, free, price(start), cost)
    programme = IntegerProgramme(Space(tuple(variables[place] for place in free)), part)
    lowest = price(floor)
    goal = max(goal, lowest)
    best = floor

    def keeps(budget: float) -> bool:
        nonlocal best
        found = programme.solve(0, budget)
        if found is None or price(_changed(start, free, found)) > goal:
            return False
        best = _changed(start, free, found)
        return True

    if keeps(goal):
        return best
    kept, broken = lowest, goal
    keeps(kept)
    for _ in range(HALVINGS):
        middle = (kept + broken) / 2
        kept, broken = (middle, broken) if keeps(middle) else (kept, middle)
    return best


def _part(table: ChoiceTable, free: list[int], base_cost: float, cost: int) -> ChoiceTable:
    """Return the table of some variables and one cost, without its limit."""
    return replace(
        table,
        base=Candidate(tuple(table.base.indices[place] for place in free)),
        loss=tuple(table.loss[place] for place in free),
        costs=(tuple(table.costs[cost][place] for place in free),),
        base_costs=(base_cost,),
        limits=(math.inf,),
        objectives=1,
        eclipses=(),
    )


def _changed(start: Candidate, free: list[int], choices: Candidate) -> Candidate:
    indices = list(start.indices)
    for place, index in zip(free, choices.indices, strict=True):
        indices[place] = index
    return Candidate(tuple(indices))
