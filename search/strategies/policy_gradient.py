"""An agent that walks the variables and picks each choice, taught by what its walks were worth."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.space import Candidate, Space
from search.strategies.base import STRATEGIES, Direction, Proposal, Score
from search.strategies.integer_programme import van_der_corput
from search.table import ChoiceTable

FIRST_SPREAD = 0.5
SPREAD_DECAY = 0.99  # per walk
LEAST_SPREAD = 0.08
WARM_UP = 20  # walks of uniformly random actions
RATE = 0.3
BASELINE_SHARE = 0.1  # of the newest reward in the running mean and variance
LARGEST_ADVANTAGE = 3.0  # in standard deviations

FloatArray = NDArray[np.float64]


def choice_of(action: float, choices: int) -> int:
    """Return the choice that an action in 0..1 means: equal intervals for all."""
    return min(choices - 1, int(action * choices))


def action_of(choice: int, choices: int) -> float:
    """Return the middle of a choice's interval."""
    return (choice + 0.5) / choices


def clamped(candidate: Candidate, table: ChoiceTable, objective: int, budget: float) -> Candidate:
    """Return the candidate within a budget of one cost, as the table adds it up, if that can be.

    From the last variable to the first, each goes one choice down if that saves, and again from the last, until the
    budget holds. A candidate that is within it stays as it is.

    Source: Wang et al. 2019, "HAQ", arXiv:1811.08886, section 3.3 (sequential decrease), without its fixed layers.
    """
    rows, indices = table.costs[objective], list(candidate.indices)
    cost = table.base_costs[objective] + sum(row[index] for row, index in zip(rows, indices, strict=True))
    lowered = True
    while cost > budget and lowered:
        lowered = False
        for place in reversed(range(len(indices))):
            here = indices[place]
            if here > 0 and rows[place][here - 1] < rows[place][here]:
                indices[place] -= 1
                cost += rows[place][here - 1] - rows[place][here]
                lowered = True
                if cost <= budget:
                    break
    return Candidate(tuple(indices))


