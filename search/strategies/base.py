"""What a strategy is, and the registry of those that can be selected by name."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any, Literal, Protocol

from search.space import Candidate, Space
from search.table import ChoiceTable

ENTRY_POINT_GROUP = "tightfit.strategies"

Direction = Literal["maximize", "minimize"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What a finished candidate is worth for one target.

    ``values`` are in the order of the study's directions. ``violations`` say by how much each limit is broken, by the
    limit's name; zero or less is within the limit, and every score of a study names the same limits.
    """

    values: tuple[float, ...]
    violations: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A candidate to try, and what the strategy must get back with its score; ``state`` is plain JSON data."""

    candidate: Candidate
    state: Mapping[str, Any] = field(default_factory=dict)


class Strategy(Protocol):
    """Proposes candidates for one target, from the space and the scores of finished ones.

    The whole randomness of a proposal comes from its ``seed``, and everything else from the records in their order:
    two strategies with the same records make the same proposal for the same seed.
    """

    def propose(self, seed: int) -> Proposal:
        """Return a candidate to try next."""

    def record(self, candidate: Candidate, score: Score, state: Mapping[str, Any] | None) -> None:
        """Take in a finished candidate; ``state`` is ``None`` for one that this strategy did not propose."""


StrategyFactory = Callable[[Space, Sequence[Direction], int | None, ChoiceTable | None], Strategy]
"""Makes a strategy from the space, the directions of the objectives, the number of trials (``None``: open) and, if it
is known, what single choices do."""


class StrategyRegistry:
    """Strategies by name: ours, and those that installed packages offer as entry points."""

    def __init__(self) -> None:
        self._factories: dict[str, StrategyFactory] = {}
        self._searched_entry_points = False

    def register(self, name: str) -> Callable[[StrategyFactory], StrategyFactory]:
        """Return a decorator that makes a strategy selectable as ``name``; a repeated name is an error."""

        def add(factory: StrategyFactory) -> StrategyFactory:
            if name in self._factories:
                raise ValueError(f"strategy {name!r} is registered twice")
            self._factories[name] = factory
            return factory

        return add

    def names(self) -> tuple[str, ...]:
        """Return all names, sorted."""
        self._load_entry_points()
        return tuple(sorted(self._factories))

    def create(
        self,
        name: str,
        space: Space,
        directions: Sequence[Direction],
        trials: int | None,
        table: ChoiceTable | None = None,
    ) -> Strategy:
        """Make the strategy called ``name``."""
        self._load_entry_points()
        if name not in self._factories:
            raise ValueError(f"unknown strategy {name!r}; known: {', '.join(self.names())}")
        return self._factories[name](space, directions, trials, table)

    def _load_entry_points(self) -> None:
        if not self._searched_entry_points:
            self._searched_entry_points = True
            for entry in entry_points(group=ENTRY_POINT_GROUP):
                self.register(entry.name)(entry.load())


STRATEGIES = StrategyRegistry()
