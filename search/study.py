"""A study: asks a strategy for candidates, never for the same one twice, and tells it what became of them.

Nothing here is ever saved. A study is rebuilt by telling it the finished candidates again, with the ``sampler`` data
that ``ask`` gave out beside each, and the randomness of ask n comes from (seed, n) alone: so a search that was cut off
goes on as if it had not been.
"""

import itertools
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from search.relaxed import Descending, RelaxedLoss, RelaxedPoint
from search.space import Candidate, Space
from search.strategies import STRATEGIES, Direction, Score
from search.table import ChoiceTable

MUTATION_ATTEMPTS = 64  # at another candidate, before a proposal that is known already is given up
ATTEMPTS_PER_MUTATED_VARIABLE = 8
LARGEST_ENUMERATED_SPACE = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A candidate to evaluate; ``sampler`` is plain JSON data to be kept with it and told again."""

    candidate: Candidate
    target: str
    sampler: Mapping[str, Any] = field(default_factory=dict)


class Study:
    """The search over one space for one or several targets, which take turns.

    Every target has a strategy of its own and is told every candidate; ask n serves target ``n mod len(targets)``.

    Args:
        space: What can be chosen.
        strategy: A name in ``STRATEGIES``.
        directions: Which way each objective is better.
        targets: Names of the sets of objectives that are optimised side by side.
        seed: Zero or more.
        trials: How many candidates there will be, if that is known.
        tables: What single choices do, by target, for strategies that start from that.
        key: Candidates with equal keys are the same; by default each is its own.
    """

    def __init__(
        self,
        space: Space,
        *,
        strategy: str,
        directions: Sequence[Direction],
        targets: Sequence[str],
        seed: int,
        trials: int | None = None,
        tables: Mapping[str, ChoiceTable] | None = None,
        key: Callable[[Candidate], Hashable] = lambda candidate: candidate,
    ) -> None:
        if not targets:
            raise ValueError("a study needs at least one target")
        if seed < 0:
            raise ValueError(f"seed must be zero or more, got {seed}")
        self._space = space
        self._strategies = {
            name: STRATEGIES.create(strategy, space, directions, trials, (tables or {}).get(name)) for name in targets
        }
        self._targets = tuple(targets)
        self._seed = seed
        self._key = key
        self._known: set[Hashable] = set()

    def ask(
        self, number: int, *, adjust: Callable[[Candidate, str], Candidate | None] = lambda candidate, target: candidate
    ) -> Asked | None:
        """Return a candidate that was never asked or told before, or ``None`` if none could be found.

        Args:
            number: The trial's number; the same number and history give the same candidate.
            adjust: Changes a candidate for a target before it is compared with the known ones (repair), or rejects it
                with ``None``.
        """
        seeds = self._seeds(number)
        target = self._target(number)
        proposal = self._strategies[target].propose(int(seeds.generate_state(1)[0]))
        rng = np.random.default_rng(seeds.spawn(1)[0])
        for candidate in itertools.chain([proposal.candidate], self._others(proposal.candidate, rng)):
            adjusted = adjust(candidate, target)
            if adjusted is not None and self._key(adjusted) not in self._known:
                self.know(adjusted)
                return Asked(candidate=adjusted, target=target, sampler={"target": target, "state": proposal.state})
        return None

    def point(self, number: int) -> RelaxedPoint | None:
        """Return where the strategy wants a relaxed loss before trial ``number`` is asked; most never do."""
        strategy = self._strategies[self._target(number)]
        if not isinstance(strategy, Descending):
            return None
        return strategy.point(int(self._seeds(number).generate_state(1)[0]))

    def descend(self, number: int, found: RelaxedLoss) -> None:
        """Hand over the loss at the point that ``point`` returned last for this trial."""
        strategy = self._strategies[self._target(number)]
        if isinstance(strategy, Descending):
            strategy.descend(found)

    def know(self, candidate: Candidate) -> None:
        """Never ask for this candidate (again): it is in flight, or ended without a score."""
        self._known.add(self._key(candidate))

    def tell(self, candidate: Candidate, scores: Mapping[str, Score], sampler: Mapping[str, Any] | None = None) -> None:
        """Take in a finished candidate, with its score for every target.

        ``sampler`` is what ``ask`` gave out with it; ``None`` for a candidate that was not asked for (a baseline).
        """
        self.know(candidate)
        for target, strategy in self._strategies.items():
            own = sampler is not None and sampler["target"] == target
            strategy.record(candidate, scores[target], sampler["state"] if sampler is not None and own else None)

    def _target(self, number: int) -> str:
        return self._targets[number % len(self._targets)]

    def _seeds(self, number: int) -> np.random.SeedSequence:
        return np.random.SeedSequence([self._seed, number])

    def _others(self, candidate: Candidate, rng: np.random.Generator) -> "itertools.chain[Candidate]":
        """Ever wilder mutations of a candidate, then, in a small space, everything."""
        mutations = (
            self._mutated(candidate, rng, count=1 + attempt // ATTEMPTS_PER_MUTATED_VARIABLE)
            for attempt in range(MUTATION_ATTEMPTS)
        )
        return itertools.chain(mutations, self._everything() if self._space.size <= LARGEST_ENUMERATED_SPACE else ())

    def _mutated(self, candidate: Candidate, rng: np.random.Generator, *, count: int) -> Candidate:
        sizes = [len(variable.choices) for variable in self._space.variables]
        free = [index for index, size in enumerate(sizes) if size > 1]
        indices = list(candidate.indices)
        for place in rng.permutation(free)[:count]:
            # One of the other choices: a shift by 1 to size - 1.
            indices[place] = (indices[place] + int(rng.integers(1, sizes[place]))) % sizes[place]
        return Candidate(tuple(indices))

    def _everything(self) -> "itertools.starmap[Candidate]":
        choices = itertools.product(*(range(len(variable.choices)) for variable in self._space.variables))
        return itertools.starmap(lambda *indices: Candidate(indices), choices)
