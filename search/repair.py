"""Bringing a candidate within its limits, by the cheaper choices that are predicted to lose least."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from search.space import Candidate, Space
from search.table import ChoiceTable

LEAST_SAVING = 1e-12


def repair(
    candidate: Candidate,
    *,
    space: Space,
    feasible: Callable[[Candidate], bool],
    floors: Sequence[Candidate],
    table: ChoiceTable,
    rng: np.random.Generator,
) -> Candidate | None:
    """Return ``candidate`` if it is feasible, else one on a path from it to a floor that only just is.

    The floor is the feasible one of least predicted loss. The path changes one variable by one choice at a time (an
    unordered variable jumps), first what loses least for what it saves of the limited costs by the table; what loses
    and saves equally much comes in random order. Bisecting the path takes the logarithm of its length in calls of
    ``feasible``; where feasibility does not grow along the path, what comes back is feasible still, but not the first
    such point. ``None`` if none of the floors is feasible.
    """
    if feasible(candidate):
        return candidate
    floor = next((floor for floor in sorted(floors, key=table.summed_loss) if feasible(floor)), None)
    if floor is None:
        return None
    path = _path(candidate, floor, space, table, rng)
    short, enough = 0, len(path)
    while enough - short > 1:
        middle = (short + enough) // 2
        if feasible(_walked(candidate, floor, path[:middle], space)):
            enough = middle
        else:
            short = middle
    return _walked(candidate, floor, path[:enough], space)


def _path(
    candidate: Candidate, floor: Candidate, space: Space, table: ChoiceTable, rng: np.random.Generator
) -> list[int]:
    """Name each variable once for every choice between the two candidates, in the order of the steps."""
    steps: list[tuple[float, float, int]] = []
    for place, (variable, here, there) in enumerate(
        zip(space.variables, candidate.indices, floor.indices, strict=True)
    ):
        direction = 1 if there > here else -1
        between = list(range(here, there + direction, direction)) if variable.ordered else [here, there]
        choices = [] if here == there else between
        price = -math.inf
        for before, after in pairwise(choices):
            # Steps of one variable can only be taken in turn: a later one never counts as the better bargain.
            price = max(price, _price(table, place, before, after))
            steps.append((price, float(rng.random()), place))
    return [place for _, _, place in sorted(steps)]


def _price(table: ChoiceTable, place: int, before: int, after: int) -> float:
    """Return what a step is predicted to lose per share of the limits that it saves."""
    loss = table.loss[place][after] - table.loss[place][before]
    saving = sum(
        max(0.0, cost[place][before] - cost[place][after]) / max(abs(limit), LEAST_SAVING)
        for cost, limit in zip(table.costs, table.limits, strict=True)
        if math.isfinite(limit)
    )
    return loss / max(saving, LEAST_SAVING)


def _walked(candidate: Candidate, floor: Candidate, steps: Sequence[int], space: Space) -> Candidate:
    indices = list(candidate.indices)
    for place in steps:
        there = floor.indices[place]
        ordered = space.variables[place].ordered
        indices[place] = indices[place] + (1 if there > indices[place] else -1) if ordered else there
    return Candidate(tuple(indices))
