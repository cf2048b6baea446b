"""Bringing a candidate within its limits, by cheaper choices until they hold."""

from collections.abc import Callable

import numpy as np

from search.space import Candidate, Space


def repair(
    candidate: Candidate,
    *,
    space: Space,
    feasible: Callable[[Candidate], bool],
    floor: Candidate,
    rng: np.random.Generator,
) -> Candidate | None:
    """Return ``candidate`` if it is feasible, else one on a path from it to ``floor`` that only just is.

    The path changes one variable by one choice at a time, in random order (an unordered variable jumps). Bisecting it
    takes the logarithm of its length in calls of ``feasible``; where feasibility does not grow along the path,
    what comes back is feasible still, but not the first such point. ``None`` if not even ``floor`` is feasible.
    """
    if feasible(candidate):
        return candidate
    if not feasible(floor):
        return None
    path = rng.permutation(_steps(candidate, floor, space))
    short, enough = 0, len(path)
    while enough - short > 1:
        middle = (short + enough) // 2
        if feasible(_walked(candidate, floor, path[:middle], space)):
            enough = middle
        else:
            short = middle
    return _walked(candidate, floor, path[:enough], space)


def _steps(candidate: Candidate, floor: Candidate, space: Space) -> list[int]:
    """Name each variable once for every choice between the two candidates."""
    return [
        place
        for place, (variable, here, there) in enumerate(
            zip(space.variables, candidate.indices, floor.indices, strict=True)
        )
        for _ in range(abs(here - there) if variable.ordered else int(here != there))
    ]


def _walked(
    candidate: Candidate, floor: Candidate, steps: "np.ndarray[tuple[int], np.dtype[np.int64]]", space: Space
) -> Candidate:
    indices = list(candidate.indices)
    for place in steps:
        there = floor.indices[place]
        ordered = space.variables[place].ordered
        indices[place] = indices[place] + (1 if there > indices[place] else -1) if ordered else there
    return Candidate(tuple(indices))
