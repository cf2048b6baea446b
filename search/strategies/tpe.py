"""Multivariate TPE, by Optuna, made repeatable."""

from collections.abc import Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from search.space import Candidate, Space
from search.strategies.base import STRATEGIES, Direction, Proposal, Score
from search.strategies.optuna_study import OptunaStudy
from search.table import ChoiceTable


class _FixedSpaceSampler(TPESampler):
    """Optuna's sampler with the space given, instead of found anew among all trials at every ask."""

    def __init__(self, space: dict[str, BaseDistribution], *, seed: int) -> None:
        super().__init__(multivariate=True, seed=seed)
        self._fixed_space = space

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the given space."""
        return self._fixed_space


@STRATEGIES.register("tpe")
class TpeStrategy:
    """Draws where good candidates are dense against bad ones, all variables together; random for the first ten.

    Good are the non-dominated ones and those that add most to the hypervolume; limits enter as constraints.

    Source: Bergstra et al. 2011, "Algorithms for Hyper-Parameter Optimization"; multi-objective as in Ozaki et al.
    2022, "Multiobjective Tree-Structured Parzen Estimator".
    """

    def __init__(
        self, space: Space, directions: Sequence[Direction], trials: int | None, table: ChoiceTable | None
    ) -> None:
        self._study = OptunaStudy(space, directions)

    def propose(self, seed: int) -> Proposal:
        """Return the candidate of the best ratio of densities among a few drawn."""
        candidate, _ = self._study.ask(_FixedSpaceSampler(self._study.distributions, seed=seed))
        return Proposal(candidate=candidate)

    def record(self, candidate: Candidate, score: Score, state: Mapping[str, Any] | None) -> None:
        """Add the candidate to what densities are estimated from."""
        self._study.add(candidate, score)
