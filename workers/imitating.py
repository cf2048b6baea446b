"""Training replacements of blocks on a job's evaluators before the search begins: who trains what, how far it is."""

import time
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.plan import OperatorChoice
from workers.events import Progress
from workers.problem import Problem

Work = tuple[str, OperatorChoice]
"""A block by name, and what shall stand in its place."""

TrainedTensors = Mapping[str, Mapping[str, NDArray[np.float32]]]
"""Tensors by name, by ``structure.full_key``."""


class Imitating:
    """Gives out replacements to be trained one by one, and collects what was found.

    Args:
        problem: Its space says which replacements the search may choose.
        steps: Of training each; 0 trains none.
    """

    def __init__(self, problem: Problem, *, steps: int) -> None:
        self.found: dict[str, Mapping[str, NDArray[np.float32]]] = {}
        self._waiting: deque[Work] = deque(problem.operator_choices() if steps else ())
        self._total = len(self._waiting)
        self._done = 0
        self._start = time.monotonic()

    @property
    def over(self) -> bool:
        """Whether all have come back."""
        return self._done == self._total

    def next(self) -> Work | None:
        """Return what the next free evaluator shall train."""
        return self._waiting.popleft() if self._waiting else None

    def again(self, work: Work) -> None:
        """Take back what a lost evaluator had."""
        self._waiting.appendleft(work)

    def finished(self, trained: TrainedTensors) -> Progress:
        """Take what came back; return how far it is."""
        self.found.update({key: tensors for key, tensors in trained.items() if tensors})
        self._done += 1
        pace = (time.monotonic() - self._start) / self._done
        return Progress(
            done=self._done, total=self._total, seconds_left=pace * (self._total - self._done), unit="replacements"
        )


def to_call(work: Work) -> dict[str, Any]:
    """Return a replacement as plain arguments of ``Evaluator.imitate``."""
    block, choice = work
    return {"block": block, "operator": choice.operator, "parameters": dict(choice.parameters)}