@STRATEGIES.register("policy_gradient")
class PolicyGradientStrategy:
    """Learns where on 0..1, from the first choice to the last, each variable's action should lie.

    An action is drawn from a normal distribution around a sigmoid of the state, cut off at 0 and 1. The state is the
    variable (its own weight, its kind, its place, its share of the cost), the action before, and the walk's budget.
    Budgets run along the cost axes, and the walk is clamped to its budget afterwards, so that the reward is the first
    objective alone. All steps of a walk get its reward (REINFORCE with a running mean as baseline).

    Source: Wang et al. 2019, "HAQ: Hardware-Aware Automated Quantization with Mixed Precision", arXiv:1811.08886:
    states, action intervals, clamping and exploration schedule; its DDPG with two networks of 300 × 300 is replaced by
    the policy gradient of Williams 1992 on a linear policy, which a few hundred walks can teach.
    """

    def __init__(
        self, space: Space, directions: Sequence[Direction], trials: int | None, table: ChoiceTable | None
    ) -> None:
        self._space = space
        self._sizes = [len(variable.choices) for variable in space.variables]
        self._table = table
        self._sign = 1.0 if directions[0] == "maximize" else -1.0
        self._fixed = _features(space, table)
        self._own = np.zeros(len(space.variables))
        self._shared = np.zeros(self._fixed.shape[1] + 2)  # the action before and the budget, too
        self._walks = 0
        self._mean, self._square = 0.0, 0.0

    def propose(self, seed: int) -> Proposal:
        """Return where a walk with the next budget leads."""
        rng = np.random.default_rng(seed)
        objective, share = self._next_budget()
        spread = max(LEAST_SPREAD, FIRST_SPREAD * SPREAD_DECAY ** max(0, self._walks - WARM_UP))
        action, indices = 1.0, []
        for place, size in enumerate(self._sizes):
            if self._walks < WARM_UP:
                action = float(rng.random())
            else:
                action = _truncated_normal(rng, self._aim(place, action, share), spread)
            indices.append(choice_of(action, size))
        candidate = Candidate(tuple(indices))
        if self._table is not None:
            candidate = clamped(candidate, self._table, objective, self._budget(objective, share))
        return Proposal(candidate=candidate, state={"walk": self._walks, "share": share})

    def record(self, candidate: Candidate, score: Score, state: Mapping[str, Any] | None) -> None:
        """Move the policy towards a walk that was better than usual, and away from one that was worse."""
        if state is None:
            return
        reward = self._sign * score.values[0] - sum(max(0.0, value) for value in score.violations.values())
        self._walks = max(self._walks, int(state["walk"]) + 1)
        if int(state["walk"]) == 0:
            self._mean, self._square = reward, 0.0
        deviation = reward - self._mean
        self._mean += BASELINE_SHARE * deviation
        self._square += BASELINE_SHARE * (deviation**2 - self._square)
        advantage = deviation / math.sqrt(self._square) if self._square > 0 else 0.0
        self._learn(candidate, float(np.clip(advantage, -LARGEST_ADVANTAGE, LARGEST_ADVANTAGE)), float(state["share"]))

    def _learn(self, candidate: Candidate, advantage: float, share: float) -> None:
        own, shared = np.zeros_like(self._own), np.zeros_like(self._shared)
        before = 1.0
        for place, (choice, size) in enumerate(zip(candidate.indices, self._sizes, strict=True)):
            action, aim = action_of(choice, size), self._aim(place, before, share)
            slope = (action - aim) * aim * (1 - aim) / FIRST_SPREAD**2
            own[place] = slope
            shared += slope * self._state(place, before, share) / len(self._sizes)
            before = action
        self._own += RATE * advantage * own
        self._shared += RATE * advantage * shared

    def _aim(self, place: int, before: float, share: float) -> float:
        logit = self._own[place] + float(self._shared @ self._state(place, before, share))
        return 1.0 / (1.0 + math.exp(-min(30.0, max(-30.0, logit))))

    def _state(self, place: int, before: float, share: float) -> FloatArray:
        return np.append(self._fixed[place], (before, share))

    def _next_budget(self) -> tuple[int, float]:
        objectives = 1 if self._table is None else max(1, self._table.objectives)
        number, objective = divmod(self._walks, objectives)
        return objective, van_der_corput(number + 1)

    def _budget(self, objective: int, share: float) -> float:
        assert self._table is not None
        table = self._table
        lowest = table.base_costs[objective] + sum(min(row) for row in table.costs[objective])
        largest = min(table.limits[objective], table.base_costs[objective])
        return lowest + share * max(0.0, largest - lowest)


def _features(space: Space, table: ChoiceTable | None) -> FloatArray:
    """Return what is known of each variable beforehand: one, its kind, its place and what it costs; (variables, n)."""
    kinds = list(dict.fromkeys(variable.name.split(" ")[0] for variable in space.variables))
    rows = []
    for place, variable in enumerate(space.variables):
        kind = [float(variable.name.split(" ")[0] == name) for name in kinds]
        spans = [] if table is None else [max(rows[place]) - min(rows[place]) for rows in table.costs]
        bases = [] if table is None else [max(abs(base), 1e-12) for base in table.base_costs]
        cost = sum(span / base for span, base in zip(spans, bases, strict=True))
        rows.append([1.0, *kind, place / max(1, len(space.variables) - 1), cost])
    return np.array(rows).reshape(len(space.variables), -1)


def _truncated_normal(rng: np.random.Generator, mean: float, spread: float) -> float:
    """Draw from a normal distribution restricted to 0..1, by rejection; the mean lies within."""
    while True:
        value = float(rng.normal(mean, spread))
        if 0.0 <= value <= 1.0:
            return value
