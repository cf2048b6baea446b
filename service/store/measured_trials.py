"""The figures of a job's measured trials, thousands at a time."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json  # takes half the time of the standard library's
from sqlalchemy import Connection, Text, cast, select

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
    """The measured trials of a job, read at once.

    Args:
        connection: To read with.
        job_id: The job.
        plans: Whether their plans are wanted, which are most of what there is to read.
    """

    def __init__(self, connection: Connection, job_id: str, *, plans: bool) -> None:
        evaluation = trials.c.evaluation
        columns = [trials.c.number, trials.c.label, trials.c.verified, cast(evaluation, Text)]
        query = select(*columns, *([cast(trials.c.plan, Text)] if plans else []))
        measured = evaluation["accuracy"].as_float().is_not(None)
        query = query.where(trials.c.job_id == job_id, trials.c.status == TrialStatus.DONE, measured)
        self._rows = connection.execute(query.order_by(trials.c.number)).all()
        self.plans: list[str] = [row[-1] for row in self._rows] if plans else []
        """By number, as JSON texts."""

    def __len__(self) -> int:
        return len(self._rows)

    def figures(self) -> list[TrialFigures]:
        """Return the trials' figures, by number."""
        return [self._figures(*row[:4]) for row in self._rows]

    @staticmethod
    def _figures(number: int, label: str, verified: bool, evaluation: str) -> TrialFigures:
        row = from_json(evaluation)
        return TrialFigures(
            number=number,
            label=label,
            accuracy=row["accuracy"],
            packed_bytes=row["packed_bytes"],
            costs=row["costs"],
            verified=verified,
        )
