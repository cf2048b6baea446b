"""The figures of a job's measured trials, without what takes long to read."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from service.store.tables import trials
from workers.events import TrialStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialFigures:
    """What was measured of a trial; ``costs`` as stored, by device."""

    number: int
    label: str
    accuracy: float
    packed_bytes: int
    costs: Mapping[str, Mapping[str, Any]]
    verified: bool


class MeasuredTrials:
    """The trials of all jobs whose accuracy is known."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def figures(self, job_id: str) -> list[TrialFigures]:
        """Return the figures of a job's measured trials, by number."""
        columns = (trials.c.number, trials.c.label, trials.c.evaluation, trials.c.verified)
        query = select(*columns).where(trials.c.job_id == job_id, trials.c.status == TrialStatus.DONE)
        return [
            TrialFigures(
                number=number,
                label=label,
                accuracy=evaluation["accuracy"],
                packed_bytes=evaluation["packed_bytes"],
                costs=evaluation["costs"],
                verified=verified,
            )
            for number, label, evaluation, verified in self._connection.execute(query.order_by(trials.c.number))
            if evaluation is not None and evaluation["accuracy"] is not None
        ]

    def plans(self, job_id: str, numbers: Collection[int]) -> dict[int, Mapping[str, Any]]:
        """Return the plans of a job's trials with these numbers."""
        wanted = set(numbers)
        query = select(trials.c.number, trials.c.plan).where(
            trials.c.job_id == job_id, trials.c.status == TrialStatus.DONE
        )
        return {number: plan for number, plan in self._connection.execute(query) if number in wanted}
