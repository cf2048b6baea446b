"""Ours: what is known of single choices gives the first candidates, evolution goes on from there."""

from collections.abc import Mapping, Sequence
from typing import Any

from search.space import Candidate, Space
from search.strategies.base import STRATEGIES, Direction, Proposal, Score
from search.strategies.integer_programme import IntegerProgrammeStrategy
from search.strategies.nsga2 import Nsga2Strategy
from search.table import ChoiceTable

LEAST_LADDER = 6
LONGEST_LADDER = 24
LADDER_SHARE = 6  # of the trials, one in so many


@STRATEGIES.register("auto")
class AutoStrategy:
    """Climbs the integer programme's budgets first; NSGA-II takes these candidates as its first generation."""

    def __init__(
        self, space: Space, directions: Sequence[Direction], trials: int | None, table: ChoiceTable | None
    ) -> None:
        share = LONGEST_LADDER if trials is None else trials // LADDER_SHARE
        self._ladder = min(LONGEST_LADDER, max(LEAST_LADDER, share)) if table is not None else 0
        self._climbed = 0
        self._programme = None if table is None else IntegerProgrammeStrategy(space, directions, trials, table)
        self._evolution = Nsga2Strategy(space, directions, trials, table)

    def propose(self, seed: int) -> Proposal:
        """Return the solution at the next budget, or a child once the ladder is climbed."""
        if self._programme is None or self._climbed >= self._ladder:
            return self._evolution.propose(seed)
        self._climbed += 1
        return self._programme.propose(seed)

    def record(self, candidate: Candidate, score: Score, state: Mapping[str, Any] | None) -> None:
        """Add the candidate to the evolution, wherever it came from."""
        from_ladder = state is not None and "rung" in state
        if from_ladder and self._programme is not None and state is not None:
            self._programme.record(candidate, score, state)
            self._climbed = max(self._climbed, int(state["rung"]) + 1)
        self._evolution.record(candidate, score, None if from_ladder else state)
