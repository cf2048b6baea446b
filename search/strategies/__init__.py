"""Strategies: each proposes candidates its own way. Importing this package registers ours."""

from search.strategies import auto, differentiable, integer_programme, nsga2, policy_gradient, random, tpe
from search.strategies.base import STRATEGIES, Direction, Proposal, Score, Strategy

__all__ = [
    "STRATEGIES",
    "Direction",
    "Proposal",
    "Score",
    "Strategy",
    "auto",
    "differentiable",
    "integer_programme",
    "nsga2",
    "policy_gradient",
    "random",
    "tpe",
]
