"""An Optuna study behind a strategy: repeatable, and told of candidates that it has never asked for."""

from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.space import Candidate, Space
from search.strategies.base import Direction, Score

optuna.logging.set_verbosity(optuna.logging.WARNING)  # it reports each study on stderr otherwise


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """Return Optuna's view of the variables that have a choice: positions among their choices."""
    return {
        variable.name: IntDistribution(0, len(variable.choices) - 1)
        for variable in space.variables
        if len(variable.choices) > 1
    }


class OptunaStudy:
    """Asks any sampler, and takes in finished candidates wherever they come from.

    Each ask gets a sampler of its own, seeded for it, so that a study rebuilt from records goes on as the one that was
    lost. What an ask leaves in Optuna's study is closed at once: what is told may differ from what was asked
    (repaired, or not a duplicate).
    """

    def __init__(self, space: Space, directions: Sequence[Direction]) -> None:
        self._space = space
        self.distributions = distributions(space)
        self._study = optuna.create_study(
            storage=optuna.storages.InMemoryStorage(), study_name="search", directions=list(directions)
        )

    def ask(self, sampler: BaseSampler) -> tuple[Candidate, FrozenTrial]:
        """Return what the sampler proposes, and Optuna's closed trial of it."""
        self._study.sampler = sampler
        trial = self._study.ask(fixed_distributions=self.distributions)
        closed = self._study.tell(trial, state=TrialState.FAIL)
        indices = tuple(int(closed.params.get(variable.name, 0)) for variable in self._space.variables)
        return Candidate(indices), closed

    def add(self, candidate: Candidate, score: Score, *, system_attrs: Mapping[str, Any] | None = None) -> None:
        """Add a finished candidate; limits enter as constraints."""
        self._study.add_trial(finished(self._space, candidate, score, system_attrs=system_attrs))


def finished(
    space: Space, candidate: Candidate, score: Score, *, system_attrs: Mapping[str, Any] | None = None
) -> FrozenTrial:
    """Return Optuna's trial of a candidate that was measured."""
    known = distributions(space)
    chosen = {variable.name: index for variable, index in zip(space.variables, candidate.indices, strict=True)}
    return create_trial(
        params={name: chosen[name] for name in known},
        distributions=known,
        values=[float(value) for value in score.values],  # TPE computes in place, in their type
        system_attrs=dict(system_attrs or {}),
        constraints=dict(score.violations),
    )
