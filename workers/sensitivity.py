"""What single choices do to the network: a few are measured, the rest follow from known laws, prices are exact.

A choice's loss is the divergence of the outputs from the float network's on the calibration images, labels unseen,
when it is the only choice that differs from the dearest candidate.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from compress.plan import Plan
from search.laws import all_losses
from search.space import Candidate
from search.table import ChoiceTable, ChoiceValues, Eclipse
from workers.events import ChoiceEffect
from workers.problem import Problem
from workers.spec import COST_OBJECTIVES, DeviceTarget

NEEDS_TABLE = frozenset({"auto", "integer_programme"})
"""Strategies that start from what single choices do."""

HOPELESS_DIVERGENCE = 1.0
"""Nats, summed over choices, from which on a candidate is not worth a trial of the warm start.

The outputs of a network that guesses among ten classes are 2.3 nats from those of one that is sure and right. The
sum of what choices do alone rather understates what they do together.
"""


@dataclass(frozen=True, slots=True)
class Probe:
    """One choice, everything else at its dearest."""

    place: int
    choice: int


BASE = Probe(-1, 0)
"""No change: what the dearest candidate itself loses."""


def dearest(problem: Problem) -> Candidate:
    """Return the candidate that all changes are counted from."""
    return Candidate(tuple(len(variable.choices) - 1 for variable in problem.space.variables))


def probes(problem: Problem) -> list[Probe]:
    """Return the choices to measure: every operator, the cheapest of all others, and of weights the middle one too.

    In the order in which the network runs what they change: neighbours share most of the layers above.
    """
    found: list[Probe] = []
    for place, variable in enumerate(problem.space.variables):
        last = len(variable.choices) - 1
        kind = variable.name.split(" ")[0]
        if kind == "operator" or not variable.ordered:
            choices = list(range(last))
        elif kind == "weights" and last > 1:
            choices = sorted({0, last // 2})
        else:
            choices = [0]
        found += [Probe(place, choice) for choice in choices]
    return [BASE, *sorted(found, key=lambda probe: problem.positions[probe.place])]


def effect(problem: Problem, probe: Probe, divergence: float, loss: float) -> ChoiceEffect:
    """Return what was measured of a probe as a row that speaks for itself."""
    variable = None if probe == BASE else problem.space.variables[probe.place]
    return ChoiceEffect(
        variable="" if variable is None else variable.name,
        choice=None if variable is None else variable.choices[probe.choice],
        plan_digest=plan_of(problem, probe).digest(),
        divergence=divergence,
        loss=loss,
    )


def assumed_divergences(problem: Problem) -> dict[Probe, float]:
    """Return, where nothing is measured, that the cheapest choices lose equally much; the rest follows by the laws."""
    names = [variable.name for variable in problem.space.variables]
    kept = [probe for probe in probes(problem) if probe.choice == 0 or not names[probe.place].startswith("weights ")]
    return {probe: float(probe != BASE) for probe in kept}


def plan_of(problem: Problem, probe: Probe) -> Plan:
    """Return the plan in which only the probe's choice differs from the dearest."""
    start = dearest(problem)
    return problem.decode(start if probe == BASE else _changed(start, probe.place, probe.choice))


def choice_tables(problem: Problem, divergences: Mapping[Probe, float]) -> dict[str, ChoiceTable]:
    """Return the table of each device.

    Args:
        problem: Space and prices.
        divergences: What was measured of each probe, ``BASE`` among them.
    """
    base = divergences[BASE]  # no choice is to blame for it
    losses = tuple(
        all_losses(
            variable.name.split(" ")[0],
            variable.choices,
            {probe.choice: max(0.0, value - base) for probe, value in divergences.items() if probe.place == place},
            ordered=variable.ordered,
        )
        for place, variable in enumerate(problem.space.variables)
    )
    start = dearest(problem)
    eclipses = _eclipses(problem, start)
    return {device.name: _table(problem, device, start, losses, eclipses) for device in problem.spec.devices}


def _table(
    problem: Problem, device: DeviceTarget, start: Candidate, losses: ChoiceValues, eclipses: tuple[Eclipse, ...]
) -> ChoiceTable:
    objectives = problem.spec.objectives[1:]
    limits = {cost: getattr(device.limits, cost) for cost in COST_OBJECTIVES}
    costs = (*objectives, *(cost for cost, limit in limits.items() if limit is not None and cost not in objectives))
    return ChoiceTable(
        base=start,
        loss=losses,
        costs=tuple(_differences(problem, start, device.name, cost) for cost in costs),
        base_costs=tuple(float(getattr(problem.costs(start, device.name), cost)) for cost in costs),
        limits=tuple(math.inf if limits[cost] is None else float(limits[cost]) for cost in costs),
        objectives=len(objectives),
        hopeless_loss=HOPELESS_DIVERGENCE,
        eclipses=eclipses,
    )


def _differences(problem: Problem, start: Candidate, device: str, cost: str) -> tuple[tuple[float, ...], ...]:
    base = float(getattr(problem.costs(start, device), cost))
    return tuple(
        tuple(
            float(getattr(problem.costs(_changed(start, place, choice), device), cost)) - base
            for choice in range(len(variable.choices))
        )
        for place, variable in enumerate(problem.space.variables)
    )


def _eclipses(problem: Problem, start: Candidate) -> tuple[Eclipse, ...]:
    """Return for each operator choice the variables that do nothing under it: their layers or channels are gone."""
    names = {variable.name: place for place, variable in enumerate(problem.space.variables)}
    found = []
    for place, variable in enumerate(problem.space.variables):
        if not variable.name.startswith("operator "):
            continue
        for choice in range(len(variable.choices) - 1):
            changed = _changed(start, place, choice)
            plan = problem.decode(changed)
            hidden = [
                other
                for name, other in names.items()
                if other != place and problem.decode(_changed(changed, other, 0)) == plan
            ]
            if hidden:
                found.append(Eclipse(place=place, choice=choice, hidden=tuple(hidden)))
    return tuple(found)


def _changed(candidate: Candidate, place: int, choice: int) -> Candidate:
    return Candidate((*candidate.indices[:place], choice, *candidate.indices[place + 1 :]))
