"""Gradient descent on the probabilities of all choices at once, at ever other weights of the cost."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.relaxed import FloatArray, RelaxedLoss, RelaxedPoint
from search.space import Candidate, Choice, Space
from search.strategies.base import STRATEGIES, Direction, Proposal, Score
from search.strategies.integer_programme import van_der_corput
from search.table import ChoiceTable

FIRST_STEPS = 16  # of a descent from the start
STEPS = 4  # of one from the end of another
RATE = 0.5
FIRST_DECAY, SECOND_DECAY = 0.9, 0.999  # Adam's
DAMPING = 0.2
"""Share of the largest slope that is added to each: where little is lost and saved most of the slope is noise."""
FIRST_LOGIT = 0.5  # of the dearest choice: near even, as theirs
LARGEST_LOGIT = 12.0
WEIGHTS = (0.02, 30.0)
"""Least and largest weight of the cost, in nats for all that the dearest candidate costs."""
LADDER = 8  # weights spread evenly before the gaps of the front say which is next
LEAST_SHARE = 1e-3  # of the cost, that is left by any choice
LEAST_GAP = 1e-3  # of the largest: where two neighbours have met there is hardly anything between them
DECIMALS = 3  # of logits that are kept with a trial


@dataclass(frozen=True, slots=True, kw_only=True)
class _Landed:
    """Where a descent has ended, and what came of its proposal.

    ``undisturbed`` says whether that was the most probable candidate, which nobody had tried.
    """

    weight: float
    objective: int
    logits: FloatArray
    value: float
    cost: float
    undisturbed: bool


@dataclass(slots=True)
class _Descent:
    """Adam on the logits of one proposal."""

    seed: int
    weight: float
    objective: int
    logits: FloatArray
    steps: int
    taken: int = 0
    slope: FloatArray = field(init=False)
    first: FloatArray = field(init=False)
    second: FloatArray = field(init=False)

    def __post_init__(self) -> None:
        self.slope = -self.logits
        self.first, self.second = np.zeros_like(self.logits), np.zeros_like(self.logits)

    def step(self, gradient: FloatArray) -> None:
        """Move the logits against the gradient.

        Source: Kingma and Ba 2015, "Adam: A Method for Stochastic Optimization", arXiv:1412.6980, algorithm 1.
        """
        self.taken += 1
        self.first = FIRST_DECAY * self.first + (1 - FIRST_DECAY) * gradient
        self.second = SECOND_DECAY * self.second + (1 - SECOND_DECAY) * gradient**2
        mean = self.first / (1 - FIRST_DECAY**self.taken)
        spread = np.sqrt(self.second / (1 - SECOND_DECAY**self.taken))
        moved = self.logits - RATE * mean / (spread + DAMPING * float(spread.max()) + 1e-12)
        self.logits = np.clip(moved, -LARGEST_LOGIT, LARGEST_LOGIT)


@STRATEGIES.register("differentiable")
class DifferentiableStrategy:
    """Gives every choice a probability, and descends on the relaxed network's loss plus the weighted expected cost.

    A proposal comes after a few steps at one weight of the cost: for numbers (bits, ratios) the choice nearest to what
    is expected, for others the most probable one. The first descent starts near even probabilities, later ones where
    that of the nearest weight has ended. Weights first spread over their range, then fall where two neighbours on the
    front leave the largest rectangle between them. Costs are taken to multiply, each choice by what it leaves of the
    dearest candidate's cost alone, so that an expected cost is never negative. A candidate that was tried already gives
    way to the second choice of the variable that promises to lose least by it. One cost after the other is the
    objective.

    Source: Cai and Vasconcelos 2020, "Rethinking Differentiable Search for Mixed-Precision Neural Networks",
    arXiv:2004.05795 (softmax over branches, complexity in the loss). Theirs learns the weights of the network at the
    same time and trains the network of the most probable branches anew; here the weights are those of the trained
    network, logits learn alone, by Adam, and one search serves all weights of the cost. A mean of a coarse
    and a fine grid errs less than its coarse part: without training anew, its expected width keeps its promise better.
    """

    def __init__(
        self, space: Space, directions: Sequence[Direction], trials: int | None, table: ChoiceTable | None
    ) -> None:
        if table is None:
            raise ValueError("differentiable needs a table of what single choices cost")
        table.check(space)
        self._sizes = [len(variable.choices) for variable in space.variables]
        self._values = [_numbers(variable.choices) for variable in space.variables]
        self._sign = 1.0 if directions[0] == "maximize" else -1.0
        self._offered = _rows([[1.0] * size for size in self._sizes], 0.0) > 0  # (variables, most choices)
        self._left = [_left(rows, base) for rows, base in zip(table.costs, table.base_costs, strict=True)]
        self._scales = [
            max(1e-12, base / max(1e-12, min(base, limit)))
            for base, limit in zip(table.base_costs, table.limits, strict=True)
        ]
        self._objectives = table.objectives
        self._start = np.zeros(self._offered.shape)
        if self._sizes:
            self._start[np.arange(len(self._sizes)), table.base.indices] = FIRST_LOGIT
        self._landed: list[_Landed] = []
        self._tried: set[tuple[int, ...]] = set()
        self._descent: _Descent | None = None

    def point(self, seed: int) -> RelaxedPoint | None:
        """Return where the next step needs the loss."""
        descent = self._descent_of(seed)
        if descent.taken >= descent.steps or not self._sizes:
            return None
        probabilities = self._probabilities(descent.logits)
        rows = tuple(tuple(row[:size].tolist()) for row, size in zip(probabilities, self._sizes, strict=True))
        return RelaxedPoint(probabilities=rows, batch=seed + descent.taken)

    def descend(self, found: RelaxedLoss) -> None:
        """Take a step."""
        descent = self._descent
        if descent is None:
            raise ValueError("no point was asked for")
        probabilities = self._probabilities(descent.logits)
        gradient = _rows(found.gradient, 0.0) + descent.weight * self._cost_slope(probabilities, descent.objective)
        descent.slope = gradient
        mean = (probabilities * gradient).sum(axis=1, keepdims=True)
        descent.step(np.where(self._offered, probabilities * (gradient - mean), 0.0))

    def propose(self, seed: int) -> Proposal:
        """Return the most probable candidate that was not tried."""
        descent = self._descent_of(seed)
        best = self._settled(descent.logits)
        tried = (candidate for candidate in _by_loss(best, descent.slope, self._sizes) if candidate not in self._tried)
        chosen = next(tried, best)
        state = {
            "weight": descent.weight,
            "objective": descent.objective,
            "undisturbed": chosen == best,
            "logits": [
                np.round(row[:size], DECIMALS).tolist() for row, size in zip(descent.logits, self._sizes, strict=True)
            ],
        }
        return Proposal(candidate=Candidate(chosen), state=state)

    def record(self, candidate: Candidate, score: Score, state: Mapping[str, Any] | None) -> None:
        """Remember where the descent to a candidate has ended, and what it was worth."""
        self._tried.add(candidate.indices)
        if state is None:
            return
        objective = int(state["objective"])
        self._landed.append(
            _Landed(
                weight=float(state["weight"]),
                objective=objective,
                undisturbed=bool(state["undisturbed"]),
                logits=_rows(state["logits"], 0.0),
                value=self._sign * score.values[0],
                cost=score.values[1 + objective] if len(score.values) > 1 + objective else 0.0,
            )
        )

    def _descent_of(self, seed: int) -> _Descent:
        if self._descent is None or self._descent.seed != seed:
            rng = np.random.default_rng(seed)
            objective = len(self._landed) % max(1, self._objectives)
            near = [landed for landed in self._landed if landed.objective == objective]
            weight = self._next_weight(near, rng)
            nearest = min(near, key=lambda landed: abs(math.log(landed.weight / weight)), default=None)
            self._descent = _Descent(
                seed=seed,
                weight=weight,
                objective=objective,
                logits=(self._start if nearest is None else nearest.logits).copy(),
                steps=FIRST_STEPS if nearest is None else STEPS,
            )
        return self._descent

    def _next_weight(self, landed: Sequence[_Landed], rng: np.random.Generator) -> float:
        """Return a weight of the cost: at first evenly on the logarithmic axis, then within a gap of the front."""
        least, most = (math.log(weight) for weight in WEIGHTS)
        if len(landed) < LADDER:
            share = van_der_corput(len(landed) + 1) + (rng.random() - 0.5) / (2 * LADDER)
            return math.exp(least + share * (most - least))
        ordered = sorted((row for row in landed if row.undisturbed), key=lambda row: row.weight)
        if len(ordered) < 2:
            return math.exp(least + rng.random() * (most - least))
        gaps = np.array(
            [
                abs(a.value - b.value) * abs(a.cost - b.cost) * math.log(b.weight / a.weight)
                for a, b in pairwise(ordered)
            ]
        )
        gaps += max(LEAST_GAP * float(gaps.max()), 1e-12)
        place = int(rng.choice(len(gaps), p=gaps / gaps.sum()))
        here, there = (math.log(row.weight) for row in ordered[place : place + 2])
        return math.exp(here + (0.25 + 0.5 * rng.random()) * (there - here))

    def _cost_slope(self, probabilities: FloatArray, objective: int) -> FloatArray:
        """Return the derivative of the expected cost, as a multiple of the dearest one or of its limit."""
        if objective >= len(self._left):
            return np.zeros_like(probabilities)
        left = self._left[objective]
        share = math.exp(float((probabilities * left).sum())) * self._scales[objective]
        return share * left

    def _probabilities(self, logits: FloatArray) -> FloatArray:
        if not self._sizes:
            return logits
        shifted = np.where(
            self._offered, logits - logits.max(axis=1, keepdims=True, where=self._offered, initial=-math.inf), -math.inf
        )
        grown = np.exp(shifted)
        found: FloatArray = grown / grown.sum(axis=1, keepdims=True)
        return found

    def _settled(self, logits: FloatArray) -> tuple[int, ...]:
        """Return the choice nearest to what is expected of numbers, and the most probable one of anything else."""
        chosen = []
        for row, values, size in zip(self._probabilities(logits), self._values, self._sizes, strict=True):
            probable = row[:size]
            best = np.argmax(probable) if values is None else np.argmin(abs(values - probable @ values))
            chosen.append(int(best))
        return tuple(chosen)


def _by_loss(best: tuple[int, ...], slope: FloatArray, sizes: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Yield the best candidate, then those with one other choice; first what the slope of the loss says costs least."""
    yield best
    others = [
        (float(slope[place, choice] - slope[place, best[place]]), place, choice)
        for place, size in enumerate(sizes)
        for choice in range(size)
        if choice != best[place]
    ]
    for _, place, choice in sorted(others):
        yield (*best[:place], choice, *best[place + 1 :])


def _numbers(choices: Sequence[Choice]) -> FloatArray | None:
    """Return the choices as an array if all of them are numbers."""
    if any(isinstance(choice, bool | str) for choice in choices):
        return None
    return np.array(choices, dtype=np.float64)


def _left(rows: Sequence[Sequence[float]], base: float) -> FloatArray:
    """Return the logarithm of what each choice leaves of the cost: ``(variables, most choices)``."""
    whole = max(abs(base), 1e-12)
    return _rows([[math.log(max(LEAST_SHARE, 1 + change / whole)) for change in row] for row in rows], 0.0)


def _rows(rows: Sequence[Sequence[float] | NDArray[np.float64]], fill: float) -> FloatArray:
    """Return rows of different length as one array, filled up."""
    found = np.full((len(rows), max(map(len, rows), default=0)), fill)
    for number, row in enumerate(rows):
        found[number, : len(row)] = row
    return found
