"""Uniformly random candidates: the floor that every other strategy must clear."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from search.space import Candidate, Space
from search.strategies.base import STRATEGIES, Direction, Proposal, Score
from search.table import ChoiceTable


@STRATEGIES.register("random")
class RandomStrategy:
    """Draws every variable's choice uniformly and independently of what was found so far."""

    def __init__(
        self, space: Space, directions: Sequence[Direction], trials: int | None, table: ChoiceTable | None
    ) -> None:
        self._sizes = [len(variable.choices) for variable in space.variables]

    def propose(self, seed: int) -> Proposal:
        """Return a random candidate."""
        rng = np.random.default_rng(seed)
        return Proposal(candidate=Candidate(tuple(int(rng.integers(size)) for size in self._sizes)))

    def record(self, candidate: Candidate, score: Score, state: Mapping[str, Any] | None) -> None:
        """Learn nothing."""
