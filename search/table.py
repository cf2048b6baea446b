"""What single choices do, as far as it is known before a search: the tables that strategies may start from."""

import math
from dataclasses import dataclass

from search.space import Candidate, Space

ChoiceValues = tuple[tuple[float, ...], ...]
"""One row per variable of the space, one value per choice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Eclipse:
    """A choice that takes away others: with ``choice`` of variable ``place``, ``hidden`` variables do nothing."""

    place: int
    choice: int
    hidden: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceTable:
    """The change that each choice alone makes to ``base``, for one target.

    Changes are taken to add up, which overstates what choices in the same layer save together: a candidate that the
    table calls cheap has to be priced.

    Attributes:
        base: The candidate that changes are counted from.
        loss: What each choice loses; zero for those of ``base``.
        costs: What each choice adds, per cost: the study's cost objectives first, then others that have limits.
        base_costs: The costs of ``base``.
        limits: The upper bound of each cost, ``inf`` where there is none.
        objectives: How many of the costs are objectives.
        hopeless_loss: A summed loss from which on a candidate is not worth a trial.
        eclipses: Choices that take away others.
    """

    base: Candidate
    loss: ChoiceValues
    costs: tuple[ChoiceValues, ...]
    base_costs: tuple[float, ...]
    limits: tuple[float, ...]
    objectives: int
    hopeless_loss: float = math.inf
    eclipses: tuple[Eclipse, ...] = ()

    def summed_loss(self, candidate: Candidate) -> float:
        """Return what a candidate's choices lose, added up."""
        return sum(row[index] for row, index in zip(self.loss, candidate.indices, strict=True))

    def check(self, space: Space) -> None:
        """Raise ``ValueError`` unless there is a value for every choice of the space."""
        sizes = [len(variable.choices) for variable in space.variables]
        for rows in (self.loss, *self.costs):
            if [len(row) for row in rows] != sizes:
                raise ValueError("a table needs one value per choice of every variable")
