"""What a strategy may ask beside trials: the loss of a relaxed candidate, which stands between choices."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from search.table import ChoiceValues

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class RelaxedPoint:
    """A relaxed candidate: for every variable of the space the probability of each choice.

    ``batch`` says on which images it is wanted: equal numbers mean the same ones.
    """

    probabilities: ChoiceValues
    batch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RelaxedLoss:
    """What a relaxed candidate loses, and the derivative by every probability, a row per variable.

    ``images`` is what that took, in images that the whole float network runs forward: a pass backward counts as two.
    """

    loss: float
    gradient: tuple[FloatArray, ...]
    images: float = 0.0


@runtime_checkable
class Descending(Protocol):
    """A strategy that wants relaxed losses before it proposes.

    Before ``propose(seed)`` it is asked for points with the same seed, and handed the loss at each, until it has none.
    It proposes without them, too: from where it stands.
    """

    def point(self, seed: int) -> RelaxedPoint | None:
        """Return where the loss is wanted next, ``None`` if enough is known for the proposal."""

    def descend(self, found: RelaxedLoss) -> None:
        """Take in the loss at the point that was returned last."""
