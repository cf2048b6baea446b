"""NSGA-II, by Optuna, made repeatable: a proposal depends on the finished candidates and on its own seed alone."""

from collections.abc import Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import NSGAIISampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from search.space import Candidate, Space
from search.strategies.base import STRATEGIES, Direction, Proposal, Score
from search.strategies.optuna_study import OptunaStudy
from search.table import ChoiceTable

LEAST_POPULATION = 8
LARGEST_POPULATION = 50
GENERATIONS = 10  # that a budget of trials should at least be good for


class _FixedSpaceSampler(NSGAIISampler):
    """Optuna's sampler with the space given, instead of found anew among all trials at every ask."""

    def __init__(self, space: dict[str, BaseDistribution], *, population_size: int, seed: int) -> None:
        super().__init__(population_size=population_size, seed=seed)
        self._fixed_space = space

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the given space."""
        return self._fixed_space

    def select_parent(self, study: Study, generation: int) -> list[FrozenTrial]:
        """Return the parents by number: Optuna has them in another order at first than when it finds them again."""
        return sorted(super().select_parent(study, generation), key=lambda trial: trial.number)


GENERATION_KEY = _FixedSpaceSampler._get_generation_key()


@STRATEGIES.register("nsga2")
class Nsga2Strategy:
    """Evolves a population by crossover and mutation; limits enter by constrained dominance.

    The generation that the sampler gave a candidate comes back with its score, so that a study rebuilt from records
    goes on as the one that was lost.

    Source: Deb et al. 2002, "A fast and elitist multiobjective genetic algorithm: NSGA-II".
    """

    def __init__(
        self, space: Space, directions: Sequence[Direction], trials: int | None, table: ChoiceTable | None
    ) -> None:
        self._study = OptunaStudy(space, directions)
        share = LARGEST_POPULATION if trials is None else trials // GENERATIONS
        self._population_size = min(LARGEST_POPULATION, max(LEAST_POPULATION, share))
        self._generation = 0
        self._members = 0  # of the newest generation

    def propose(self, seed: int) -> Proposal:
        """Return a child of the current parents, or a random candidate while the first generation fills."""
        sampler = _FixedSpaceSampler(self._study.distributions, population_size=self._population_size, seed=seed)
        candidate, closed = self._study.ask(sampler)
        return Proposal(candidate=candidate, state={"generation": closed.system_attrs[GENERATION_KEY]})

    def record(self, candidate: Candidate, score: Score, state: Mapping[str, Any] | None) -> None:
        """Add the candidate to its generation; one from elsewhere joins the generation that is being filled."""
        generation = self._open_generation() if state is None else int(state["generation"])
        self._study.add(candidate, score, system_attrs={GENERATION_KEY: generation})
        if generation > self._generation:
            self._generation, self._members = generation, 1
        elif generation == self._generation:
            self._members += 1

    def _open_generation(self) -> int:
        return self._generation + (self._members >= self._population_size)
