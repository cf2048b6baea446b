"""The fronts of a search while it runs: who is on them, who could beat a candidate, and how far they have come."""

import base64
from collections.abc import Mapping

from search.pareto import FrontArchive
from workers.events import DeviceCosts, Evaluation, Trial, TrialStatus
from workers.spec import JobSpec

REFERENCE_MARGIN = 1.1  # the reference lies a tenth beyond the dearest that can be reached


class LiveFronts:
    """The feasible, fully measured trials of each device that no other one beats in the job's objectives."""

    def __init__(self, spec: JobSpec) -> None:
        self._costs = spec.objectives[1:]
        self._fronts: dict[str, FrontArchive[int]] = {
            device.name: FrontArchive(len(spec.objectives)) for device in spec.devices
        }
        self._trials: dict[int, tuple[float, str]] = {}  # accuracy, and what was right of the images

    def add(self, trial: Trial) -> bool:
        """Take in a trial that ended; say whether it has joined a front."""
        found = trial.evaluation
        if trial.status is not TrialStatus.DONE or found is None or found.accuracy is None:
            return False
        joined = [
            self._fronts[name].add(trial.number, (*self._point(costs), -found.accuracy))
            for name, costs in found.costs.items()
            if name in self._fronts and costs.feasible
        ]
        if any(joined) and found.right is not None:
            self._trials[trial.number] = (found.accuracy, found.right)
        return any(joined)

    def rivals(self, evaluation: Evaluation) -> list[bytes]:
        """Return what the rivals of a priced candidate got right, one per device that can take it.

        A rival is the most accurate trial of the front that costs no more. Nothing comes back if a device has none:
        the candidate joins that front whatever its accuracy.
        """
        found: dict[int, bytes] = {}
        for name, costs in evaluation.costs.items():
            if not costs.feasible:
                continue
            front, point = self._fronts[name], self._point(costs)
            cheaper = [
                number
                for number, row in zip(front, front.points.tolist(), strict=True)
                if number in self._trials and all(one <= other for one, other in zip(row, point, strict=False))
            ]
            if not cheaper:
                return []
            best = max(cheaper, key=lambda number: (self._trials[number][0], -number))
            found[best] = base64.b64decode(self._trials[best][1])
        return list(found.values())

    def volumes(self, largest: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
        """Return the hypervolume of each device's front, below the largest reachable costs and above no accuracy."""
        return {
            name: front.hypervolume([*(largest[name][cost] * REFERENCE_MARGIN for cost in self._costs), 0.0])
            for name, front in self._fronts.items()
            if largest.get(name)
        }

    def _point(self, costs: DeviceCosts) -> tuple[float, ...]:
        return tuple(float(getattr(costs, name)) for name in self._costs)
