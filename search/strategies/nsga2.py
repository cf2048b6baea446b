"""NSGA-II, by Optuna, made repeatable: a proposal depends on the finished candidates and on its own seed alone."""

from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.samplers import NSGAIISampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.space import Candidate, Space
from search.strategies.base import STRATEGIES, Direction, Proposal, Score
from search.table import ChoiceTable

optuna.logging.set_verbosity(optuna.logging.WARNING)  # it reports each study on stderr otherwise

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

    Each ask gets a sampler of its own, seeded for it, and the generation that the sampler gave the candidate comes
    back with its score, so that a study rebuilt from records goes on as the one that was lost. What an ask leaves in
    Optuna's study is closed at once: what is told may differ from what was asked (repaired, or not a duplicate).

    Source: Deb et al. 2002, "A fast and elitist multiobjective genetic algorithm: NSGA-II".
    """

    def __init__(
        self, space: Space, directions: Sequence[Direction], trials: int | None, table: ChoiceTable | None
    ) -> None:
        self._space = space
        self._study = optuna.create_study(
            storage=optuna.storages.InMemoryStorage(), study_name="search", directions=list(directions)
        )
        self._distributions: dict[str, BaseDistribution] = {
            variable.name: IntDistribution(0, len(variable.choices) - 1)
            for variable in space.variables
            if len(variable.choices) > 1
        }
        share = LARGEST_POPULATION if trials is None else trials // GENERATIONS
        self._population_size = min(LARGEST_POPULATION, max(LEAST_POPULATION, share))
        self._generation = 0
        self._members = 0  # of the newest generation

    def propose(self, seed: int) -> Proposal:
        """Return a child of the current parents, or a random candidate while the first generation fills."""
        self._study.sampler = _FixedSpaceSampler(self._distributions, population_size=self._population_size, seed=seed)
        trial = self._study.ask(fixed_distributions=self._distributions)
        closed = self._study.tell(trial, state=TrialState.FAIL)
        indices = tuple(int(closed.params.get(variable.name, 0)) for variable in self._space.variables)
        return Proposal(candidate=Candidate(indices), state={"generation": closed.system_attrs[GENERATION_KEY]})

    def record(self, candidate: Candidate, score: Score, state: Mapping[str, Any] | None) -> None:
        """Add the candidate to its generation; one from elsewhere joins the generation that is being filled."""
        generation = self._open_generation() if state is None else int(state["generation"])
        chosen = {
            variable.name: index for variable, index in zip(self._space.variables, candidate.indices, strict=True)
        }
        self._study.add_trial(
            create_trial(
                params={name: chosen[name] for name in self._distributions},
                distributions=self._distributions,
                values=list(score.values),
                system_attrs={GENERATION_KEY: generation},
                constraints=dict(score.violations),
            )
        )
        if generation > self._generation:
            self._generation, self._members = generation, 1
        elif generation == self._generation:
            self._members += 1

    def _open_generation(self) -> int:
        return self._generation + (self._members >= self._population_size)
